"""Pairs against loops."""

import math
from itertools import permutations
from typing import get_args

import numpy as np
import pytest
from scipy.stats import rankdata

from contrastkit.causal.matching import Matching
from contrastkit.causal.names import Order
from contrastkit.causal.propensity import Propensity
from contrastkit.errors import UserError
from tests.causal.simulated import varied, world


def test_nearest_neighbours_are_those_of_a_loop_and_ties_share() -> None:
    x = np.array([[0.0], [4.0], [1.0], [-1.0], [6.0], [3.0]])
    t = np.array([1, 1, 0, 0, 0, 0])
    m = Matching(metric="euclidean").fit(x, t)
    pairs = {(i, j): s for (i, j), s in zip(m.pairs_.tolist(), m.shares_, strict=True)}
    assert pairs == {(0, 2): 0.5, (0, 3): 0.5, (1, 5): 1.0}
    assert m.weights_[t == 0] == pytest.approx(np.array([0.5, 0.5, 0, 1]) * 3 / 2)
    first = Matching(metric="euclidean", ties=False).fit(x, t)
    assert first.pairs_.tolist() == [[0, 2], [1, 5]]
    near = Matching(metric="euclidean", caliper=0.5).fit(np.append(x, [[4.2]], 0), np.append(t, 0))
    assert near.pairs_.tolist() == [[1, 6]] and near.dropped_.tolist() == [0]
    assert near.estimand_ == "ATT of the matched"


@pytest.mark.parametrize("p", [1, 2, 9])
@pytest.mark.parametrize("ratio", [1, 3])
@pytest.mark.parametrize("caliper", [None, 0.4])
def test_the_nearest_and_their_ties_are_those_of_a_double_loop(p: int, ratio: int, caliper: float | None) -> None:
    g = np.random.default_rng(5)
    x = g.integers(0, 12, size=(70, 1)) / 4  # many are equally far
    x = np.column_stack([x, g.integers(0, 2, size=(70, p - 1)) / 8])
    t = np.arange(70) % 3 == 0
    matched = Matching(metric="euclidean", ratio=ratio, caliper=caliper).fit(x, t)
    first = Matching(metric="euclidean", ratio=ratio, caliper=caliper, ties=False).fit(x, t)
    every, some = set(), []
    for i in np.flatnonzero(t):
        d = sorted((np.linalg.norm(x[i] - x[j]), j) for j in np.flatnonzero(~t))
        inside = [(far, j) for far, j in d if caliper is None or far <= caliper]
        every |= {(i, j) for far, j in inside if far <= d[ratio - 1][0]}
        some += [[i, j] for _, j in inside[:ratio]]
    assert set(map(tuple, matched.pairs_.tolist())) == every and len(matched.pairs_) == len(every) > len(some)
    assert first.pairs_.tolist() == some


@pytest.mark.parametrize("p", [1, 2, 9])
@pytest.mark.parametrize("replacement", [True, False])
def test_distances_that_differ_by_rounding_are_equal(p: int, replacement: bool) -> None:
    """Of two equally near partners, the first in the data is taken, whichever of them rounding makes the nearer."""
    for first, second in permutations((0.3, 0.3 + 1e-13, -0.3, -0.3 - 1e-13), 2):
        x = np.zeros((4, p))
        x[:, 0] = 0.0, first, second, 5.0
        m = Matching(metric="euclidean", ties=False, replacement=replacement, order="data").fit(x, [1, 0, 0, 0])
        assert m.pairs_.tolist() == [[0, 1]], (first, second)


@pytest.mark.parametrize("metric", ["logit", "mahalanobis"])
@pytest.mark.parametrize("ratio", [1, 2])
def test_without_replacement_the_best_that_is_left_is_taken(metric: str, ratio: int) -> None:
    x, t, _ = world(80)
    t[:] = 0
    t[:25] = 1
    m = Matching(metric=metric, ratio=ratio, replacement=False, order="data").fit(x, t)  # type: ignore[arg-type]
    if metric == "logit":
        z = Propensity().fit(x, t).logit_[:, None]
    else:
        S = sum((sum(t == a) - 1) * np.cov(x[t == a], rowvar=False) for a in (0, 1)) / (len(x) - 2)
        z = x @ np.linalg.cholesky(np.linalg.inv(S))
    left, expected = set(range(25, 80)), []
    for _ in range(ratio):
        for i in range(25):
            j = min(left, key=lambda j: (np.linalg.norm(z[i] - z[j]), j))
            left.remove(j)
            expected.append([i, j])
    assert m.pairs_.tolist() == expected
    assert m.weights_.sum() == pytest.approx(25 + 25 * ratio)


