"""Matching without replacement: greedy, or optimal by total distance."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from contrastkit.causal.matching.limits import Calipers
from contrastkit.causal.matching.metric import Pairs, slack
from contrastkit.errors import UserError
from contrastkit.tables.checks import Bools, Floats
from contrastkit.tables.ties import levels

MOST_DISTANCES = 2e8  # limit that fits in memory


def greedy(z: Floats, a: NDArray[Any], b: NDArray[Any], k: int, limit: float, calipers: Calipers) -> Pairs:
    """Each unit of a in turn takes the nearest free one of b: first one for each unit, then the second, ... up to k.

    Args:
        z: coordinates [n, d]. a, b: rows of z. limit: maximum distance of a partner. calipers: of covariates.
    """
    if calipers:
        return _within(z, a, b, k, limit, calipers)
    return (_on_a_line if z.shape[1] == 1 else _in_space)(z, a, b, k, limit)


class _Free:
    """The free ones of n places; finds the nearest free place on either side in almost constant time."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.taken = [False] * n
        self.below, self.above = list(range(-1, n - 1)), list(range(1, n + 1))  # where to continue from a taken place

    def at_or_below(self, p: int) -> int:
        """The nearest free place at or below p, -1 if none."""
        taken, root = self.taken, p
        while root >= 0 and taken[root]:
            root = self.below[root]
        while p != root:
            self.below[p], p = root, self.below[p]
        return root

    def at_or_above(self, p: int) -> int:
        """The nearest free place at or above p, n if none."""
        taken, root = self.taken, p
        while root < self.n and taken[root]:
            root = self.above[root]
        while p != root:
            self.above[p], p = root, self.above[p]
        return root


def _on_a_line(z: Floats, a: NDArray[Any], b: NDArray[Any], k: int, limit: float) -> Pairs:
    """In one dimension, in n log n time. Partners of equal score lie side by side, in the order of the data."""
    equal = slack(z)
    level = levels(z[b, 0], equal)
    order = np.argsort(level, kind="stable")
    lead = np.searchsorted(level[order], level[order])  # the place of the first of equals
    line = z[b[order[lead]], 0]
    score, first, rows = line.tolist(), lead.tolist(), b[order].tolist()
    units = list(zip(a.tolist(), z[a, 0].tolist(), np.searchsorted(line, z[a, 0]).tolist(), strict=True))
    places, n, reach = _Free(len(b)), len(b), limit + equal
    i, j = [], []
    for _ in range(k):
        for unit, own, above in units:
            low, high = places.at_or_below(above - 1), places.at_or_above(above)
            if low >= 0 and first[low] != low:
                low = places.at_or_above(first[low])
            to_low = own - score[low] if low >= 0 else np.inf
            to_high = score[high] - own if high < n else np.inf
            if to_low < to_high - equal:
                place, far = low, to_low
            elif to_high < to_low - equal:
                place, far = high, to_high
            elif low < 0:  # none is left
                break
            else:
                place, far = (low, to_low) if rows[low] < rows[high] else (high, to_high)
            if far <= reach:
                places.taken[place] = True
                i.append(unit)
                j.append(rows[place])
    unit, partner = np.array(i, int), np.array(j, int)
    return unit, partner, np.abs(z[unit, 0] - z[partner, 0])


def _in_space(z: Floats, a: NDArray[Any], b: NDArray[Any], k: int, limit: float) -> Pairs:
    """In any dimension. The number of candidates doubles while all of them are taken; the tree is rebuilt from the free
    rows whenever half of its rows are taken."""
    left, rows = np.ones(len(b), bool), np.arange(len(b))
    tree, taken = cKDTree(z[b]), 0  # of the tree's rows
    equal = slack(z)
    bound = limit + equal
    i, j = [], []
    for _ in range(k):
        for unit in a.tolist():
            if taken * 2 > len(rows):
                rows = np.flatnonzero(left)
                if not len(rows):
                    break
                tree, taken = cKDTree(z[b[rows]]), 0
            want = min(8, len(rows))
            while True:
                distance, near = tree.query(z[unit], k=np.arange(1, want + 1), distance_upper_bound=bound)
                inside = near < len(rows)  # the others lie beyond the bound
                free = inside & left[rows[np.where(inside, near, 0)]]
                if free.any() or want == len(rows) or not inside.all():
                    break
                want = min(2 * want, len(rows))
            if free.any():
                place = int(free.argmax())
                row, reach = int(rows[near[place]]), distance[place] + equal
                if distance[min(place + 1, want - 1)] <= reach:  # others may be as near
                    alike = near[free & (distance <= reach)]
                    if distance[-1] <= reach and want < len(rows):  # more of them than candidates
                        alike = np.array(tree.query_ball_point(z[unit], reach), int)
                        alike = alike[left[rows[alike]]]
                    row = int(rows[alike].min())
                left[row] = False
                taken += 1
                i.append(unit)
                j.append(int(b[row]))
    pairs = np.array(i, int), np.array(j, int)
    return *pairs, np.linalg.norm(z[pairs[0]] - z[pairs[1]], axis=1)


def _within(z: Floats, a: NDArray[Any], b: NDArray[Any], k: int, limit: float, calipers: Calipers) -> Pairs:
    """Within calipers of covariates: each unit looks at all free units within them."""
    window, free, equal = calipers.window(b), np.ones(len(b), bool), slack(z)
    i, j, d = [], [], []
    for _ in range(k):
        for unit in a.tolist():
            places = window.around(unit)
            places = places[free[places]]
            distance = np.linalg.norm(z[b[places]] - z[unit], axis=1)
            if len(places) and distance.min() <= limit + equal:
                nearest = int(np.argmax(distance <= distance.min() + equal))  # the first in the data
                free[places[nearest]] = False
                i.append(unit)
                j.append(int(b[places[nearest]]))
                d.append(float(distance[nearest]))
    return np.array(i, int), np.array(j, int), np.array(d)


def optimal(z: Floats, a: NDArray[Any], b: NDArray[Any], limit: float, calipers: Calipers) -> Pairs:
    """The pairs of least total distance among the largest number of pairs within the limit and the calipers."""
    distance, cost, inside = distances(z, a, b, limit, calipers, instead="match greedily")
    forbidden = (cost[inside].max(initial=0) + 1) * (min(len(a), len(b)) + 1)  # exceeds what other pairs could save
    rows, columns = linear_sum_assignment(np.where(inside, cost, forbidden))
    kept = inside[rows, columns]
    rows, columns = rows[kept], columns[kept]
    return a[rows], b[columns], distance[rows, columns]


def distances(
    z: Floats, a: NDArray[Any], b: NDArray[Any], limit: float, calipers: Calipers, *, instead: str
) -> tuple[Floats, Floats, Bools]:
    """All distances between rows a [m] and b [k] of z; the same in whole multiples of what is rounding, whose sums are
    exact, so that equally good solutions are so on any machine; and which are within the limit and the calipers. [m, k]
    each.

    Args:
        instead: what to do where they do not fit in memory, for the message.

    Raises:
        UserError: they do not.
    """
    if len(a) * len(b) > MOST_DISTANCES:
        raise UserError(
            f"optimal matching of {len(a)} with {len(b)} units needs {len(a) * len(b):.1g} distances: {instead}"
        )
    distance, equal = cdist(z[a], z[b]), slack(z)
    inside = distance <= limit + equal
    if calipers:
        inside &= calipers.inside(a, b)
    return distance, np.rint(distance / (equal or 1.0)), inside
