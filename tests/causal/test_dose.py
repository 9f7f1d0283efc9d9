"""Continuous treatments: weights by general optimisers on what is written in the papers, curves by known truth."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy.interpolate import CubicSpline
from scipy.optimize import minimize, root
from scipy.stats import norm

from contrastkit.causal.dose import curve_knots, dose_response, regression_curve, spline
from contrastkit.causal.estimate.resampling import drawn_rows
from contrastkit.causal.study import Units
from contrastkit.causal.weighting import ContinuousCovariateBalancing, ContinuousEntropyBalancing, NormalDensity
from contrastkit.causal.weighting.continuous import weighted_correlations
from contrastkit.cli.main import main
from contrastkit.errors import UserError
from contrastkit.tables.covariates import Covariates
from tests.schemas import read_report


def doses(n: int, seed: int = 0) -> tuple[Any, Any, Any]:
    """Confounded by both columns; the mean outcome at dose d is d + 0.3 d^2."""
    g = np.random.default_rng(seed)
    x = g.normal(size=(n, 2))
    t = x @ [0.5, 0.3] + g.normal(size=n)
    return x, t, t + 0.3 * t**2 + x @ [2, 1] + g.normal(size=n)


def units(x: Any, t: Any, y: Any, **columns: Any) -> Units:
    frame = pd.DataFrame({"dose": t, "y": y, **columns})
    return Units(
        X=Covariates.of(x), Y=frame.y.to_numpy(), treatment="dose", outcome="y", covariates={}, frame=frame, source="t"
    )  # fmt: skip


def test_normal_weights_are_ratios_of_densities() -> None:
    x, t, _ = doses(200)
    fit = sm.OLS(t, sm.add_constant(x)).fit()
    given = norm(fit.fittedvalues, np.sqrt((fit.resid**2).mean())).pdf(t)
    w = norm(t.mean(), t.std()).pdf(t) / given
    assert NormalDensity().fit(x, t).weights_ == pytest.approx(w / w.mean())


@pytest.mark.parametrize("functions", [None, lambda t: np.column_stack([t, np.maximum(t, 0)])])
def test_entropy_balancing_is_the_optimum_of_the_primal(functions: Any) -> None:
    x, t, _ = doses(40)
    x = x[:, :1]
    w = ContinuousEntropyBalancing(functions=functions).fit(x, t).weights_
    z, d, up = ((v - v.mean()) / v.std() for v in (x[:, 0], t, np.maximum(t, 0)))
    rows = [np.ones(40), z, d, d**2 - 1, z * d, *([up, z * up] if functions else [])]
    solved = minimize(
        lambda v: float((v * np.log(v)).sum()), np.ones(40), jac=lambda v: np.log(v) + 1, method="SLSQP",
        bounds=[(1e-9, None)] * 40, options={"ftol": 1e-14, "maxiter": 1000},
        constraints={"type": "eq", "fun": lambda v: np.array(rows) @ v / 40 - np.eye(len(rows))[0]},
    )  # fmt: skip
    assert w == pytest.approx(solved.x, abs=1e-4)
    assert [(w * values).mean() for values in (z, d, d**2)] == pytest.approx([0, 0, 1], abs=1e-7)
    assert weighted_correlations(x, t, w) == pytest.approx([0], abs=1e-7)
    other = weighted_correlations(x, np.maximum(t, 0), w)[0]
    assert abs(other) < 1e-7 if functions else abs(other) > 1e-3


@pytest.mark.parametrize("df", [1, 3])
def test_entropy_balancing_frees_the_curve_of_what_is_linear_in_the_covariates(df: int) -> None:
    """To the last digit: adding to Y what is linear in X of mean 0 moves no point of the curve, in any sample."""
    x, t, y = doses(200)
    z, at, knots = x - x.mean(0), np.array([-1.0, 0.0, 1.0]), curve_knots(t, df)
    w = dose_response(units(x, t, y), df=df, draws=50).weights
    one, other = (regression_curve(np.zeros((200, 0)), t, v, w, at, knots) for v in (y, y + z @ [20, -30]))
    assert one == pytest.approx(other, abs=1e-5)


def test_covariate_balancing_solves_the_equations_of_the_paper() -> None:
    x, t, _ = doses(150, seed=2)
    white = (x - x.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T, bias=True)).T)
    A, d = sm.add_constant(white), (t - t.mean()) / t.std()

    def weights(theta: Any) -> Any:
        return norm(0, 1).pdf(d) / norm(A @ theta[:3], np.exp(theta[3])).pdf(d)

    def equations(theta: Any) -> Any:
        spread = ((d - A @ theta[:3]) ** 2 / np.exp(2 * theta[3])).mean() - 1
        return [*(A.T @ (weights(theta) * d) / 150), spread]

    start = np.append(np.linalg.lstsq(A, d, rcond=None)[0], -0.1)
    ends = [root(equations, start + [c, 0, 0, 0], method="lm", tol=1e-13).x for c in (-0.3, -0.1, 0.1, 0.3)]
    solved = [weights(end) / weights(end).mean() for end in ends if np.abs(equations(end)).max() < 1e-9]
    fitted = ContinuousCovariateBalancing().fit(x, t)
    w = fitted.weights_
    assert fitted.remarks_ == [] and solved
    assert any(np.allclose(w, each, rtol=1e-4) for each in solved)
    assert weighted_correlations(x, t, w) == pytest.approx([0, 0], abs=1e-6)


def test_what_has_no_solution_is_as_near_as_can_be_and_that_is_said() -> None:
    left = []
    for seed in range(7):
        x, t, _ = doses(150, seed)
        fitted = ContinuousCovariateBalancing().fit(x, t)
        worst = np.abs(weighted_correlations(x, t, fitted.weights_)).max()
        assert (worst < 2e-6) == (fitted.remarks_ == [])
        left += [] if worst < 2e-6 else [(worst, fitted.remarks_[0])]
    assert 0 < len(left) < 4 and all(worst < 0.1 and "a correlation of 0." in remark for worst, remark in left)
    x, t, _ = doses(150, 7)
    with pytest.raises(UserError, match="no normal model .*: a correlation of 0.12 is left; use --by entropy"):
        ContinuousCovariateBalancing().fit(x, t)


def test_correlations_are_those_of_repeated_rows() -> None:
    x, t, _ = doses(60)
    s = np.arange(60) % 4 + 1
    rows = np.repeat(np.arange(60), s)
    expected = [np.corrcoef(x[rows, j], t[rows])[0, 1] for j in range(2)]
    assert weighted_correlations(x, t, s.astype(float)) == pytest.approx(expected)


def test_the_basis_is_that_of_natural_cubic_splines() -> None:
    """Of which there is one through any values at the knots: scipy's; beyond the knots it is a line."""
    knots = np.array([0.0, 1, 2.5, 4])
    inner, values = np.linspace(0, 4, 50), np.array([1.0, -1, 2, 0])
    beta = np.linalg.solve(spline(knots, knots), values)
    assert spline(inner, knots) @ beta == pytest.approx(CubicSpline(knots, values, bc_type="natural")(inner))
    for beyond in (np.linspace(-5, 0, 9), np.linspace(4, 9, 9)):
        assert np.diff(spline(beyond, knots) @ beta, 2) == pytest.approx(np.zeros(7), abs=1e-9)


