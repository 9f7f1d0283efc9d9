"""Nearest partners, with replacement."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from sklearn.neighbors import NearestNeighbors

from contrastkit.causal.matching.limits import Calipers
from contrastkit.causal.matching.metric import Pairs, slack
from contrastkit.errors import UserError
from contrastkit.tables.checks import Floats

TREE_DIMENSIONS = 8  # in more dimensions a tree visits all points too
MOST_PAIRS = 20_000_000  # limit that fits in memory


def nearest(
    z: Floats, a: NDArray[Any], b: NDArray[Any], k: int, limit: float, calipers: Calipers, *, ties: bool
) -> Pairs:
    """The k nearest of b for each of a. With ``ties``, also all that are as near as the k-th; without, the first in the
    data of those equally near.

    Args:
        z: coordinates [n, d]. a, b: rows of z. limit: maximum distance of a partner. calipers: of covariates.
    """
    equal, k = slack(z), min(k, len(b))
    near = _near_line if z.shape[1] == 1 else _near_tree if z.shape[1] <= TREE_DIMENSIONS else _near_all
    row, column = _near_within(z, a, b, k, limit, calipers) if calipers else near(z[a], z[b], k, limit, equal)
    partner = b[column]
    distance = np.linalg.norm(z[a[row]] - z[partner], axis=1)
    if not ties:
        first = _first(row, partner, distance, k, equal)
        row, partner, distance = row[first], partner[first], distance[first]
    return a[row], partner, distance


def _first(row: NDArray[Any], partner: NDArray[Any], distance: Floats, k: int, equal: float) -> NDArray[Any]:
    """The positions of k pairs for each row: the nearest, and the first in the data of those equally near."""
    order = np.lexsort((distance, row))
    farther = (np.diff(row[order], prepend=-1) != 0) | (np.diff(distance[order], prepend=0.0) > equal)
    step = np.cumsum(farther)  # equal for distances that differ only by rounding
    order = order[np.lexsort((partner[order], step))]
    count = np.bincount(row)
    rank = np.arange(len(order)) - np.repeat(np.cumsum(count) - count, count)
    return order[rank < k]


def _near_within(
    z: Floats, a: NDArray[Any], b: NDArray[Any], k: int, limit: float, calipers: Calipers
) -> tuple[NDArray[Any], NDArray[Any]]:
    """As :func:`_near_tree`, of the partners within calipers of covariates."""
    window, equal = calipers.window(b), slack(z)
    columns = [np.empty(0, int)]
    for unit in a.tolist():
        places = window.around(unit)
        distance = np.linalg.norm(z[b[places]] - z[unit], axis=1)
        last = np.partition(distance, k - 1)[k - 1] if len(places) > k else np.inf
        columns.append(places[distance <= min(last, limit) + equal])
    return np.repeat(np.arange(len(a)), [len(column) for column in columns[1:]]), np.concatenate(columns)


def _check_size(pairs: int) -> None:
    """Refuse more pairs than fit in memory: with few distinct covariate values, units have many tied partners."""
    if pairs > MOST_PAIRS:
        raise UserError(f"{pairs:,} pairs are equally near: match without ties, on more covariates, or coarsened")


def _near_tree(u: Floats, v: Floats, k: int, limit: float, equal: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """All pairs (row of u, row of v) as near as the k-th nearest, within ``equal``, and within the limit."""
    tree = cKDTree(v)
    reach = np.minimum(tree.query(u, k=[k], workers=-1)[0][:, 0], limit) + equal
    _check_size(int(tree.query_ball_point(u, reach, workers=-1, return_length=True).sum()))
    rows, columns = [], []
    for start in range(0, len(u), 4096):  # in chunks: lists of Python integers are large
        near = tree.query_ball_point(u[start : start + 4096], reach[start : start + 4096], workers=-1)
        count = np.fromiter(map(len, near), int, len(near))
        rows.append(start + np.repeat(np.arange(len(near)), count))
        columns.append(np.concatenate([np.asarray(part, int) for part in near]))
    return np.concatenate(rows), np.concatenate(columns)


def _near_all(u: Floats, v: Floats, k: int, limit: float, equal: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """The same from all distances: in many dimensions a tree visits all of them too, but slower. Candidates are a few
    more than k at first, and doubled where the last may still be as near as the k-th."""
    centre = v.mean(0)
    u, v = u - centre, v - centre
    blur = 1e-6 * max(
        float(np.abs(u).max()), float(np.abs(v).max())
    )  # error of distances computed as differences of squares
    brute = NearestNeighbors(algorithm="brute").fit(v)
    rows, columns = [], []
    pending = [(np.arange(len(u)), min(k + 4, len(v)))]
    while pending:
        remaining, want = pending.pop()
        size = max(1, 8_000_000 // (want * v.shape[1]))
        for part in np.split(remaining, range(size, len(remaining), size)):
            column = brute.kneighbors(u[part], want, return_distance=False)
            distance = np.linalg.norm(u[part, None] - v[column], axis=2)
            reach = np.minimum(np.partition(distance, k - 1, axis=1)[:, k - 1], limit) + equal
            complete = (distance.max(1) > reach + blur) | (want == len(v))
            row, place = np.nonzero((distance <= reach[:, None]) & complete[:, None])
            rows.append(part[row])
            columns.append(column[row, place])
            _check_size(sum(map(len, rows)))
            if not complete.all():
                pending.append((part[~complete], min(2 * want, len(v))))
    row = np.concatenate(rows)
    by = np.argsort(row, kind="stable")
    return row[by], np.concatenate(columns)[by]


def _near_line(u: Floats, v: Floats, k: int, limit: float, equal: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """The same in one dimension, where all partners within reach are adjacent."""
    order = np.argsort(v[:, 0], kind="stable")
    score, at = v[order, 0], u[:, 0]
    adjacent = np.searchsorted(score, at)[:, None] + np.arange(-k, k)
    inside = (adjacent >= 0) & (adjacent < len(score))
    distance = np.where(inside, np.abs(score[np.where(inside, adjacent, 0)] - at[:, None]), np.inf)
    reach = np.minimum(np.partition(distance, k - 1, axis=1)[:, k - 1], limit) + equal
    low, high = np.searchsorted(score, at - reach), np.searchsorted(score, at + reach, side="right")
    count = high - low
    _check_size(int(count.sum()))
    ends = np.cumsum(count)
    return np.repeat(np.arange(len(u)), count), order[np.arange(ends[-1]) - np.repeat(ends - count - low, count)]
