"""Matching without replacement: greedy, or optimal by total distance."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from contrastkit.causal.matching.metric import Pairs, slack
from contrastkit.errors import UserError
from contrastkit.tables.checks import Floats

MOST_DISTANCES = 2e8  # limit that fits in memory


def greedy(z: Floats, a: NDArray[Any], b: NDArray[Any], k: int, limit: float) -> Pairs:
    """Each unit of a in turn takes the nearest free one of b: first one for each unit, then the second, ... up to k.

    Args:
        z: coordinates [n, d]. a, b: rows of z. limit: maximum distance of a partner.
    """
    return (_on_a_line if z.shape[1] == 1 else _in_space)(z, a, b, k, limit)


class _Free:
    """The free ones of n places; finds the nearest free place on either side in almost constant time."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.taken = [False] * n
        self.below, self.above = list(range(-1, n - 1)), list(range(1, n + 1))  # where to continue from a taken place

    def at_or_below(self, p: int) -> int:
        """The nearest free place at or below p, -1 if none."""
        root = p
        while root >= 0 and self.taken[root]:
            root = self.below[root]
        while p >= 0 and self.taken[p]:
            self.below[p], p = root, self.below[p]
        return root

    def at_or_above(self, p: int) -> int:
        """The nearest free place at or above p, n if none."""
        root = p
        while root < self.n and self.taken[root]:
            root = self.above[root]
        while p < self.n and self.taken[p]:
            self.above[p], p = root, self.above[p]
        return root


def _on_a_line(z: Floats, a: NDArray[Any], b: NDArray[Any], k: int, limit: float) -> Pairs:
    """In one dimension, in n log n time. Of two equally near partners, the one with the lower score is taken."""
    order = np.argsort(z[b, 0], kind="stable")
    score = z[b, 0][order].tolist()
    start = np.searchsorted(z[b, 0][order], z[a, 0]).tolist()
    places, n = _Free(len(score)), len(score)
    i, j, d = [], [], []
    for _ in range(k):
        for unit, at in zip(a.tolist(), start, strict=True):
            score_of_unit = z[unit, 0]
            low, high = places.at_or_below(at - 1), places.at_or_above(at)
            distance, place = min(
                (score_of_unit - score[low], low) if low >= 0 else (np.inf, n),
                (score[high] - score_of_unit, high) if high < n else (np.inf, n),
            )
            if place < n and distance <= limit:
                places.taken[place] = True
                i.append(unit)
                j.append(int(b[order[place]]))
                d.append(float(distance))
    return np.array(i, int), np.array(j, int), np.array(d)


def _in_space(z: Floats, a: NDArray[Any], b: NDArray[Any], k: int, limit: float) -> Pairs:
    """In any dimension; of equally near partners, the first that the tree returns. The number of candidates doubles
    while all of them are taken; the tree is rebuilt from the free rows whenever half of its rows are taken."""
    left, rows = np.ones(len(b), bool), np.arange(len(b))
    tree, taken = cKDTree(z[b]), 0  # of the tree's rows
    bound = limit + slack(z)
    i, j, d = [], [], []
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
                row = int(rows[near[place]])
                left[row] = False
                taken += 1
                i.append(unit)
                j.append(int(b[row]))
                d.append(float(distance[place]))
    return np.array(i, int), np.array(j, int), np.array(d)


def optimal(z: Floats, a: NDArray[Any], b: NDArray[Any], limit: float) -> Pairs:
    """The pairs of least total distance among the largest number of pairs within the limit."""
    if len(a) * len(b) > MOST_DISTANCES:
        raise UserError(
            f"optimal matching of {len(a)} with {len(b)} units needs {len(a) * len(b):.1g} distances: match greedily"
        )
    distance = cdist(z[a], z[b])
    finite = np.where(distance <= limit, distance, 0).max()
    forbidden = (finite + 1) * (min(len(a), len(b)) + 1)  # exceeds what any other assignment could save
    rows, columns = linear_sum_assignment(np.where(distance <= limit, distance, forbidden))
    inside = distance[rows, columns] <= limit
    rows, columns = rows[inside], columns[inside]
    return a[rows], b[columns], distance[rows, columns]
