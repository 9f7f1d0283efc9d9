"""Curves, restricted means and hazard ratios of censored times: loops, published figures, a general optimizer, and
derivatives by finite differences."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize_scalar

from contrastkit.causal.estimate.censored import KaplanMeier, log_hazard_ratio
from contrastkit.errors import UserError

# Weeks of remission in acute leukaemia (Freireich et al. 1963); negative: censored.
MERCAPTOPURINE = [6, 6, 6, -6, 7, -9, 10, -10, -11, 13, 16, -17, -19, -20, 22, 23, -25, -32, -32, -34, -35]
PLACEBO = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]


def leukaemia(*arms: list[int]) -> tuple[Any, Any, Any]:
    """Arms numbered from 0, times, and events."""
    weeks = np.concatenate([np.array(arm, float) for arm in arms])
    return np.repeat(np.arange(len(arms)), [len(arm) for arm in arms]), np.abs(weeks), weeks > 0


def tied(n: int = 60, seed: int = 0) -> tuple[Any, Any, Any, Any]:
    """Arms, times with many ties, events, and weights, some of which are 0; all units at risk last have the event."""
    g = np.random.default_rng(seed)
    t, times = g.uniform(size=n) < 0.5, np.ceil(g.exponential(size=n) * 8)
    events = (g.uniform(size=n) < 0.7) | (times == times.max())
    return t, times, events, np.where(g.uniform(size=n) < 0.1, 0, g.uniform(0.2, 3, n))


def survival(times: Any, events: Any, w: Any, until: float) -> float:
    """The product over times of events, as a loop."""
    share = 1.0
    for time in sorted(set(times[events & (w > 0)].tolist())):
        if time <= until:
            died = [i for i in range(len(w)) if times[i] == time and events[i]]
            at_risk = [i for i in range(len(w)) if times[i] >= time and w[i] > 0]
            alive = set(at_risk) - set(died)
            share *= sum(w[i] for i in alive) / sum(w[i] for i in at_risk)
    return share


def area(times: Any, events: Any, w: Any, horizon: float) -> float:
    """That under the curve, of which each step is a rectangle."""
    ends = [0.0, *sorted({time for time in times.tolist() if time < horizon}), horizon]
    return sum(survival(times, events, w, a) * (b - a) for a, b in zip(ends, ends[1:], strict=False))


def partial_likelihood(beta: float, t: Any, times: Any, events: Any, w: Any) -> float:
    """Minus the logarithm, with Efron's treatment of ties, as loops (Therneau & Grambsch 2000, Sec. 3.3)."""
    value = 0.0
    risk = w * np.exp(beta * t)
    for time in sorted(set(times[events & (w > 0)].tolist())):
        died = np.flatnonzero((times == time) & events & (w > 0))
        for k in range(len(died)):
            at_risk = risk[times >= time].sum() - k / len(died) * risk[died].sum()
            value += w[died].mean() * np.log(at_risk)
        value -= beta * (w * t)[died].sum()
    return value


def derivatives(of: Any, w: Any, h: float = 1e-5) -> Any:
    """Of a function of weights by the logarithm of each, by central differences."""
    n = len(w)
    steps = [np.where(np.arange(n) == i, h, 0.0) for i in range(n)]
    return np.array([(of(w * np.exp(step)) - of(w * np.exp(-step))) / (2 * h) for step in steps])


def test_the_published_curve_of_mercaptopurine() -> None:
    """Kalbfleisch & Prentice 2002, Table 1.1 and Sec. 1.4; Greenwood's errors: Klein & Moeschberger 2003, Table 4.1."""
    _, times, events = leukaemia(MERCAPTOPURINE)
    curve = KaplanMeier.of(times, events, np.ones(21))
    values, own = curve.at_times(np.array([6.0, 7, 10, 13, 16, 22, 23]))
    assert values == pytest.approx([0.857, 0.807, 0.753, 0.690, 0.627, 0.538, 0.448], abs=6e-4)
    errors = np.linalg.norm(own, axis=1)
    assert errors == pytest.approx([0.0764, 0.0869, 0.0963, 0.1068, 0.1141, 0.1282, 0.1346], abs=6e-5)


def test_the_published_hazard_ratio_of_mercaptopurine() -> None:
    """R's survival::coxph on MASS::gehan: 1.5721 with Efron's treatment of ties."""
    t, times, events = leukaemia(MERCAPTOPURINE, PLACEBO)
    assert log_hazard_ratio(t == 1, times, events, np.ones(42))[0] == pytest.approx(1.5721, abs=5e-5)


