"""Survival of two arms: published figures, the jackknife, known truth, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student

from benchmarks.survival import CASES, errors, estimates, lifetimes, measure, study, truth
from contrastkit.causal.study import Study, read
from contrastkit.causal.survival import compare_survival
from contrastkit.cli.main import main
from contrastkit.errors import UserError
from tests.schemas import read_report


def test_the_published_survival_of_those_who_quit_smoking() -> None:
    """Hernan & Robins 2020, Sec. 17.1 and 17.4: after 120 months, 76.2 and 82.0 % of quitters and others live, and, had
    all quit or none, 80.7 and 80.5 %, a difference in survival of 0.2 % (-4.1 to 3.7 %)."""
    pytest.importorskip("causaldata")
    from contrastkit.causal.form import Form

    nhefs = read("nhefs", form=Form(moments=2))
    crude = compare_survival(nhefs, "none", at=[120])
    assert [arm.n for arm in crude.arms] == [428, 1201] and sum(arm.events for arm in crude.arms) == 318
    assert [round(arm.survival[0].survival, 3) for arm in crude.arms] == [0.762, 0.820]
    weighted = compare_survival(nhefs, "ipw", estimand="ATE", at=[120])
    assert [round(arm.survival[0].survival, 3) for arm in weighted.arms] == [0.807, 0.805]
    (_, difference), *_ = weighted.differences
    assert (difference.low, difference.high) == pytest.approx((-0.041, 0.037), abs=0.005)
    assert crude.hazard_ratio.low > 1 and weighted.hazard_ratio.ratio == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    ("by", "estimand", "n"),
    [
        ("entropy", "ATE", 60),
        *(
            pytest.param(*row, 150, marks=pytest.mark.slow)
            for row in (("entropy", "ATT"), ("ipw", "ATE"), ("cbps", "ATE"), ("overlap", "ATT"), ("none", "ATT"))
        ),
    ],
)
def test_errors_are_those_of_the_jackknife(by: Any, estimand: Any, n: int) -> None:
    """Which leaves out one unit after another, and weights the others anew."""
    rows = lifetimes(n, seed=1)
    how: Any = {"estimand": estimand, "at": [4, 8], "horizon": 8}
    found = compare_survival(study(*rows), by, **how)
    left = [np.delete(np.arange(n), i) for i in range(n)]
    again = np.array([estimates(compare_survival(study(*(v[kept] for v in rows)), by, **how)) for kept in left])
    assert errors(found) == pytest.approx(again.std(0) * np.sqrt(n - 1), rel=0.05)


@pytest.mark.parametrize(("by", "estimand"), [("ipw", "ATE"), pytest.param("entropy", "ATT", marks=pytest.mark.slow)])
def test_the_truth_of_a_large_study(by: Any, estimand: Any) -> None:
    at = [6.0, 12.0]
    S, mean, log = truth(estimand, at, 12)
    known = np.array([*S.ravel(), *(S[:, 0] - S[:, 1]), mean, log])
    rows = study(*lifetimes(4000))
    found = compare_survival(rows, by, estimand=estimand, at=at, horizon=12)
    assert (np.abs(estimates(found) - known) < 4 * np.array(errors(found))).all() and max(errors(found)[:6]) < 0.025
    crude = compare_survival(rows, "none", at=at, horizon=12)
    assert abs(crude.restricted_mean_difference.effect - mean) > 5 * crude.restricted_mean_difference.se


@pytest.mark.slow
@pytest.mark.parametrize(("estimand", "by"), CASES)
def test_intervals_hold_the_truth_and_estimates_are_not_biased(estimand: Any, by: Any) -> None:
    for row in measure(estimand, by, draws := 300):
        assert abs(row["bias"]) < 0.1 + 2 / np.sqrt(draws) and abs(row["covered"] - 0.955) < 0.025, row


def test_the_interval_of_a_share_is_on_the_scale_of_log_minus_log() -> None:
    x, t, times, events = lifetimes(60)
    found = compare_survival(study(x, t, times, events), "none", at=[6], horizon=6)
    for arm, mine in zip(found.arms, (t, ~t), strict=True):
        (point,), n = arm.survival, mine.sum()
        S, greenwood = 1.0, 0.0
        for time in sorted(times[mine & events & (times <= 6)]):
            at_risk = (mine & (times >= time)).sum()
            S, greenwood = S * (1 - 1 / at_risk), greenwood + 1 / (at_risk * (at_risk - 1))
        se = S * np.sqrt(greenwood) / (1 - 1 / n)  # over 1 minus the leverage
        half = student.ppf(0.975, n - 1) * se / (S * np.log(S))
        ends = sorted(np.exp(-np.exp(np.log(-np.log(S)) + np.array([-1, 1]) * half)))
        assert (point.survival, point.se, point.low, point.high) == pytest.approx((S, se, *ends))
        assert point.at_risk == (mine & (times >= 6)).sum() and arm.followed == times[mine].max()


def test_copies_in_clusters_tell_no_more_than_their_originals() -> None:
    rows = lifetimes(200)
    three = np.repeat(np.arange(200), 3)
    once = compare_survival(study(*rows), "entropy", at=[6], horizon=12)
    copied = compare_survival(
        study(*(v[three] for v in rows), unit=three), "entropy", at=[6], horizon=12, cluster="unit"
    )
    left_out = -1  # ties are treated by Efron, which makes copies one event after another
    assert estimates(copied)[:left_out] == pytest.approx(estimates(once)[:left_out])
    assert errors(copied)[:left_out] == pytest.approx(errors(once)[:left_out], rel=0.05)


def test_units_that_trimming_drops_are_neither_at_risk_nor_followed() -> None:
    x, t, times, events = lifetimes(300)
    kept = compare_survival(study(x, t, times, events), "ipw", trim=0.2).weighted.weights > 0
    times = np.where(kept, times, 99.0)
    found = compare_survival(study(x, t, times, events), "ipw", trim=0.2, at=[1])
    assert (~kept).sum() > 10 and found.weighted.estimand == "ATT after trimming"
    for arm, mine in zip(found.arms, (t, ~t), strict=True):
        assert arm.followed == times[mine & kept].max() < 99 and arm.events == (events & mine & kept).sum()
        assert arm.survival[0].at_risk == (mine & kept & (times >= 1)).sum()


def test_weights_of_a_file_are_taken_as_fixed(tmp_path: Path) -> None:
    rows = study(*lifetimes(200))
    own = compare_survival(rows, "entropy", at=[6])
    pd.DataFrame({"weight": own.weighted.weights}).to_csv(tmp_path / "w.csv", index=False)
    given = compare_survival(rows, weights=tmp_path / "w.csv", at=[6])
    assert estimates(given) == pytest.approx(estimates(own))
    assert errors(given)[2:] != pytest.approx(errors(own)[2:], rel=0.01)
    assert "the standard errors take the weights as fixed, and may be too wide" in given.remarks
    assert not any("fixed" in remark for found in (own, compare_survival(rows, "none")) for remark in found.remarks)


def test_sample_weights_are_repeated_rows() -> None:
    rows, times = lifetimes(150), np.arange(150) % 3 + 1
    weighted = compare_survival(study(*rows, of=times), "ipw", sample_weight="of", at=[6], horizon=8)
    repeated = compare_survival(study(*(np.repeat(v, times, axis=0) for v in rows)), "ipw", at=[6], horizon=8)
    assert estimates(weighted)[:-1] == pytest.approx(estimates(repeated)[:-1], rel=1e-4)


def test_shares_of_0_and_1_have_no_interval() -> None:
    x, t, times, events = lifetimes(60)
    times, events = np.where(t, times + 3, times), events | (times >= np.sort(times[~t])[-1])
    found = compare_survival(study(x, t, times, events), "none", at=[1, times[~t].max()])
    early, late = found.arms[0].survival[0], found.arms[1].survival[1]
    assert (early.survival, late.survival) == (1, 0) and np.isnan([early.se, early.low, late.high]).all()
    assert all(np.isnan(effect.low) for _, effect in found.differences)
    assert "the treated are without an event by 1: there is no interval" in found.remarks
    assert any("the untreated are without anyone left by" in remark for remark in found.remarks)


def refused(match: str, rows: Study, **how: Any) -> None:
    with pytest.raises(UserError, match=match):
        compare_survival(rows, "none", **how)


def test_what_cannot_be_compared_is_refused() -> None:
    x, t, times, events = lifetimes(60)
    last = min(times[t].max(), times[~t].max())
    refused("no unit has the event", study(x, t, times, 0 * events))
    refused("no events among the treated units", study(x, t, times, events & ~t))
    refused("no events among the untreated units", study(x, t, times, events & t))
    refused(
        r"the event must be 0 or 1, not 0, 1, 2: name with --event-value",
        study(x, t, times, np.where(times > 5, 2, events)),
    )
    refused("the event must be 0 or 1, not no, yes", study(x, t, times, np.where(events, "yes", "no")))
    refused(r"--event-value dead: died has no such value", study(x, t, times, events), event_value="dead")
    refused("3 times are negative", study(x, t, np.where(np.arange(60) < 3, -1, times), events))
    refused(
        "the times must be numbers, such as days", study(x, t, [f"2020-01-{i % 28 + 1}" for i in range(60)], events)
    )
    refused("months: 60 of 60 values are infinite", study(x, t, times + np.inf, events))
    refused(f"--horizon: the .* units are followed from 0 to {last:g}", study(x, t, times, events), horizon=99)
    refused(f"--at: the .* units are followed from 0 to {last:g}", study(x, t, times, events), at=[3, 99])
    refused("--at: the untreated units are followed from 0", study(x, t, times, events), at=[0])
    refused("no events among the treated units before the horizon, 0.5", study(x, t, times + t, events), horizon=0.5)
    refused("the treated units are followed from 0 to 0", study(x, t, np.where(t, 0, times), events))


def test_zero_times_are_said() -> None:
    x, t, times, events = lifetimes(60)
    found = compare_survival(study(x, t, np.where(np.arange(60) < 3, 0, times), events), "none", at=[3])
    assert "3 units have the time 0, and are at risk at the start alone" in found.remarks


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, t, times, events = lifetimes(150)
    site = np.arange(150) // 3
    words = np.where(events, "yes", "no")
    frame = {"a": x[:, 0], "b": x[:, 1], "t": t.astype(int), "months": times, "died": words, "site": site}
    pd.DataFrame(frame).to_csv(tmp_path / "t.csv", index=False)
    given = ["causal", "survival", f"--data={tmp_path / 't.csv'}", "--treatment=t", "--covariates=a,b"]
    asked = ["--time=months", "--event=died", "--event-value=yes", "--cluster=site", "--at=8,4", "--horizon=10"]
    out, report, plot = tmp_path / "c.csv", tmp_path / "r.json", tmp_path / "p.png"
    assert main([*given, *asked, "--by=ipw", f"--out={out}", f"--json={report}", f"--plot={plot}"]) == 0
    found = read_report("causal-survival", report)
    expected = compare_survival(study(x, t, times, events, site=site), "ipw", at=[4, 8], horizon=10, cluster="site")
    assert found["event"] == "died=yes" and [row["time"] for row in found["differences"]] == [4, 8]
    assert found["hazard_ratio"] == pytest.approx(vars(expected.hazard_ratio))
    assert found["restricted_mean_difference"] == pytest.approx(vars(expected.restricted_mean_difference))
    for arm, row in zip(expected.arms, found["arms"], strict=True):
        assert row["survival"] == [pytest.approx(vars(point)) for point in arm.survival]
    curves = pd.read_csv(out)
    assert len(curves) == (events & (times <= 10)).sum() and set(curves.arm) == {"treated", "untreated"}
    assert curves.survival.to_numpy() == pytest.approx([p.survival for arm in expected.arms for p in arm.curve])
    assert plot.read_bytes()[:4] == b"\x89PNG"
    printed = " ".join(capsys.readouterr().out.split())
    assert "died=yes by t, ipw, ATT" in printed and "mean months to 10" in printed and "sets another" not in printed
    line = [*given, "--time=months", "--event=died", "--event-value=yes"]
    assert main([*line, "--by=none", f"--json={report}"]) == 0
    assert "died=yes by t, none, the arms as they are" in " ".join(capsys.readouterr().out.split())
    assert read_report("causal-survival", report)["estimand"] is None
    assert main(line) == 0
    assert f"horizon {expected.arms[1].followed:g}: the shorter follow-up" in " ".join(capsys.readouterr().out.split())
    for line, says in (
        (["--event=died"], "no times: name with --time"),
        (["--time=months"], "no events: name with --event"),
        (["--time=a", "--event=died"], "'a' is used twice: treatment, event, time and covariates"),
        (["--time=months", "--event=died"], "the event must be 0 or 1, not no, yes"),
    ):
        assert main([*given, *line]) == 2
        assert says in capsys.readouterr().err
