"""Numbers that are equal but for rounding."""

import numpy as np
import pytest

from contrastkit.causal.coarsened import CoarsenedExact
from contrastkit.causal.diagnostics import balance_table
from contrastkit.causal.estimate import Stratified
from contrastkit.causal.matching import Matching
from contrastkit.causal.propensity import calibration
from contrastkit.causal.refute.hidden_bias import signed_rank
from contrastkit.causal.weighting import EntropyBalancing
from contrastkit.tables.ties import cells, levels, rounding, settled


def test_levels_are_the_ranks_of_what_was_meant() -> None:
    x = np.array([0.3, 0.1 + 0.2, -1.0, 0.3 + 1e-9, 2.0, 0.3])
    assert levels(x, rounding(x)).tolist() == [1, 1, 0, 2, 3, 1]
    assert settled(x, rounding(x)).tolist() == [0.3, 0.3, -1.0, 0.3 + 1e-9, 2.0, 0.3]
    assert levels(np.array([10.0**12, 10.0**12 + 1]), rounding(np.array([1e12]))).tolist() == [
        0,
        1,
    ]  # numbers of people


def test_values_at_a_cut_are_above_it() -> None:
    x = np.array([0.1 + 0.2, 0.3, 0.29, 0.31])
    assert cells(x, [0.1 + 0.2], rounding(x)).tolist() == cells(x, [0.3], rounding(x)).tolist() == [1, 1, 0, 1]


def wobbly(g: np.random.Generator, whole: np.ndarray) -> np.ndarray:
    """Tenths in ways that differ in the last bit."""
    return np.choose(g.integers(0, 3, whole.shape), [whole / 10, whole * 0.1, (whole + 2) * 0.1 - 0.2])


def test_coarsened_strata_depend_neither_on_units_nor_on_the_writing() -> None:
    g = np.random.default_rng(0)
    whole = np.column_stack([g.integers(0, 11, 300), g.integers(0, 2, 300)])
    t = g.integers(0, 2, 300)
    expected = CoarsenedExact(bins=10).fit(whole, t).strata_.tolist()
    for scale in (1.0, 3.0, 1 / 3, 7e-4):
        assert CoarsenedExact(bins=10).fit(wobbly(g, whole) * scale, t).strata_.tolist() == expected, scale


def test_strata_of_the_score_and_its_deciles_keep_equal_scores_together() -> None:
    g = np.random.default_rng(3)
    whole = g.integers(0, 5, (400, 1))
    t = g.uniform(size=400) < 0.2 + 0.1 * whole[:, 0]
    y = g.normal(size=400)
    strata = [Stratified(strata=4).fit(x, t, y).weights_ for x in (whole, wobbly(g, whole), wobbly(g, whole) / 3)]
    for weights in strata:
        assert weights is not None and all(
            len(np.unique(weights[(whole[:, 0] == v) & (t == arm)].round(9))) == 1 for v in range(5) for arm in (0, 1)
        )
    e = wobbly(g, 1 + whole[:, 0])
    assert calibration(e, t)[:, 2].tolist() == calibration((1 + whole[:, 0]) / 10, t)[:, 2].tolist()


def test_equal_differences_share_ranks_and_zeros_are_zeros() -> None:
    g = np.random.default_rng(1)
    whole = g.integers(-4, 6, 80)
    assert signed_rank(wobbly(g, whole), 1.2) == signed_rank(whole.astype(float), 1.2)


def test_a_column_of_two_values_has_no_square() -> None:
    g = np.random.default_rng(1)
    whole = np.column_stack([3 * g.integers(0, 2, 200), g.integers(0, 11, 200)])
    t = g.uniform(size=200) < 0.5
    assert EntropyBalancing(moments=2).fit(wobbly(g, whole), t).terms_.shape[1] == 3


def test_balance_counts_equal_values_once_and_sees_no_spread_in_a_constant() -> None:
    g = np.random.default_rng(4)
    whole, t = g.integers(0, 5, (300, 2)), np.arange(300) % 3 == 0
    exact, written = (balance_table(x, t) for x in (whole / 10, wobbly(g, whole)))
    assert written.ks == pytest.approx(exact.ks, abs=1e-12)
    for value in (0.1, 0.3, 0.7):
        level = np.full((300, 1), value)
        assert (balance_table(level, t).smd == 0).all()
        level[1] += 1  # one of the controls
        balance = balance_table(level, t)
        assert balance.smd == pytest.approx(-1 / 200 / level.std(ddof=1)) and (balance.variance_ratio < 1e-20).all()


def test_a_constant_adds_nothing_to_the_scaled_distance() -> None:
    g = np.random.default_rng(5)
    x, t = g.normal(size=(90, 2)), np.arange(90) % 3 == 0
    constant = np.where(g.uniform(size=90) < 0.5, 0.1 + 0.2, 0.3)
    pairs = [Matching(metric="scaled").fit(z, t).pairs_.tolist() for z in (x, np.column_stack([x, constant]))]
    assert pairs[0] == pairs[1]