def test_a_line_is_that_of_weighted_least_squares_at_the_means_of_the_covariates() -> None:
    x, t, y = doses(100)
    w = NormalDensity().fit(x, t).weights_
    at = np.array([-1.0, 0, 2])
    fit = sm.WLS(y, np.column_stack([np.ones(100), t, x]), weights=w).fit()
    expected = fit.predict(np.column_stack([np.ones(3), at, np.tile(x.mean(0), (3, 1))]))
    assert regression_curve(x, t, y, w, at, curve_knots(t, 1)) == pytest.approx(expected)


def test_correlations_that_weights_leave_are_said_and_what_is_linear_in_them_is_adjusted_for() -> None:
    x, t, _ = doses(100)
    t = 3 * x[:, 0] + t
    found = dose_response(units(x, t, 2 * t + x @ [20, -30]), "gps", df=1, at=(-1.0, 1.0), draws=50)
    said = [remark for remark in found.remarks if "the weights leave a correlation of " in remark]
    assert len(said) == 1 and " between dose and x0, above 0.1" in said[0]
    assert found.curve[1].effect == pytest.approx(4) and found.curve[0].mean == pytest.approx(
        -2 + x.mean(0) @ [20, -30]
    )


@pytest.mark.parametrize("by", ["gps", "entropy", "cbgps"])
def test_the_truth_of_a_large_study(by: Any) -> None:
    x, t, y = doses(4000)
    found = dose_response(units(x, t, y), by, df=4, draws=50)
    alone, ones, at = np.zeros((4000, 0)), np.ones(4000), np.array([point.dose for point in found.curve])
    naive = regression_curve(alone, t, y, ones, at, curve_knots(t, 4))
    truth = np.array([point.dose + 0.3 * point.dose**2 for point in found.curve])
    curve, se = (np.array([getattr(point, name) for point in found.curve]) for name in ("mean", "se"))
    assert (np.abs(curve - truth) < 4.5 * se + 0.02).all()
    assert np.abs(naive - truth).max() > 5 * np.abs(curve - truth).max()
    assert found.worst[0] > 0.3 and found.worst[1] < (0.1 if by == "gps" else 1e-5)


