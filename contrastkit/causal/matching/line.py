"""Optimal full matching by one number, in linear memory."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from contrastkit.tables.checks import Bools, Floats

Best = tuple[float, int]
NONE: Best = (float("inf"), 0)


def line_cover(z: Floats, t: Bools) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The edges between units of different arms of least total distance that reach all units, where distances are those
    of points on a line (Colannino et al. 2007, "Efficient many-to-many point matching in one dimension").

    The points in order are runs of one arm and of the other in turn, and some optimal edges join only neighbouring
    runs: the last r points of one and the first s of the next. These cost their distances to the ends of the gap
    between both runs, and max(r, s) gaps, since one edge serves a point of either side. A dynamic program over the runs
    finds the r and s of all gaps.

    Args:
        z: [n], whole numbers, so that sums are exact.
        t: bool [n], the arm; there are both.

    Returns:
        The ends of each edge, units of ``t`` and of the other arm.
    """
    order = np.lexsort((np.arange(len(z)), t, z))
    bounds = [0, *(np.flatnonzero(np.diff(t[order])) + 1).tolist(), len(z)]
    least, chosen = _solved(z[order].astype(np.int64).tolist(), bounds)
    units, ends = order.tolist(), list[tuple[int, int]]()
    s = len(least) - 1  # of the last run, all points turn back
    for start, b, choices in zip(bounds[-3::-1], bounds[-2:0:-1], reversed(chosen), strict=True):
        r = choices[s]
        for k in range(max(r, s)):  # the k-th nearest of both sides; those beyond the shorter side, with its nearest
            ends.append((units[b - 1 - (k if k < r else 0)], units[b + (k if k < s else 0)]))
        s = b - start - r
    i, j = np.array(ends, np.int64).T
    return np.where(t[i], i, j), np.where(t[i], j, i)


def _solved(place: list[int], bounds: list[int]) -> tuple[list[float], list[list[int]]]:
    """The least cost by s of the last run; and for each gap, by s of the run behind it, the best r of that before it.

    The least cost by s is that of all edges to the left, if the first s points of the run turn left.
    """
    least: list[float] = [0, *[NONE[0]] * (bounds[1] - bounds[0])]
    chosen = []
    for (start, b), (_, end) in pairwise(pairwise(bounds)):
        m, gap = b - start, place[b] - place[b - 1]
        before, aside = [least[m]], 0
        for r in range(1, m + 1):  # the last r points turn right
            aside += place[b - 1] - place[b - r]
            before.append(least[m - r] + aside)
        longer = [NONE] * (m + 2)  # the best r from s on
        for r in range(m, -1, -1):
            longer[r] = min(longer[r + 1], (before[r] + gap * r, r))
        shorter, aside, least, choices = NONE, 0, [], []
        for s in range(end - b + 1):
            if s <= m:
                shorter = min(shorter, (before[s], s))  # the best r up to s
            if s:
                aside += place[b + s - 1] - place[b]
            cost, r = min((shorter[0] + gap * s, shorter[1]), longer[min(s, m + 1)])
            least.append(cost + aside)
            choices.append(r)
        chosen.append(choices)
    return least, chosen
