"""Calipers of covariates against a triple loop."""

from itertools import permutations

import numpy as np
import pytest

from contrastkit.causal.matching import Matching
from contrastkit.errors import UserError
from tests.causal.simulated import varied

CALIPERS = {0: 0.5, 1: 0.25, 2: 1.5}


def study(n: int = 90) -> tuple[np.ndarray, np.ndarray]:
    """Covariates, of which two are on grids whose steps the calipers are: some are just within, up to rounding."""
    x, t, _ = varied(n, seed=6)
    x[:, 0] = np.round(x[:, 0] * 4) * 0.25 + 0.1
    x[:, 1] = np.round(x[:, 1] * 8) / 8 * 3 / 3
    return x, t


def possible(x: np.ndarray, i: int, others: list[int], calipers: dict[int, float], limit: float = np.inf) -> list[int]:
    """Those of the others that are within every caliper and the limit, nearest first."""
    found = []
    for j in others:
        within = True
        for column, width in calipers.items():
            within &= abs(x[i, column] - x[j, column]) <= width + 1e-12
        far = round(float(np.linalg.norm(x[i] - x[j])), 9)
        if within and far <= limit:
            found.append((far, j))
    return [j for _, j in sorted(found)]


@pytest.mark.parametrize("calipers", [CALIPERS, {1: 0.25}, {0: 0.0}])
@pytest.mark.parametrize(("ratio", "limit"), [(1, None), (3, None), (2, 0.9)])
def test_with_replacement_partners_are_the_nearest_within_all_calipers(
    calipers: dict[int, float], ratio: int, limit: float | None
) -> None:
    x, t = study()
    m = Matching(metric="euclidean", ratio=ratio, calipers=calipers, caliper=limit, ties=False).fit(x, t)
    controls, pairs = np.flatnonzero(~t).tolist(), []
    for i in np.flatnonzero(t).tolist():
        pairs += [[i, j] for j in possible(x, i, controls, calipers, limit or np.inf)[:ratio]]
    assert m.pairs_.tolist() == pairs
    assert m.dropped_.tolist() == sorted(set(np.flatnonzero(t).tolist()) - {i for i, _ in pairs})
    assert (len(m.dropped_) > 0) == (calipers != {1: 0.25} or limit is not None)


def test_all_partners_as_near_as_the_last_share() -> None:
    x, t = study()
    x[:, 2] = 0
    m = Matching("ATE", metric="euclidean", calipers={0: 0.5, 1: 0.25}).fit(x, t)
    pairs = set()
    for i in range(len(x)):
        near = possible(x, i, np.flatnonzero(t != t[i]).tolist(), {0: 0.5, 1: 0.25})
        far = [round(float(np.linalg.norm(x[i] - x[j])), 9) for j in near]
        pairs |= {(i, j) for j, d in zip(near, far, strict=True) if d == far[0]}
    assert set(map(tuple, m.pairs_.tolist())) == pairs and len(pairs) > len({i for i, _ in pairs})


@pytest.mark.parametrize("calipers", [CALIPERS, {2: 0.3}])
@pytest.mark.parametrize(("ratio", "limit"), [(1, None), (2, 0.9)])
def test_without_replacement_the_best_that_is_left_is_taken(
    calipers: dict[int, float], ratio: int, limit: float | None
) -> None:
    x, t = study()
    how = {"metric": "euclidean", "ratio": ratio, "calipers": calipers, "caliper": limit}
    m = Matching(replacement=False, order="data", **how).fit(x, t)  # type: ignore[arg-type]
    free, pairs = np.flatnonzero(~t).tolist(), []
    for _ in range(ratio):
        for i in np.flatnonzero(t).tolist():
            if near := possible(x, i, free, calipers, limit or np.inf):
                free.remove(near[0])
                pairs.append([i, near[0]])
    assert m.pairs_.tolist() == pairs
    assert m.distances_ == pytest.approx([np.linalg.norm(x[i] - x[j]) for i, j in pairs])


def test_the_optimal_pairs_are_the_most_and_then_the_nearest_within_calipers() -> None:
    x, t = study(11)
    t[:] = np.arange(11) % 3 == 0
    calipers = {0: 0.6, 1: 0.6}
    m = Matching(metric="euclidean", replacement=False, order="data", optimal=True, calipers=calipers).fit(x, t)
    a, b = np.flatnonzero(t).tolist(), np.flatnonzero(~t).tolist()
    allowed = {i: set(possible(x, i, b, calipers)) for i in a}
    ways = []
    for chosen in permutations(b, len(a)):
        far = [float(np.linalg.norm(x[i] - x[j])) for i, j in zip(a, chosen, strict=True) if j in allowed[i]]
        ways.append((-len(far), sum(far)))
    most, least = min(ways)
    assert 0 < len(m.pairs_) == -most < len(a) and m.distances_.sum() == pytest.approx(least)


def test_calipers_that_leave_nobody_are_refused() -> None:
    x, t = study()
    with pytest.raises(UserError, match="no unit has a partner within the calipers: widen them"):
        Matching(calipers={2: 1e-9}, replacement=False).fit(x, t)
    with pytest.raises(UserError, match="of exact within the calipers: match on fewer of them or widen them"):
        Matching(calipers={1: 0.1}, exact=(2,)).fit(x, t)