def test_the_band_of_a_random_dose_is_that_of_the_regression() -> None:
    """The weights then add nothing but noise: with one covariate that has no part in the outcome, errors are HC's."""
    g = np.random.default_rng(1)
    x, t = g.normal(size=(500, 1)), g.uniform(size=500)
    y = 2 * t + (0.5 + t) * g.normal(size=500)
    found = dose_response(units(x, t, y), df=1, at=(0.2, 0.5, 0.9), draws=400)
    fit = sm.OLS(y, sm.add_constant(t)).fit(cov_type="HC3")
    cov = fit.cov_params()
    for point in found.curve:
        a = np.array([1, point.dose])
        assert point.se == pytest.approx(np.sqrt(a @ cov @ a), rel=0.15)
        assert point.effect == pytest.approx(found.curve[0].mean * -1 + point.mean)
        step = point.dose - 0.2
        assert (point.effect_high - point.effect) == pytest.approx(1.965 * step * fit.bse[1], rel=0.15, abs=1e-9)


def test_the_band_knows_that_weights_are_estimated() -> None:
    """Each sample of the bootstrap has weights of its own, and errors that take them as fixed are too wide."""
    x, t, y = doses(300)
    y = y + 6 * x[:, 0]
    at = np.array([-0.5, 0.5])
    found = dose_response(units(x, t, y), "gps", df=1, at=tuple(at), draws=50)
    means = []
    for rows in drawn_rows(300, None, 50, 0):
        xs, ts, ys = x[rows], t[rows], y[rows]
        fit = sm.WLS(ys, np.column_stack([np.ones(300), ts, xs]), NormalDensity().fit(xs, ts).weights_).fit()
        means.append(fit.predict(np.column_stack([np.ones(2), at, np.tile(xs.mean(0), (2, 1))])))
    assert [point.se for point in found.curve] == pytest.approx(np.std(means, 0, ddof=1))
    fixed = sm.WLS(y, sm.add_constant(t), weights=found.weights).fit(cov_type="HC1")
    assert (found.curve[1].effect_high - found.curve[1].effect) / 1.965 < 0.7 * fixed.bse[1]