@pytest.mark.parametrize("seed", range(3))
def test_weighted_curves_and_areas_are_those_of_loops(seed: int) -> None:
    _, times, events, w = tied(30, seed)
    curve = KaplanMeier.of(times, events, w)
    assert curve.at.tolist() == sorted(set(times[events & (w > 0)]))
    last = times[w > 0].max()
    asked = np.array([0.5, 1, 3.5, 8, last])
    values, own = curve.at_times(asked)
    for time, value, influence in zip(asked, values, own, strict=True):
        assert value == pytest.approx(survival(times, events, w, time), abs=1e-12)
        assert influence == pytest.approx(derivatives(lambda v, t=time: survival(times, events, v, t), w), abs=1e-8)
        mean, moved = curve.restricted_mean(time)
        assert mean == pytest.approx(area(times, events, w, time))
        assert moved == pytest.approx(derivatives(lambda v, t=time: area(times, events, v, t), w), abs=1e-7)
        assert curve.at_risk(np.array([time]))[0] == sum(times[i] >= time for i in range(len(w)) if w[i] > 0)


def test_a_curve_without_anyone_left_is_0_whatever_the_weights() -> None:
    """Sums of weights in different orders differ by rounding, which must leave neither a rest nor a division by 0."""
    for seed in range(20):
        g = np.random.default_rng(seed)
        times = g.integers(1, 4, 30).astype(float)
        events = (g.uniform(size=30) < 0.5) | (times == 3)
        values, own = KaplanMeier.of(times, events, g.uniform(size=30)).at_times(np.array([3.0]))
        assert values[0] == 0 and not own.any()


def test_the_variance_of_a_restricted_mean_is_greenwoods() -> None:
    """Klein & Moeschberger 2003, Eq. 4.5.2."""
    _, times, events, _ = tied()
    curve = KaplanMeier.of(times, events, np.ones(60))
    variance = 0.0
    for time in sorted(set(times[events & (times < 12)])):
        d, at_risk = ((times == time) & events).sum(), (times >= time).sum()
        rest = area(times, events, np.ones(60), 12) - area(times, events, np.ones(60), time)
        variance += rest**2 * d / (at_risk * (at_risk - d))
    assert np.linalg.norm(curve.restricted_mean(12)[1]) == pytest.approx(np.sqrt(variance))


@pytest.mark.parametrize("seed", range(3))
def test_the_hazard_ratio_is_the_optimum_of_the_likelihood_written_out(seed: int) -> None:
    t, times, events, w = tied(seed=seed)

    def fitted(v: Any) -> float:
        how: Any = {"bracket": (-1, 1), "options": {"xtol": 1e-12}}
        return float(minimize_scalar(partial_likelihood, args=(t, times, events, v), **how).x)

    beta, own = log_hazard_ratio(t, times, events, w)
    assert beta == pytest.approx(fitted(w), abs=1e-6)
    assert own == pytest.approx(derivatives(lambda v: log_hazard_ratio(t, times, events, v)[0], w), abs=1e-8)


def test_an_infinite_hazard_ratio_is_refused() -> None:
    t, times = np.array([True] * 5 + [False] * 5), np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    with pytest.raises(UserError, match="no finite hazard ratio: while units of both arms are followed"):
        log_hazard_ratio(t, times, np.ones(10, bool), np.ones(10))
    with pytest.raises(UserError, match="no finite hazard ratio"):
        log_hazard_ratio(~t, times, np.ones(10, bool), np.ones(10))


def test_lifelines_agrees_where_it_is_installed() -> None:
    """Without ties, on which its robust errors depend on the order of rows."""
    lifelines = pytest.importorskip("lifelines")
    t, times, events, w = tied(200)
    times = times + np.arange(200) / 1000
    w, last = np.maximum(w, 0.1), times.argmax()
    events[last] = False  # with weights that are no whole numbers, it leaves a rest of the curve after the last event
    frame = pd.DataFrame({"time": times, "event": events, "t": t.astype(float), "w": w})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that weights are no whole numbers
        cox = lifelines.CoxPHFitter().fit(frame, "time", "event", weights_col="w", robust=True)
        curve = lifelines.KaplanMeierFitter().fit(times, events, weights=w)
    beta, own = log_hazard_ratio(t, times, events, w)
    assert (beta, np.linalg.norm(own)) == pytest.approx((cox.params_.t, cox.standard_errors_.t), rel=1e-5)
    mine = KaplanMeier.of(times, events, w)
    assert mine.survival == pytest.approx(curve.survival_function_at_times(mine.at).to_numpy())
