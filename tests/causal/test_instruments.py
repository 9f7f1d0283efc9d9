"""Instruments: against statsmodels, regressions over a grid, published critical values, and known effects."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy.stats import f as fisher
from statsmodels.sandbox.regression.gmm import IV2SLS, LinearIVGMM

from contrastkit.causal.columns import Columns
from contrastkit.causal.form import Form
from contrastkit.causal.instrumental import InstrumentalEffect, instrumental_effect
from contrastkit.causal.instruments.anderson_rubin import anderson_rubin
from contrastkit.causal.instruments.sample import Sample
from contrastkit.causal.instruments.strength import critical_value, first_stage
from contrastkit.causal.instruments.two_stage import endogeneity, least_squares, overidentification, two_stage
from contrastkit.cli.main import main
from contrastkit.errors import UserError
from contrastkit.tables.covariates import Covariates
from tests.schemas import read_report


def world(n: int = 300, k: int = 2, strength: float = 1.0, seed: int = 0) -> pd.DataFrame:
    """A hidden u confounds d and y; the effect is 2; errors are heteroskedastic."""
    g = np.random.default_rng(seed)
    z, w, u = g.normal(size=(n, k)), g.normal(size=n), g.normal(size=n)
    d = strength * z @ np.arange(1, k + 1) + w + u + g.normal(size=n)
    y = 2 * d + w - 3 * u + g.normal(size=n) * np.exp(0.5 * z[:, 0])
    columns = {f"z{j}": z[:, j] for j in range(k)}
    return pd.DataFrame(columns | {"w": w, "d": d, "y": y, "site": np.arange(n) // 5})


def sample_of(frame: pd.DataFrame, covariates: bool = True, clusters: bool = False) -> Sample:
    Z = Covariates.of(frame[[name for name in frame if str(name).startswith("z")]])
    W = Covariates.of(frame[["w"]]) if covariates else None
    groups = frame.site.to_numpy() if clusters else None
    return Sample.of(frame.y.to_numpy(), frame.d.to_numpy(), Z, W, groups)


def arrays(frame: pd.DataFrame) -> tuple[Any, Any, Any, Any]:
    """y, d, the instruments, and ones with the covariate."""
    z = frame[[name for name in frame if str(name).startswith("z")]].to_numpy()
    return frame.y.to_numpy(), frame.d.to_numpy(), z, sm.add_constant(frame[["w"]].to_numpy())


def sandwich(A: Any, u: Any, k: int, groups: Any = None) -> Any:
    """(A'A)^-1 sum a a' u^2 (A'A)^-1, row by row: HC1, or of clusters."""
    bread, n = np.linalg.inv(A.T @ A), len(u)
    labels = range(n) if groups is None else groups
    sums: dict[Any, Any] = {}
    for i, label in enumerate(labels):
        sums[label] = sums.get(label, 0) + A[i] * u[i]
    meat = sum(np.outer(s, s) for s in sums.values())
    return bread @ meat @ bread * (n / (n - k) if groups is None else len(sums) / (len(sums) - 1))


# ---------------------------------------- estimates


@pytest.mark.parametrize("clusters", [False, True])
def test_two_stage_least_squares_are_statsmodels_with_a_sandwich(clusters: bool) -> None:
    frame = world()
    y, d, z, W = arrays(frame)
    expected = IV2SLS(y, np.column_stack([d, W]), np.column_stack([z, W])).fit()
    A = np.column_stack([z, W])
    projected = np.column_stack([A @ np.linalg.lstsq(A, d, rcond=None)[0], W])
    groups = frame.site.to_numpy() if clusters else None
    V = sandwich(projected, y - np.column_stack([d, W]) @ expected.params, 3, groups)
    result = two_stage(sample_of(frame, clusters=clusters))
    assert (result.effect, result.se) == pytest.approx((expected.params[0], np.sqrt(V[0, 0])))
    assert result.effect == pytest.approx(2, abs=4 * result.se)


def test_it_is_what_linearmodels_computes() -> None:
    """To the last digit, with its sandwich, also over-identified and for clusters."""
    iv = pytest.importorskip("linearmodels.iv")
    frame = world(k=3)
    y, d, z, W = arrays(frame)
    model, sample = iv.IV2SLS(y, W, d, z), sample_of(frame)
    for clusters, how in ((False, {"cov_type": "robust"}), (True, {"cov_type": "clustered", "clusters": frame.site})):
        fit, found = model.fit(**how, debiased=not clusters), two_stage(sample_of(frame, clusters=clusters))
        se = fit.std_errors["endog"] * (np.sqrt(60 / 59) if clusters else 1)  # its clusters are not made up for
        assert (found.effect, found.se) == pytest.approx((fit.params["endog"], se), rel=1e-9)
    jtest = iv.IVGMM(y, W, d, z, center=False).fit(iter_limit=2).j_stat
    result = overidentification(sample)
    assert (result.j, result.p, result.df) == pytest.approx((jtest.stat, jtest.pval, jtest.df), rel=1e-6)
    assert result.sargan == pytest.approx(model.fit().sargan.stat, rel=1e-9)


def test_least_squares_are_statsmodels_and_biased() -> None:
    frame = world()
    y, d, _, W = arrays(frame)
    expected = sm.OLS(y, np.column_stack([d, W])).fit(cov_type="HC1", use_t=True)
    result = least_squares(sample_of(frame))
    assert (result.effect, result.se, result.p) == pytest.approx(
        (expected.params[0], expected.bse[0], expected.pvalues[0])
    )
    assert (result.low, result.high) == pytest.approx(tuple(expected.conf_int()[0])) and result.high < 2


def test_the_wald_estimate_of_one_binary_instrument() -> None:
    """The difference of the outcome's means over that of the treatment's."""
    g = np.random.default_rng(0)
    frame = pd.DataFrame({"z": g.integers(0, 2, size=500)})
    kind = g.choice(["always", "never", "complier"], p=[0.2, 0.3, 0.5], size=500)
    frame["d"] = (kind == "always") | ((kind == "complier") & (frame.z == 1))
    frame["y"] = np.where(kind == "complier", 3, -1) * frame.d + (kind == "always") + g.normal(size=500)
    found = instrumental_effect(Columns(frame, "x"), treatment="d", outcome="y", instruments=["z"])
    means = frame.groupby("z")[["d", "y"]].mean()
    assert found.two_stage.effect == pytest.approx((means.y[1] - means.y[0]) / (means.d[1] - means.d[0]))
    assert found.compliers == pytest.approx(means.d[1] - means.d[0])
    assert abs(found.two_stage.effect - 3) < 4 * found.two_stage.se < 1.2
    assert found.overidentification is None


def test_intervals_cover_the_effect() -> None:
    inside = []
    for seed in range(200):
        sample = sample_of(world(150, seed=seed))
        value, robust = two_stage(sample), anderson_rubin(sample)
        inside.append((value.low < 2 < value.high, any(low < 2 < high for low, high in robust)))
    shares = np.mean(inside, axis=0)
    assert (shares > 0.9).all() and (shares < 0.99).all()


# ---------------------------------------- the first stage


@pytest.mark.parametrize("clusters", [False, True])
def test_the_first_stage(clusters: bool) -> None:
    frame = world(strength=0.1)
    _, d, z, W = arrays(frame)
    A = np.column_stack([z, W])
    fit = sm.OLS(d, A).fit()
    V = sandwich(A, fit.resid, 4, frame.site.to_numpy() if clusters else None)[:2, :2]
    result = first_stage(sample_of(frame, clusters=clusters))
    pi = fit.params[:2]
    assert result.f.f == pytest.approx(pi @ np.linalg.inv(V) @ pi / 2)
    left = z - W @ np.linalg.lstsq(W, z, rcond=None)[0]
    Q = left.T @ left  # effective F = pi' Q pi / trace(V Q) (Montiel Olea & Pflueger 2013)
    assert result.effective_f == pytest.approx(pi @ Q @ pi / np.trace(V @ Q))
    without = sm.OLS(d, W).fit()
    assert result.partial_r2 == pytest.approx(1 - fit.ssr / without.ssr)
    if not clusters:
        robust = sm.OLS(d, A).fit(cov_type="HC1", use_t=True).f_test(np.eye(4)[:2])
        assert (result.f.f, result.f.p) == pytest.approx((float(robust.fvalue), float(robust.pvalue)))


def test_with_one_instrument_the_effective_f_is_the_robust_one() -> None:
    result = first_stage(sample_of(world(k=1)))
    assert result.effective_f == pytest.approx(result.f.f)


@pytest.mark.parametrize(("bias", "published"), [(0.05, 37.418), (0.1, 23.109), (0.2, 15.062), (0.3, 12.039)])
def test_critical_values_of_one_instrument_are_the_published_ones(bias: float, published: float) -> None:
    """Those that the Stata command weakivtest of Pflueger & Wang (2015) shows."""
    assert critical_value(np.array([[3.0]]), bias) == pytest.approx(published, abs=0.01)


def test_critical_values_of_several_instruments_lie_below() -> None:
    assert 10 < critical_value(np.eye(5)) < critical_value(np.eye(2)) < 23.11
    assert critical_value(np.diag([1.0, 1e-9])) == pytest.approx(23.109, abs=1e-3)


# ---------------------------------------- Anderson and Rubin


def by_grid(frame: pd.DataFrame, at: Any) -> Any:
    """Whether statsmodels accepts each effect: the robust F test of the instruments in the regression of y - b d."""
    y, d, z, W = arrays(frame)
    A, k = np.column_stack([z, W]), z.shape[1]
    accepted = []
    for b in at:
        fit = sm.OLS(y - b * d, A).fit(cov_type="HC1", use_t=True)
        accepted.append(float(fit.f_test(np.eye(A.shape[1])[:k]).fvalue) <= fisher.ppf(0.95, k, len(y) - A.shape[1]))
    return np.array(accepted)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("strength", [0.0, 0.05, 0.15, 1.0])
def test_the_set_is_what_regressions_over_a_grid_accept(k: int, strength: float) -> None:
    at = np.r_[-1e6, np.linspace(-40, 40, 161), 1e6]
    for seed in range(3):
        frame = world(100, k, strength, seed)
        found = anderson_rubin(sample_of(frame))
        assert (np.array([any(low <= b <= high for low, high in found) for b in at]) == by_grid(frame, at)).all()


def test_a_strong_instruments_set_ends_where_the_test_does() -> None:
    frame = world(200, 2)
    ((low, high),) = anderson_rubin(sample_of(frame))
    inside = by_grid(frame, [low - 1e-6, low + 1e-6, high - 1e-6, high + 1e-6])
    assert inside.tolist() == [False, True, True, False]
    scaled = anderson_rubin(sample_of(frame.assign(y=1e9 * frame.y, d=1e-3 * frame.d)))
    assert scaled[0] == pytest.approx((1e12 * low, 1e12 * high))


def test_sets_are_bounded_unbounded_all_or_empty() -> None:
    def kind(frame: pd.DataFrame, *instruments: str) -> str:
        columns = Columns(frame, "x")
        return instrumental_effect(columns, treatment="d", outcome="y", instruments=instruments).kind

    frame = world(400)
    assert kind(frame, "z0", "z1") == "bounded"
    assert kind(frame.assign(z2=np.random.default_rng(5).normal(size=400)), "z2") == "all"
    assert kind(frame.assign(y=frame.y + 9 * frame.z0), "z0", "z1") == "empty"
    g = np.random.default_rng(1)
    weak = frame.assign(z2=g.normal(size=400))
    weak["y"] = weak.y + 9 * weak.z2  # moves the outcome, hardly the treatment
    assert kind(weak, "z2") == "unbounded"


def test_with_clusters_the_set_is_that_of_their_sandwich() -> None:
    frame = world(200, 1, 0.3)
    y, d, z, W = arrays(frame)
    A, groups = np.column_stack([z, W]), frame.site.to_numpy()
    ((low, high),) = anderson_rubin(sample_of(frame, clusters=True))
    for b, expected in ((low - 1e-5, 1), (low + 1e-5, -1), (high - 1e-5, -1), (high + 1e-5, 1)):
        fit = sm.OLS(y - b * d, A).fit()
        statistic = fit.params[0] ** 2 / sandwich(A, fit.resid, 3, groups)[0, 0]
        assert np.sign(statistic - fisher.ppf(0.95, 1, 39)) == expected


# ---------------------------------------- tests of assumptions


def test_endogeneity_is_tested_by_the_first_stages_residual() -> None:
    frame = world()
    y, d, z, W = arrays(frame)
    v = sm.OLS(d, np.column_stack([z, W])).fit().resid
    expected = sm.OLS(y, np.column_stack([v, d, W])).fit(cov_type="HC1", use_t=True)
    result = endogeneity(sample_of(frame))
    assert (result.f, result.p) == pytest.approx((expected.tvalues[0] ** 2, expected.pvalues[0]))
    assert result.p < 1e-6
    g = np.random.default_rng(0)
    exogenous = frame.assign(y=frame.d + g.normal(size=300))
    assert endogeneity(sample_of(exogenous)).p > 0.01


def test_overidentification_is_hansens_and_sargans() -> None:
    frame = world(k=3)
    y, d, z, W = arrays(frame)
    A, B = np.column_stack([z, W]), np.column_stack([d, W])
    first = IV2SLS(y, B, A).fit()
    u = y - B @ first.params
    gmm = LinearIVGMM(y, B, A).fit(
        inv_weights=(A * u[:, None]).T @ (A * u[:, None]) / len(y), maxiter=1, optim_args={"disp": 0}
    )
    result = overidentification(sample_of(frame))
    assert (result.j, result.p, result.df) == pytest.approx((gmm.jtest()[0], gmm.jtest()[1], 2), rel=1e-4)
    assert result.sargan == pytest.approx(len(y) * uncentred(u, A))
    assert result.p > 0.01
    invalid = overidentification(sample_of(frame.assign(y=frame.y + 2 * frame.z0)))
    assert invalid.p < 1e-4 and invalid.sargan_p < 1e-6
    assert overidentification(sample_of(world(k=1))) is None


def uncentred(u: Any, A: Any) -> float:
    return 1 - sm.OLS(u, A).fit().ssr / float(u @ u)


# ---------------------------------------- columns, graphs, refusals


def find(frame: pd.DataFrame, **how: Any) -> InstrumentalEffect:
    return instrumental_effect(Columns(frame, "x.csv"), **({"treatment": "d", "outcome": "y"} | how))


def test_a_factor_is_several_instruments() -> None:
    g = np.random.default_rng(0)
    frame = world(400)
    frame["letter"] = g.choice(list("abc"), size=400)
    frame["d"] += 2 * (frame.letter == "b")
    dummies = frame.assign(b=(frame.letter == "b") * 1.0, c=(frame.letter == "c") * 1.0)
    one, other = find(frame, instruments=["letter"]), find(dummies, instruments=["b", "c"])
    assert one.two_stage.effect == pytest.approx(other.two_stage.effect)
    assert one.first_stage.f.df == (2, 397) and one.overidentification.df == 1


def worded(n: int = 400) -> pd.DataFrame:
    """Treatment and outcome of 0 and 1, and in words; a covariate that is a code, and columns with gaps."""
    frame, g = world(n), np.random.default_rng(1)
    frame = frame.assign(d=(frame.d > 0) * 1, y=(frame.y > 0) * 1, code=np.arange(n) % 3, gap=frame.w, hole=frame.z0)
    for name in ("gap", "hole"):
        frame.loc[g.integers(n, size=20), name] = np.nan
    return frame.assign(drug=np.where(frame.d, "yes", "no"), cured=np.where(frame.y, "yes", "no"))


@pytest.mark.parametrize(
    ("how", "same"),
    [
        ({"treatment": "drug", "treated": "yes"}, lambda frame: {}),
        ({"outcome": "cured", "outcome_value": "yes"}, lambda frame: {}),
        (
            {"treatment": "code", "treated": "2", "untreated": "0"},
            lambda frame: {"frame": frame[frame.code != 1].assign(code=lambda f: f.code // 2), "treatment": "code"},
        ),
        (
            {"covariates": ["gap"], "form": Form(incomplete="drop"), "instruments": ["hole"]},
            lambda frame: {"frame": frame.dropna(), "covariates": ["gap"], "instruments": ["hole"]},
        ),
        (
            {"covariates": ["gap"], "form": Form(incomplete="indicator")},
            lambda frame: {
                "frame": frame.assign(gap=frame.gap.fillna(7), lacks=frame.gap.isna() * 1),
                "covariates": ["gap", "lacks"],
            },
        ),
        (
            {"covariates": ["code"], "form": Form(categorical=["code"])},
            lambda frame: {"frame": frame.assign(c1=frame.code == 1, c2=frame.code == 2), "covariates": ["c1", "c2"]},
        ),
        (
            {"covariates": ["w"], "form": Form(moments=2)},
            lambda frame: {"frame": frame.assign(ww=frame.w**2), "covariates": ["w", "ww"]},
        ),
        (
            {"form": Form(formula="w + w:code")},
            lambda frame: {"frame": frame.assign(wc=frame.w * frame.code), "covariates": ["w", "wc"]},
        ),
    ],
    ids=["treated", "outcome", "untreated", "drop", "indicator", "categorical", "moments", "formula"],
)  # fmt: skip
def test_values_and_the_form_of_covariates_are_columns_of_ones_own(how: dict[str, Any], same: Any) -> None:
    frame = worded()
    other = {"frame": frame, "instruments": ["z1"]} | same(frame)
    found, expected = find(frame, **({"instruments": ["z1"]} | how)), find(other.pop("frame"), **other)
    assert found.n == expected.n
    assert (found.two_stage.effect, found.two_stage.se) == pytest.approx(
        (expected.two_stage.effect, expected.two_stage.se)
    )
    assert bool(found.notices) == (how.get("untreated") is not None or "gap" in how.get("covariates", ()))


def test_instruments_of_a_graph() -> None:
    frame = world(300)
    graph = "z0 -> d; z1 -> d; z1 <- w -> d; w -> y; d -> y; d <-> y"
    assert find(frame, graph=graph).instruments == ("z0",)
    assert find(frame, graph=graph, covariates=["w"]).instruments == ("z0", "z1")
    assert (
        find(frame, graph="dag {d [exposure] y [outcome] z0 -> d -> y d <-> y}", treatment=None, outcome=None).n == 300
    )
    for how, says in (
        ({"graph": graph, "instruments": ["z1"]}, "z1: no instrument according to the graph: leave it out"),
        ({"graph": "w -> d -> y; w -> y"}, "the graph has no instrument among the columns: name --covariates"),
        ({"graph": graph, "instruments": ["z2"]}, "the graph has no 'z2'"),
        ({"graph": graph, "covariates": ["q"]}, "the graph has no 'q'"),
        ({"graph": graph.replace("y", "q")}, "the graph has no 'y'"),
    ):
        with pytest.raises(UserError, match=says):
            find(frame, **how)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({}, "no instruments: name their columns"),
        ({"treatment": None, "instruments": ["z0"]}, "no treatment: name the column with --treatment"),
        ({"outcome": None, "instruments": ["z0"]}, "no outcome: name the column with --outcome"),
        ({"instruments": ["q"]}, "x.csv has no column 'q'"),
        ({"instruments": ["d"]}, "'d' is used twice"),
        ({"instruments": ["z0"], "covariates": ["z0"]}, "'z0' is used twice"),
        ({"instruments": ["copy"], "covariates": ["w"]}, "copy is equivalent to w"),
        ({"instruments": ["same"]}, "same is the same in all rows"),
        ({"instruments": ["z0"], "treatment": "word"}, r"word .* \(a\): name the one that counts as treated with --t"),
        ({"instruments": ["z0"], "outcome": "same"}, "same is the same in all rows"),
        ({"instruments": ["shadow"]}, "the instruments determine the treatment: leave out"),
        ({"instruments": ["z0"], "outcome": "twice"}, "the instruments determine the outcome: leave out"),
        ({"instruments": ["z0"], "outcome": "shadow"}, "the treatment determines the outcome: there is nothing"),
        ({"instruments": ["z0", "z1"], "cluster": "half"}, "2 clusters for 2 instruments: too few"),
        ({"instruments": ["z0"], "covariates": ["shadow"]}, "the covariates determine the treatment"),
        ({"instruments": ["gap"]}, "gap: 1 of 60 values are missing: drop or fill them .--incomplete drop or --rows"),
        ({"instruments": ["gap"], "form": Form(incomplete="indicator")}, "gap: 1 of 60 values are missing"),
        ({"instruments": ["void"], "form": Form(incomplete="drop")}, "60 of 60 rows lack a value .* which are all"),
        ({"instruments": ["z0"], "form": Form(moments=2)}, "--moments and --interactions are of covariates"),
        ({"instruments": ["z0"], "form": Form(categorical=["w"])}, "--categorical w is no column among the covariates"),
        ({"instruments": ["z0"], "treatment": "site", "treated": "2"}, "site has 12 values .*--untreated"),
        ({"instruments": ["z0"], "outcome": "word"}, r"word .*numbers \(a\): name the one that counts as 1 with --out"),
        ({"instruments": ["z0"], "cluster": "same"}, "all units are in one cluster"),
    ],
)  # fmt: skip
def test_what_cannot_be_estimated_is_refused(how: dict[str, Any], says: str) -> None:
    frame = world(60)
    frame = frame.assign(twice=2 * frame.z0, half=np.arange(60) % 2)
    frame = frame.assign(same=1.0, copy=2 * frame.w, word="a", void=np.nan, shadow=3 * frame.d + 1, gap=frame.z0)
    frame.loc[0, "gap"] = np.nan
    with pytest.raises(UserError, match=says) as error:
        find(frame, **how)
    assert "\n" not in str(error.value)


def test_few_rows_and_few_clusters() -> None:
    few = overidentification(sample_of(world(60).assign(site=np.arange(60) // 20), clusters=True))
    assert few is None  # three clusters, four moments
    with pytest.raises(UserError, match="4 rows for 2 instruments and 1 other coefficients: too few"):
        find(world(4), instruments=["z0", "z1"])
    frame = world(60).assign(site=np.arange(60) // 20)
    remarks = find(frame, instruments=["z0"], cluster="site").remarks
    assert any("only 3 clusters" in remark for remark in remarks)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, report = tmp_path / "t.csv", tmp_path / "r.json"
    world(300).to_csv(data, index=False)
    given = ["causal", "iv", f"--data={data}", "--treatment=d", "--outcome=y", f"--json={report}"]
    assert main([*given, "--instruments=z0,z1", "--covariates=w"]) == 0
    printed, found = capsys.readouterr().out, read_report("causal-iv", report)
    assert "Hansen's J(1)" in printed and "weak instruments" not in printed
    assert found["anderson_rubin"]["kind"] == "bounded" and not found["first_stage"]["weak"]
    g = np.random.default_rng(5)
    world(300).assign(q=g.normal(size=300)).to_csv(data, index=False)
    assert main([*given, "--instruments=q"]) == 0
    printed, found = capsys.readouterr().out, read_report("causal-iv", report)
    assert "all numbers: the instruments tell nothing" in printed and "remark: weak instruments" in printed
    assert found["anderson_rubin"] == {"kind": "all", "intervals": [[None, None]]}
    assert not math.isnan(found["two_stage"]["effect"])