def test_clusters_are_drawn_as_a_whole() -> None:
    x, t, y = doses(150)
    rows = np.repeat(np.arange(150), 3)
    once = dose_response(units(x, t, y), at=(0.0, 1.0), df=1, draws=100)
    copied = units(x[rows], t[rows], y[rows], unit=rows)
    ignored, known = (dose_response(copied, at=(0.0, 1.0), df=1, draws=100, cluster=name) for name in (None, "unit"))
    for one, alone, together in zip(once.curve, ignored.curve, known.curve, strict=True):
        assert together.mean == pytest.approx(one.mean) and together.se == pytest.approx(one.se, rel=0.25)
        assert alone.se < 0.75 * together.se


def test_what_cannot_be_a_curve_is_refused() -> None:
    x, t, y = doses(100)
    with pytest.raises(UserError, match="3 different values, too few for a curve: compare them by 'contrastkit caus"):
        dose_response(units(x, np.arange(100) % 3, y))
    words: Any = np.array(["new", "old"] * 50)
    with pytest.raises(UserError, match=r"has words \(new, old\), not amounts: compare .* causal arms', or recode"):
        dose_response(units(x, words, y))
    words = np.array(["1", "2x"] * 50)
    with pytest.raises(UserError, match="'2x' is not a number, but others are"):
        dose_response(units(x, words, y))
    with pytest.raises(UserError, match="the covariates determine the treatment"):
        dose_response(units(x, x[:, 0], y), "gps")
    with pytest.raises(UserError, match="no weights balance these covariates: .* off.*, or lower --df"):
        dose_response(units(x, 9 * x[:, 0] + 0.1 * t, y))
    with pytest.raises(UserError, match="of 50 bootstrap samples have no weights: leave covariates out, or lower --df"):
        dose_response(units(x, t, y), draws=50)
    with pytest.raises(UserError, match="no normal model of the treatment balances|bootstrap samples have no weights"):
        dose_response(units(x, 9 * x[:, 0] + 0.1 * t, y), "cbgps", draws=50)
    with pytest.raises(UserError, match="--at: the doses observed are"):
        dose_response(units(x, t, y), at=(0.0, 99.0))
    with pytest.raises(UserError, match="--at: the doses observed are"):
        dose_response(units(x, t, y), at=(float("nan"),))
    with pytest.raises(UserError, match="too many doses are alike for a curve of 9 --df"):
        dose_response(units(x, np.maximum(t, 0.5), y), df=9)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, t, y = doses(300, seed=2)
    frame = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "dose": t, "y": y})
    frame.to_csv(tmp_path / "t.csv", index=False)
    given = ["causal", "dose", f"--data={tmp_path / 't.csv'}", "--treatment=dose", "--covariates=a,b", "--outcome=y"]
    out, plot, report = (tmp_path / name for name in ("w.csv", "curve.png", "r.json"))
    words = ["--df=2", "--at=0,1,-1", "--draws=50", "--seed=3"]
    assert main([*given, *words, f"--out={out}", f"--plot={plot}", f"--json={report}"]) == 0
    found = read_report("causal-dose", report)
    library = units(frame[["a", "b"]], t, y)
    expected = dose_response(library, df=2, at=(-1.0, 0.0, 1.0), draws=50, seed=3)
    assert pd.read_csv(out).weight.to_numpy() == pytest.approx(expected.weights)
    for point, row in zip(expected.curve, found["curve"], strict=True):
        assert row == pytest.approx(vars(point))
    assert found["correlations"]["a"]["before"] == pytest.approx(np.corrcoef(x[:, 0], t)[0, 1])
    assert abs(found["correlations"]["b"]["after"]) < 1e-6 and plot.read_bytes().startswith(b"\x89PNG")
    printed = " ".join(capsys.readouterr().out.split())
    assert "largest |correlation| of dose with a covariate" in printed and "against the mean at -1.00" in printed
    assert main([*given, "--draws=50", "--by=cbgps", f"--json={report}"]) == 0
    assert len(read_report("causal-dose", report)["curve"]) == 21
    assert main([*given, "--at=a"]) == 2
    assert "--at a: give numbers, separated by commas" in capsys.readouterr().err
