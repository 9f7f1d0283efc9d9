"""Several arms: scores by statsmodels, errors by the stacked equations written out, known truth."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy.stats import studentized_range

from contrastkit.causal.arms import compare_arms
from contrastkit.causal.estimate import Weighted
from contrastkit.causal.estimate.weighted import stacked
from contrastkit.causal.study import Units
from contrastkit.causal.weighting import (
    EntropyBalancing,
    GeneralisedPropensity,
    InverseProbability,
    SeveralEntropyBalancing,
)
from contrastkit.causal.weighting.several_arms import arms_of
from contrastkit.cli.main import main
from contrastkit.errors import UserError
from contrastkit.tables.covariates import Covariates, design
from tests.causal.simulated import world
from tests.schemas import read_report

ARMS = np.array(["none", "low", "high"])
EFFECTS = np.array([0.0, 1.0, 2.5])


def three(n: int, seed: int = 0) -> tuple[Any, Any, Any]:
    """Confounded by both columns; on all units, low has the effect 1 and high 2.5."""
    g = np.random.default_rng(seed)
    x = g.normal(size=(n, 2))
    p = np.exp(np.column_stack([np.zeros(n), 0.5 * x[:, 0], -0.6 * x[:, 1] + 0.3]))
    t = ((p / p.sum(1, keepdims=True)).cumsum(1) < g.uniform(size=n)[:, None]).sum(1)
    return x, ARMS[t], EFFECTS[t] * (1 + 0.5 * x[:, 0]) + x @ [1, 2] + g.normal(size=n)


def units(x: Any, t: Any, y: Any, **columns: Any) -> Units:
    frame = pd.DataFrame({"t": t, "y": y, **columns})
    return Units(
        X=Covariates.of(x), Y=frame.y.to_numpy(), treatment="t", outcome="y", covariates={}, frame=frame, source="table"
    )  # fmt: skip


@pytest.mark.parametrize("focal", [None, "low"])
def test_scores_are_those_of_statsmodels_and_weights_their_ratios(focal: str | None) -> None:
    x, t, _ = three(300)
    fitted = GeneralisedPropensity(focal).fit(x, t)
    labels = ("high", "low", "none")
    codes = np.array([labels.index(label) for label in t])
    e = sm.MNLogit(codes, sm.add_constant(x)).fit(disp=0, tol=1e-12).predict()
    assert fitted.arms_ == labels and (fitted.codes_ == codes).all()
    assert fitted.scores_ == pytest.approx(e, abs=1e-6)
    for k in range(3):
        w = [(1 if focal is None else e[i, 1]) / e[i, k] for i in range(300) if codes[i] == k]
        assert fitted.weights_[codes == k] == pytest.approx(w / np.mean(w), rel=1e-5)


@pytest.mark.parametrize(("focal", "estimand"), [(None, "ATE"), ("1", "ATT"), ("0", "ATC")])
def test_two_arms_have_the_weights_and_effects_of_the_binary_classes(focal: str | None, estimand: Any) -> None:
    x, t, y = world(300)
    for several, two in (
        (GeneralisedPropensity(focal), InverseProbability(estimand)),
        (SeveralEntropyBalancing(focal), EntropyBalancing(estimand)),
    ):
        assert several.fit(x, t).weights_ == pytest.approx(two.fit(x, t).weights_, rel=1e-6)
        by: Any = "gps" if isinstance(several, GeneralisedPropensity) else "entropy"
        (found,) = compare_arms(units(x, t, y), by, focal=focal).contrasts
        fitted = Weighted(two).fit(x, t, y)
        assert (found.arm, found.against, found.effect) == ("1", "0", pytest.approx(fitted.effect_))
        exact = by == "entropy"  # for scores, leverages on the likelihood are left out here
        assert found.se == pytest.approx(fitted.se_, rel=1e-6 if exact else 0.05)


def test_contrasts_are_with_the_reference_and_what_differs_is_said() -> None:
    x, t, y = three(200)
    plain, other = (compare_arms(units(x, t, y), reference=name) for name in (None, "none"))
    signs = {(c.arm, c.against): c.effect for c in plain.contrasts}
    for each in other.contrasts:
        names = (each.arm, each.against)
        assert each.effect == pytest.approx(signs.get(names, -signs.get(names[::-1], 0.0)))
    assert {c.against for c in other.contrasts if "none" in (c.arm, c.against)} == {"none"}
    with pytest.raises(UserError, match="unknown reference 'nona', did you mean 'none'"):
        compare_arms(units(x, t, y), reference="nona")
    x[:, 0] += 4 * (t == "low")
    said = compare_arms(units(x, t, y)).remarks
    assert any("leave a largest |SMD| of" in remark for remark in said)


@pytest.mark.parametrize("focal", [None, "low"])
def test_influences_are_those_of_the_stacked_equations_written_out(focal: str | None) -> None:
    x, t, y = three(200)
    fitted = GeneralisedPropensity(focal).fit(x, t)
    A, n, codes = design(x), 200, fitted.codes_
    place = None if focal is None else fitted.arms_.index(focal)

    def scores(b: Any) -> Any:
        odds = np.exp(np.column_stack([np.zeros(n), A @ b[:3], A @ b[3:6]]))
        return odds / odds.sum(1, keepdims=True)

    def psi(theta: Any) -> Any:
        e = scores(theta)
        goal = np.ones(n) if place is None else e[:, place]
        likelihood = [((codes == k) - e[:, k])[:, None] * A for k in (1, 2)]
        means = [(codes == k) * goal / e[:, k] * (y - theta[6 + k]) for k in range(3)]
        return np.column_stack([*likelihood, *means])

    log = np.log(fitted.scores_)
    beta = [np.linalg.lstsq(A, log[:, k] - log[:, 0], rcond=None)[0] for k in (1, 2)]
    means = stacked(fitted.weights_, arms_of(codes), y, fitted.equations(Covariates.of(x)))
    theta = np.concatenate([*beta, means.values])
    assert np.abs(psi(theta).sum(0)).max() < 1e-6
    J = np.column_stack([(psi(theta + h).sum(0) - psi(theta - h).sum(0)) / 2e-5 for h in 1e-5 * np.eye(len(theta))])
    influences = -np.linalg.solve(J, psi(theta).T)[6:]
    for k in range(3):
        share = np.where(codes == k, fitted.weights_, 0)
        share = share / share.sum()
        influences[k] += share * (y - means.values[k]) * share / (1 - share)  # over 1 minus the leverage on the mean
    assert means.influences == pytest.approx(influences, abs=1e-6)


@pytest.mark.parametrize("focal", [None, "high"])
def test_entropy_balancing_meets_its_conditions_and_the_form_of_an_optimum(focal: str | None) -> None:
    """Of relative entropy under linear constraints: log w is linear in x within an arm, and the means are right."""
    x, t, _ = three(300)
    w = SeveralEntropyBalancing(focal).fit(x, t).weights_
    target = x.mean(0) if focal is None else x[t == focal].mean(0)
    for label in ARMS:
        arm = t == label
        assert np.average(x[arm], axis=0, weights=w[arm]) == pytest.approx(target, abs=1e-7)
        A, log = sm.add_constant(x[arm]), np.log(w[arm])
        assert A @ np.linalg.lstsq(A, log, rcond=None)[0] == pytest.approx(log, abs=1e-6)
        assert w[arm].mean() == pytest.approx(1) and (label != focal or np.ptp(w[arm]) == 0)


@pytest.mark.parametrize("by", ["gps", "entropy"])
def test_the_truth_of_a_large_study(by: Any) -> None:
    x, t, y = three(20_000)
    found = compare_arms(units(x, t, y), by)
    truth = dict(zip(ARMS, EFFECTS, strict=True))
    assert [arm.name for arm in found.arms] == ["high", "low", "none"]
    for each in found.contrasts:
        assert abs(each.effect - truth[each.arm] + truth[each.against]) < 4 * each.se < 0.3
        assert each.smd_before > 0.3 and each.smd < 0.05
    naive = {label: y[t == label].mean() for label in ARMS}
    assert abs(naive["high"] - naive["none"] - 2.5) > 0.5
    treated = compare_arms(units(x, t, y), by, focal="low")
    shift = 1 + 0.5 * x[t == "low", 0].mean()  # effects are larger among the units of this arm
    for each in treated.contrasts:
        assert abs(each.effect - shift * (truth[each.arm] - truth[each.against])) < 4 * each.se
    assert treated.estimand == "ATT of low"


def test_what_is_reported_of_arms_and_pairs() -> None:
    x, t, y = three(300)
    found = compare_arms(units(x, t, y), "entropy")
    w = found.weights
    for arm in found.arms:
        mine = t == arm.name
        assert (arm.n, arm.ess) == (mine.sum(), pytest.approx(w[mine].sum() ** 2 / (w[mine] ** 2).sum()))
        assert arm.mean == pytest.approx((w * y)[mine].sum() / w[mine].sum()) and arm.low < arm.mean < arm.high
    gps = compare_arms(units(x, t, y), "gps")
    for each in gps.contrasts:
        a, b = t == each.arm, t == each.against
        sd = np.sqrt((x[a].var(0, ddof=1) + x[b].var(0, ddof=1)) / 2)
        before = np.abs(x[a].mean(0) - x[b].mean(0)) / sd
        v = gps.weights
        after = np.abs(np.average(x[a], axis=0, weights=v[a]) - np.average(x[b], axis=0, weights=v[b])) / sd
        assert (each.smd_before, each.smd) == pytest.approx((before.max(), after.max()))


def test_ratios_compare_the_same_means() -> None:
    x, t, y = three(400)
    z = (y > 1).astype(int)
    plain = {arm.name: arm.mean for arm in compare_arms(units(x, t, z)).arms}
    for measure, value in (("ratio", lambda m: m), ("odds-ratio", lambda m: m / (1 - m))):
        for each in compare_arms(units(x, t, z), measure=measure).contrasts:  # type: ignore[arg-type]
            assert each.effect == pytest.approx(value(plain[each.arm]) / value(plain[each.against]))
            assert each.effect**2 == pytest.approx(each.low * each.high)  # symmetric on the scale of logarithms


def test_simultaneous_intervals_of_equal_arms_are_tukeys() -> None:
    """Equal arms, no confounding: the largest of all contrasts is a studentised range."""
    g = np.random.default_rng(0)
    t = np.repeat(ARMS, 40)
    x, y = g.normal(size=(120, 1)), g.normal(size=120)
    y = (y - np.repeat([y[t == a].mean() for a in ARMS], 40)) / np.repeat([y[t == a].std() for a in ARMS], 40)
    one, all_ = (compare_arms(units(x, t, y), "entropy", simultaneous=each) for each in (False, True))
    for single, together in zip(one.contrasts, all_.contrasts, strict=True):
        assert (single.effect, single.se) == (together.effect, together.se)
        quantile = (together.high - together.effect) / together.se
        assert quantile == pytest.approx(studentized_range.ppf(0.95, 3, 78) / np.sqrt(2), rel=0.02)
        assert (single.high - single.effect) / single.se < 0.87 * quantile


def test_copies_in_clusters_tell_no_more_than_their_originals() -> None:
    x, t, y = three(200)
    rows = np.repeat(np.arange(200), 3)
    once = compare_arms(units(x, t, y), "entropy")
    copied = compare_arms(units(x[rows], t[rows], y[rows], unit=rows), "entropy", cluster="unit")
    for one, three_times in zip(once.contrasts, copied.contrasts, strict=True):
        assert three_times.effect == pytest.approx(one.effect)
        assert three_times.se == pytest.approx(one.se, rel=0.05)  # leverages are a third, and G/(G - 1)


def test_what_has_no_weights_is_refused() -> None:
    x, t, y = three(200)
    far = x.copy()
    far[t == "high", 0] += 50
    with pytest.raises(UserError, match=r"high \(treated\) against the other arms .*: perfect separation by x0"):
        compare_arms(units(far, t, y))
    with pytest.raises(UserError, match="arm .*: no weights balance these covariates"):
        compare_arms(units(far, t, y), "entropy")
    with pytest.raises(UserError, match=r"--focal all: no such arm \(the arms: high, low, none\)"):
        compare_arms(units(x, t, y), focal="all")
    with pytest.raises(UserError, match="has 200 values, more than 20 arms"):
        compare_arms(units(x, y, y))
    with pytest.raises(UserError, match="arm odd has one unit"):
        compare_arms(units(x, np.append(t[1:], "odd"), y))
    with pytest.raises(UserError, match="all units are in one arm"):
        compare_arms(units(x, np.full(200, "a"), y))
    with pytest.raises(UserError, match="with a mean outcome of 0 there is no ratio"):
        compare_arms(units(x, t, (t == "low").astype(int)), measure="ratio")


def test_numbers_name_arms_in_their_order() -> None:
    x, t, y = three(200)
    doses = np.array([10.0, 9.0, 0.5])[np.searchsorted(np.sort(ARMS), t)]
    assert [arm.name for arm in compare_arms(units(x, doses, y)).arms] == ["0.5", "9", "10"]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, t, y = three(300)
    pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "t": t, "y": y, "site": np.arange(300) // 3}).to_csv(
        tmp_path / "t.csv", index=False
    )
    given = ["causal", "arms", f"--data={tmp_path / 't.csv'}", "--treatment=t", "--covariates=a,b", "--outcome=y"]
    out, report = tmp_path / "w.csv", tmp_path / "r.json"
    words = ["--by=entropy", "--focal=low", "--simultaneous", "--cluster=site"]
    assert main([*given, *words, f"--out={out}", f"--json={report}"]) == 0
    found, library = read_report("causal-arms", report), units(x, t, y, site=np.arange(300) // 3)
    expected = compare_arms(library, "entropy", focal="low", simultaneous=True, cluster="site")
    assert pd.read_csv(out).weight.to_numpy() == pytest.approx(expected.weights)
    for mine, row in zip(expected.contrasts, found["contrasts"], strict=True):
        assert row == pytest.approx(vars(mine))
    for arm, row in zip(expected.arms, found["arms"], strict=True):
        assert row == pytest.approx(vars(arm))
    printed = " ".join(capsys.readouterr().out.split())
    assert "y by t, entropy, ATT of low" in printed and "all of them together" in printed
    assert main([*given, "--rows=t!=none", "--outcome-value=1", f"--json={report}"]) == 2
    assert "--outcome-value 1: y has no such value" in capsys.readouterr().err
    assert main([*given, f"--json={report}"]) == 0
    assert read_report("causal-arms", report)["estimand"] == "ATE"
    assert "each by itself" in " ".join(capsys.readouterr().out.split())