def test_the_optimal_pairs_have_the_least_sum() -> None:
    x, t, _ = world(11, 1, seed=3)
    t[:] = [1, 0, 1, 0, 0, 1, 0, 1, 0, 0, 1]
    a, b = np.flatnonzero(t == 1), np.flatnonzero(t == 0)
    least = min(
        sum(abs(x[i, 0] - x[j, 0]) for i, j in zip(a, chosen, strict=True)) for chosen in permutations(b, len(a))
    )
    m = Matching(metric="euclidean", replacement=False, order="data", optimal=True).fit(x, t)
    assert m.distances_.sum() == pytest.approx(least) and len(set(m.pairs_[:, 1])) == len(a)


def test_partners_agree_on_what_is_exact() -> None:
    x, t, _ = world(100)
    x[:, 1] = np.arange(100) % 3
    m = Matching(metric="euclidean", exact=(1,)).fit(x, t)
    assert (x[m.pairs_[:, 0], 1] == x[m.pairs_[:, 1], 1]).all()
    for i, j in m.pairs_:
        rivals = [k for k in np.flatnonzero(t == 0) if x[k, 1] == x[i, 1]]
        assert np.linalg.norm(x[i] - x[j]) == pytest.approx(min(np.linalg.norm(x[i] - x[k]) for k in rivals))


def nearest(z: np.ndarray, t: np.ndarray) -> list[list[int]]:
    controls = np.flatnonzero(~t)
    return [[int(i), int(min(controls, key=lambda j: (np.linalg.norm(z[i] - z[j]), j)))] for i in np.flatnonzero(t)]


def test_each_metric_is_its_own() -> None:
    x, t, _ = varied()
    x = x * [1, 5, 0.1] + 1
    model = Propensity().fit(x, t)
    ranks = rankdata(x, axis=0)
    residuals = np.where(t[:, None], ranks - ranks[t].mean(0), ranks - ranks[~t].mean(0))
    S = residuals.T @ residuals / 198
    untied = math.sqrt(200 * 201 / 12)
    S = S * np.outer(untied / np.sqrt(np.diag(S)), untied / np.sqrt(np.diag(S)))
    spaces = {
        "propensity": model.scores_[:, None],
        "logit": model.logit_[:, None],
        "cosine": x / np.linalg.norm(x, axis=1, keepdims=True),
        "euclidean": x,
        "scaled": x / x.std(0, ddof=1),
        "robust": ranks @ np.linalg.cholesky(np.linalg.inv(S)),
    }
    result = {metric: nearest(z, t) for metric, z in spaces.items()}
    assert (
        len({str(pairs) for pairs in result.values()}) == len(spaces) - 1
    )  # propensity and logit differ in few pairs, if any
    for metric, pairs in result.items():
        assert Matching(metric=metric, ties=False).fit(x, t).pairs_.tolist() == pairs, metric  # type: ignore[arg-type]


@pytest.mark.parametrize("replacement", [True, False])
def test_a_caliper_on_the_score_is_in_its_standard_deviations(replacement: bool) -> None:
    x, t, _ = varied()
    logit = Propensity().fit(x, t).logit_
    m = Matching(caliper=0.02, replacement=replacement, order="data").fit(x, t)
    limit, free = 0.02 * logit.std(ddof=1), set(np.flatnonzero(~t).tolist())
    expected = []
    for i in np.flatnonzero(t).tolist():
        inside = [j for j in free if abs(logit[i] - logit[j]) <= limit]
        if inside:
            j = min(inside, key=lambda j: abs(logit[i] - logit[j]))
            expected.append([i, j])
            if not replacement:
                free.remove(j)
    assert m.pairs_.tolist() == expected and 0 < len(m.dropped_) == t.sum() - len(expected)


