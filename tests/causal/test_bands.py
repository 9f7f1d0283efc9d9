"""Standard errors of whole survival curves, against the influences of all units at each time."""

import time
from typing import Any

import numpy as np
import pytest
from scipy.stats import t as student

from benchmarks.survival import lifetimes, study
from contrastkit.causal.estimate.base import Judge
from contrastkit.causal.estimate.censored import KaplanMeier
from contrastkit.causal.estimate.weighted import carried
from contrastkit.causal.survival import compare_survival


@pytest.mark.parametrize("cluster", [None, "site"])
@pytest.mark.parametrize(
    ("by", "how"),
    [
        ("none", {}),
        ("ipw", {"estimand": "ATE", "sample_weight": "of"}),
        ("ipw", {"trim": 0.15}),
        ("entropy", {"estimand": "ATE"}),  # of two equations
        ("arb", {}),  # of none
    ],
)
@pytest.mark.parametrize("ties", [False, True])
def test_errors_of_a_curve_are_those_of_its_influences(by: Any, how: Any, cluster: Any, ties: bool) -> None:
    g, (x, t, times, events) = np.random.default_rng(0), lifetimes(120)
    times = np.ceil(times) if ties else times
    rows = study(x, t, times, events, site=g.integers(0, 40, 120), of=g.uniform(0.5, 2, 120))
    found = compare_survival(rows, by, cluster=cluster, **how)
    w = np.ones(120) if found.weighted.weights is None else found.weighted.weights
    equations = found.weighted.solves() if found.weighted.solves else None
    judge = Judge((t, ~t), w, None if cluster is None else rows.clusters(cluster))
    for arm, mine in zip(found.arms, (t, ~t), strict=True):
        curve = KaplanMeier.of(times, events, np.where(mine, w, 0))
        _, own = curve.at_times(arm.curve.time)
        influences = carried(own, w, (t, ~t), equations or ())
        known, inner = np.array([judge.error(row) for row in influences]), arm.curve.survival > 0
        assert len(known) > 10 and arm.curve.se[inner] == pytest.approx(known[inner], rel=1e-9)
        half = np.log(np.log(arm.curve.low) / np.log(arm.curve.high)) / 2
        scale = np.abs(arm.curve.survival * np.log(arm.curve.survival))
        asked = student.ppf(0.975, [judge.df(row) for row in influences])
        assert (half * scale / known)[inner] == pytest.approx(asked[inner], rel=1e-9)


def test_time_is_linear_in_the_rows() -> None:
    """An influence of each unit at each time would take a minute."""
    rows, start = study(*lifetimes(40_000)), time.process_time()
    found = compare_survival(rows, "ipw", at=[6])
    assert time.process_time() - start < 15 and len(found.arms[0].curve.time) > 10_000