def test_a_caliper_on_a_distance_is_in_its_units_one_by_one_and_at_the_optimum() -> None:
    x, t, _ = varied(60, 2)
    free, expected = set(np.flatnonzero(~t).tolist()), []
    for i in np.flatnonzero(t).tolist():
        inside = [j for j in free if np.linalg.norm(x[i] - x[j]) <= 0.5]
        if inside:
            expected.append([i, min(inside, key=lambda j: float(np.linalg.norm(x[i] - x[j])))])
            free.remove(expected[-1][1])
    greedy = Matching(metric="euclidean", replacement=False, order="data", caliper=0.5).fit(x, t)
    assert greedy.pairs_.tolist() == expected and len(greedy.dropped_)
    best = Matching(metric="euclidean", replacement=False, order="data", caliper=0.5, optimal=True).fit(x, t)
    assert len(best.pairs_) >= len(expected) and best.distances_.max() <= 0.5


def test_who_chooses_first_is_who_was_asked_for() -> None:
    x, t, _ = varied(60)
    model = Propensity().fit(x, t)
    pairs_by_order = {}
    for order in get_args(Order):
        m = Matching(replacement=False, order=order, seed=1).fit(x, t)
        pairs_by_order[order] = m.pairs_.tolist()
    units = np.flatnonzero(t)
    by = units[np.argsort(model.scores_[units])].tolist()
    for order, turn in (("smallest", by), ("largest", by[::-1]), ("data", units.tolist())):
        free, expected = set(np.flatnonzero(~t).tolist()), []
        for i in turn:
            if free:
                j = min(free, key=lambda j: abs(model.logit_[i] - model.logit_[j]))
                free.remove(j)
                expected.append([i, j])
        assert pairs_by_order[order] == expected, order
    assert len({str(pairs) for pairs in pairs_by_order.values()}) == 4


def test_mahalanobis_does_not_hang_on_units() -> None:
    x, t, _ = varied()
    x[:, 1] = x[:, 1] > 0
    pairs = Matching(metric="mahalanobis").fit(x, t).pairs_
    assert (Matching(metric="mahalanobis").fit(x * [1e7, 1, 1e-7], t).pairs_ == pairs).all()


def tied(p: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Units on a grid of tenths, written in ways that differ in the last bit: many distances are equal but for it."""
    g = np.random.default_rng(11)
    whole = g.integers(0, 6, size=(60, p))
    written = [whole / 10, whole * 0.1, (whole + 2) * 0.1 - 0.2, 0.3 - (3 - whole) * 0.1]
    x = np.choose(g.integers(0, 4, size=whole.shape), written)
    assert len(np.unique(x)) > 9 and len(np.unique(x.round(9))) == 6
    return x, (np.arange(60) % 3 == 0).astype(int)


def by_whole_numbers(x: np.ndarray, t: np.ndarray, caliper: float, *, replacement: bool) -> list[list[int]]:
    """The first in the data of the nearest, by integers: nothing is rounded."""
    whole = (x * 10).round().astype(int)
    free, pairs = np.flatnonzero(t == 0).tolist(), []
    for i in np.flatnonzero(t == 1).tolist():
        far = {j: int(((whole[i] - whole[j]) ** 2).sum()) for j in free}
        inside = [j for j in free if far[j] <= round(100 * caliper**2)]
        if inside:
            pairs.append([i, min(inside, key=lambda j: (far[j], j))])
            if not replacement:
                free.remove(pairs[-1][1])
    return pairs


@pytest.mark.parametrize(("p", "caliper"), [(1, 0.1), (2, 0.1), (9, 0.6), (1, 10.0), (2, 10.0), (9, 10.0)])
@pytest.mark.parametrize("replacement", [True, False])
@pytest.mark.parametrize("scale", [1.0, 3.0, 1 / 3, 7e5])
def test_the_first_of_equally_near_partners_is_taken(p: int, caliper: float, replacement: bool, scale: float) -> None:
    """A partner just at the caliper is within it. Without replacement there are too few, and few are left."""
    x, t = tied(p)
    t = t if replacement else 1 - t
    m = Matching(
        metric="euclidean", replacement=replacement, ties=False, order="data", caliper=caliper * scale
    ).fit(x * scale, t)  # fmt: skip
    assert m.pairs_.tolist() == by_whole_numbers(x, t, caliper, replacement=replacement)


@pytest.mark.parametrize("metric", ["mahalanobis", "scaled", "robust", "logit", "propensity"])
@pytest.mark.parametrize("replacement", [True, False])
def test_pairs_depend_neither_on_units_nor_on_the_writing_nor_on_columns_order(metric: str, replacement: bool) -> None:
    x, t = tied(2)

    def pairs(x: np.ndarray) -> list[list[int]]:
        m = Matching(metric=metric, replacement=replacement, ties=False)  # type: ignore[arg-type]
        return m.fit(x, t).pairs_.tolist()

    expected = pairs(x.round(9))
    for other in (x, x * [3, 1 / 3], x[:, ::-1] / 3):
        assert pairs(other) == expected
    ties = {tuple(p) for p in Matching(metric=metric).fit(x.round(9), t).pairs_.tolist()}  # type: ignore[arg-type]
    assert {tuple(p) for p in Matching(metric=metric).fit(x / 3, t).pairs_.tolist()} == ties  # type: ignore[arg-type]
    assert len(ties) > len(expected)


@pytest.mark.parametrize("replacement", [True, False])
@pytest.mark.parametrize("metric", ["euclidean", "mahalanobis"])
def test_the_order_of_other_units_does_not_matter(metric: str, replacement: bool) -> None:
    """Controls keep their order and the treated theirs, but they are shuffled into one another."""
    x, t = tied(2)
    shuffled = np.random.default_rng(0).permutation(t)
    rows = np.empty(60, int)
    for arm in (0, 1):
        rows[shuffled == arm] = np.flatnonzero(t == arm)
    options = {"metric": metric, "replacement": replacement, "ties": False}
    here = Matching(**options).fit(x, t).pairs_  # type: ignore[arg-type]
    there = Matching(**options).fit(x[rows], shuffled).pairs_  # type: ignore[arg-type]
    assert set(map(tuple, rows[there].tolist())) == set(map(tuple, here.tolist()))


def test_exact_agreement_and_the_best_total_are_not_lost_by_rounding() -> None:
    x = np.array([[0.1 + 0.2, 1.0], [0.3, 5.0], [0.9, 1.0]])
    assert Matching(metric="euclidean", exact=(0,)).fit(x, [1, 0, 0]).pairs_.tolist() == [[0, 1]]
    x, t = tied(2)
    for scale in (1, 3, 1 / 3):
        m = Matching(metric="euclidean", replacement=False, optimal=True, order="data", caliper=0.1 * scale)
        m.fit(x * scale, t)
        assert m.distances_.max() == pytest.approx(0.1 * scale)  # just at the caliper
        if scale == 1:
            first = m.pairs_.tolist()
        assert m.pairs_.tolist() == first


def test_more_matches_than_units_are_refused() -> None:
    x, t = np.arange(12.0)[:, None], np.arange(12) < 5
    assert len(Matching(metric="euclidean", ratio=7, ties=False).fit(x, t).pairs_) == 5 * 7
    with pytest.raises(UserError, match="a ratio of 8 is more than the 7 units to match with: lower it"):
        Matching(metric="euclidean", ratio=8).fit(x, t)


def test_why_nobody_has_a_partner_names_only_what_was_asked_for() -> None:
    x = np.column_stack([np.arange(8.0), np.arange(8.0) % 2])
    t = np.arange(8) % 2 == 0
    for how, says, other in (
        ({"exact": (0,)}, "agrees on the columns of exact: match on fewer of them", "caliper"),
        ({"caliper": 0.01}, "no unit has a partner within the caliper 0.01: widen it", "exact"),
        ({"caliper": 0.01, "exact": (0,)}, "of exact within the caliper 0.01: match on fewer of them or widen it", "?"),
    ):
        with pytest.raises(UserError, match=says) as error:
            Matching(metric="scaled", **how).fit(x[:, :1] if "exact" not in how else x, t)
        assert other not in str(error.value)
