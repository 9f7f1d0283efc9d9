"""Matching: to each unit of one arm the nearest of the other (Stuart 2010 is a review; MatchIt the model)."""

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from scipy.stats import rankdata
from sklearn.base import BaseEstimator, clone
from sklearn.neighbors import NearestNeighbors

from contrastkit.causal.names import Order, PairMetric
from contrastkit.causal.propensity import Propensity
from contrastkit.causal.study import Floats, covariates, population, treatment
from contrastkit.errors import UserError

MANY = 8  # dimensions
PAIRS = 20_000_000  # that are held
TIE = 1e-10  # distances that differ by this share of the largest coordinate, by rounding that is, are the same


class Matching(BaseEstimator):
    """Nearest-neighbour matching.

    ATT looks up a control for every treated unit, ATC a treated one for every control, ATE both. A unit with nobody
    within the caliper, or with nobody left, is dropped: the effect is then that on the matched, as ``estimand_`` says.

    Args:
        estimand: ATT, ATC, or ATE (with replacement only).
        metric: what is near. ``logit`` (of the propensity score) and ``propensity``; ``mahalanobis``, with the pooled
            covariance within the groups (MatchIt's; a pseudo-inverse, so all dummies of a factor may stay); ``robust``,
            the same of the ranks, with the variances of untied ones (Rosenbaum 2010, Sec. 8.3); ``scaled``, by the
            standard deviation of each column (the inverse-variance metric); ``euclidean``; ``cosine``, for embeddings.
        ratio: partners of each unit: first one for all, then the second, ...
        replacement: a partner may serve again. Otherwise ``order`` decides who chooses first, by the propensity score
            (largest, smallest), at random (``seed``) or as the rows stand.
        ties: with replacement, keep all partners that are as near as the last, each with its share of the weight (as
            R's Matching does, and the standard errors of Abadie and Imbens have it); else the first in the data.
        caliper: nothing farther is a partner: in standard deviations of the metric's score for ``logit`` (0.2: Austin
            2011) and ``propensity``, in units of the distance otherwise.
        exact: numbers of columns of X on which partners must agree.
        optimal: the least sum of distances over all pairs instead of one choice after the other; for ratio 1, without
            replacement. It holds all distances at once: n_treated x n_control numbers.
        propensity: the model of the score.
        seed: of ``order="random"``.

    Attributes:
        pairs_: int64 [m, 2], the rows of a unit and of a partner. shares_: float64 [m], the partner's share in its unit
            (1 over the number of partners). distances_: float64 [m].
        weights_: float64 [n], with mean 1 over the units of each arm that have some; 0 for those left out.
        dropped_: int64, the rows of units that found nobody. estimand_: what is estimated after that.
    """

    def __init__(
        self,
        estimand: Literal["ATT", "ATC", "ATE"] = "ATT",
        *,
        metric: PairMetric = "logit",
        ratio: int = 1,
        replacement: bool = True,
        order: Order = "largest",
        ties: bool = True,
        caliper: float | None = None,
        exact: tuple[int, ...] = (),
        optimal: bool = False,
        propensity: Propensity | None = None,
        seed: int = 0,
    ) -> None:
        self.estimand = estimand
        self.metric = metric
        self.ratio = ratio
        self.replacement = replacement
        self.order = order
        self.ties = ties
        self.caliper = caliper
        self.exact = exact
        self.optimal = optimal
        self.propensity = propensity
        self.seed = seed

    def fit(self, X: Any, T: ArrayLike) -> Self:
        x, _ = covariates(X)
        t = treatment(T, len(x))
        if self.ratio < 1:
            raise UserError(f"a unit has at least one partner, not {self.ratio}: raise the ratio")
        if self.optimal and (self.replacement or self.ratio > 1 or self.estimand == "ATE"):
            raise UserError("optimal matching pairs one with one: without replacement, ratio 1, ATT or ATC")
        if self.estimand == "ATE" and not self.replacement:
            raise UserError(
                "the ATE wants every unit matched, which takes replacement: ask for the ATT, or with replacement"
            )
        self.propensity_ = None
        in_turn = not (self.replacement or self.optimal)
        if self.metric in ("logit", "propensity") or (self.order in ("largest", "smallest") and in_turn):
            self.propensity_ = clone(Propensity() if self.propensity is None else self.propensity).fit(x, t)
        z, limit = self._space(x, t)
        z = z - z.mean(0)
        found = []
        asked = population(self.estimand, t)
        for units in (arm & asked for arm in (t, ~t) if (arm & asked).any()):
            found.extend(self._within_strata(x, z, units, limit))
        i, j, d = (np.concatenate(part) if part else np.empty(0, int) for part in zip(*found, strict=True))
        if not len(i):
            raise UserError("no unit has a partner within the caliper: widen it")
        self.pairs_, self.distances_ = np.stack([i, j], axis=1).astype(np.int64), d.astype(np.float64)
        partners = np.bincount(i, minlength=len(x))
        self.shares_ = 1 / partners[i]
        self.dropped_ = np.flatnonzero(asked & (partners == 0))
        self.estimand_ = f"{self.estimand} of the matched" if len(self.dropped_) else self.estimand
        used = np.bincount(j, self.shares_, minlength=len(x))
        w = used + (partners > 0)
        self.weights_ = w.astype(np.float64)
        for arm in (t, ~t):
            self.weights_[arm] *= (w[arm] > 0).sum() / w[arm].sum()
        return self

    def _space(self, x: Floats, t: NDArray[np.bool_]) -> tuple[Floats, float]:
        """Coordinates [n, k] whose Euclidean distance is the metric, and the caliper on it."""
        limit = np.inf if self.caliper is None else self.caliper
        if self.metric in ("logit", "propensity"):
            assert self.propensity_ is not None
            score = self.propensity_.logit_ if self.metric == "logit" else self.propensity_.scores_
            return score[:, None], limit * score.std(ddof=1)
        if self.metric == "cosine":  # |a - b|^2 = 2 (1 - cos)
            length = np.linalg.norm(x, axis=1, keepdims=True)
            if not length.all():
                raise UserError("a row of zeros has no direction: leave it out, or use another metric than cosine")
            return x / length, limit
        if self.metric == "euclidean":
            return x, limit
        if self.metric == "scaled":
            sd = x.std(0, ddof=1)
            return x / np.where(sd > 0, sd, 1), limit
        if self.metric == "robust":
            x = rankdata(x, axis=0)
        if len(x) < 3:
            raise UserError(f"a covariance within the groups takes more than {len(x)} units")
        apart = np.where(t[:, None], x - x[t].mean(0), x - x[~t].mean(0))
        sd = np.sqrt((apart**2).sum(0) / (len(x) - 2))
        sd[sd <= 1e-13 * np.abs(x).max(0)] = np.inf  # the same for all of a group: no part of the distance
        values, vectors = np.linalg.eigh((apart / sd).T @ (apart / sd) / (len(x) - 2))
        good = values > values.max() * 1e-10  # of correlations, lest units decide what is too small to count
        if self.metric == "robust":
            sd[np.isfinite(sd)] = np.sqrt(len(x) * (len(x) + 1) / 12)  # of untied ranks
        return (x / sd) @ (vectors[:, good] / np.sqrt(values[good])), limit

    def _within_strata(self, x: Floats, z: Floats, units: NDArray[np.bool_], limit: float) -> list[Any]:
        """Unit, partner and distance of each pair, stratum by stratum of ``exact``."""
        if not self.exact:
            return [self._pairs(z, np.flatnonzero(units), np.flatnonzero(~units), limit)]
        stratum = np.unique(x[:, list(self.exact)], axis=0, return_inverse=True)[1].reshape(-1)
        order = np.argsort(stratum, kind="stable")
        cuts = np.flatnonzero(np.diff(stratum[order])) + 1
        found = []
        for rows in np.split(order, cuts):
            here, there = rows[units[rows]], rows[~units[rows]]
            if len(here) and len(there):
                found.append(self._pairs(z, here, there, limit))
        return found or [(np.empty(0, int), np.empty(0, int), np.empty(0))]

    def _pairs(self, z: Floats, a: NDArray[Any], b: NDArray[Any], limit: float) -> tuple[Any, Any, Any]:
        if self.optimal:
            return _optimal(z, a, b, limit)
        if self.replacement:
            return _nearest(z, a, b, self.ratio, limit, ties=self.ties)
        if self.order == "data":
            turn = np.arange(len(a))
        elif self.order == "random":
            turn = np.random.default_rng(self.seed).permutation(len(a))
        else:
            assert self.propensity_ is not None
            e = self.propensity_.scores_[a]
            turn = np.argsort(-e if self.order == "largest" else e, kind="stable")
        found = _greedy_line if z.shape[1] == 1 else _greedy
        return found(z, a[turn], b, self.ratio, limit)


def _nearest(
    z: Floats, a: NDArray[Any], b: NDArray[Any], k: int, limit: float, *, ties: bool
) -> tuple[NDArray[Any], NDArray[Any], Floats]:
    """The k nearest of b for each of a, and with ``ties`` all that are as near as the k-th."""
    slack, k = TIE * np.abs(z).max(), min(k, len(b))
    near = _near_line if z.shape[1] == 1 else _near_tree if z.shape[1] <= MANY else _near_all
    row, column = near(z[a], z[b], k, limit, slack)
    unit, partner = a[row], b[column]
    distance = np.linalg.norm(z[unit] - z[partner], axis=1)
    if not ties:
        order = np.lexsort((partner, distance, row))
        count = np.bincount(row, minlength=len(a))
        rank = np.arange(len(order)) - np.repeat(np.cumsum(count) - count, count)
        keep = order[rank < k]
        unit, partner, distance = unit[keep], partner[keep], distance[keep]
    return unit, partner, distance


def _hold(pairs: int) -> None:
    """Refuse more pairs than are held: where covariates have few values, a unit has partners as many as twins."""
    if pairs > PAIRS:
        raise UserError(f"{pairs:,} pairs are equally near: match without ties, on more covariates, or coarsened")


def _near_tree(u: Floats, v: Floats, k: int, limit: float, slack: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Pairs (row of u, row of v) of all that are within ``slack`` as near as the k-th nearest, and within the limit."""
    tree = cKDTree(v)
    reach = np.minimum(tree.query(u, k=[k], workers=-1)[0][:, 0], limit) + slack
    _hold(int(tree.query_ball_point(u, reach, workers=-1, return_length=True).sum()))
    rows, columns = [], []
    for start in range(0, len(u), 4096):  # a piece at a time: lists of numbers are large
        near = tree.query_ball_point(u[start : start + 4096], reach[start : start + 4096], workers=-1)
        count = np.fromiter(map(len, near), int, len(near))
        rows.append(start + np.repeat(np.arange(len(near)), count))
        columns.append(np.concatenate([np.asarray(part, int) for part in near]))
    return np.concatenate(rows), np.concatenate(columns)


def _near_all(u: Floats, v: Floats, k: int, limit: float, slack: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """The same from all distances: in many dimensions a tree looks at all of them too, and slower. More candidates than
    k are asked for, and twice as many where the last of them may still be as near as the k-th."""
    centre = v.mean(0)
    u, v = u - centre, v - centre
    blur = 1e-6 * max(float(np.abs(u).max()), float(np.abs(v).max()))  # of distances that are differences of squares
    brute = NearestNeighbors(algorithm="brute").fit(v)
    rows, columns = [], []
    todo = [(np.arange(len(u)), min(k + 4, len(v)))]
    while todo:
        left, want = todo.pop()
        size = max(1, 8_000_000 // (want * v.shape[1]))
        for part in np.split(left, range(size, len(left), size)):
            column = brute.kneighbors(u[part], want, return_distance=False)
            distance = np.linalg.norm(u[part, None] - v[column], axis=2)
            reach = np.minimum(np.partition(distance, k - 1, axis=1)[:, k - 1], limit) + slack
            done = (distance.max(1) > reach + blur) | (want == len(v))
            row, place = np.nonzero((distance <= reach[:, None]) & done[:, None])
            rows.append(part[row])
            columns.append(column[row, place])
            _hold(sum(map(len, rows)))
            if not done.all():
                todo.append((part[~done], min(2 * want, len(v))))
    row = np.concatenate(rows)
    by = np.argsort(row, kind="stable")
    return row[by], np.concatenate(columns)[by]


def _near_line(u: Floats, v: Floats, k: int, limit: float, slack: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """The same on a line, where those within reach lie side by side."""
    order = np.argsort(v[:, 0], kind="stable")
    score, own = v[order, 0], u[:, 0]
    beside = np.searchsorted(score, own)[:, None] + np.arange(-k, k)
    inside = (beside >= 0) & (beside < len(score))
    distance = np.where(inside, np.abs(score[np.where(inside, beside, 0)] - own[:, None]), np.inf)
    reach = np.minimum(np.partition(distance, k - 1, axis=1)[:, k - 1], limit) + slack
    low, high = np.searchsorted(score, own - reach), np.searchsorted(score, own + reach, side="right")
    count = high - low
    _hold(int(count.sum()))
    ends = np.cumsum(count)
    return np.repeat(np.arange(len(u)), count), order[np.arange(ends[-1]) - np.repeat(ends - count - low, count)]


def _greedy_line(
    z: Floats, a: NDArray[Any], b: NDArray[Any], k: int, limit: float
) -> tuple[NDArray[Any], NDArray[Any], Floats]:
    """Each of a in turn takes the nearest of b that is left, on a line: n log n, however many are taken. Of two as
    near that is the lower score."""
    order = np.argsort(z[b, 0], kind="stable")
    score = z[b, 0][order].tolist()
    n = len(score)
    below, above = list(range(-1, n - 1)), list(range(1, n + 1))  # where to look on from a place that is taken
    free = [True] * n
    start = np.searchsorted(z[b, 0][order], z[a, 0]).tolist()

    def left(p: int) -> int:
        root = p
        while root >= 0 and not free[root]:
            root = below[root]
        while p >= 0 and not free[p]:
            below[p], p = root, below[p]
        return root

    def right(p: int) -> int:
        root = p
        while root < n and not free[root]:
            root = above[root]
        while p < n and not free[p]:
            above[p], p = root, above[p]
        return root

    i, j, d = [], [], []
    for _ in range(k):
        for unit, at in zip(a.tolist(), start, strict=True):
            own = z[unit, 0]
            low, high = left(at - 1), right(at)
            far = min(
                (own - score[low], low) if low >= 0 else (np.inf, n),
                (score[high] - own, high) if high < n else (np.inf, n),
            )
            if far[1] < n and far[0] <= limit:
                free[far[1]] = False
                i.append(unit)
                j.append(int(b[order[far[1]]]))
                d.append(float(far[0]))
    return np.array(i, int), np.array(j, int), np.array(d)


def _greedy(
    z: Floats, a: NDArray[Any], b: NDArray[Any], k: int, limit: float
) -> tuple[NDArray[Any], NDArray[Any], Floats]:
    """The same in any dimension, of equals the first that the tree gives: candidates are twice as many where all of
    them are taken; the tree is planted anew of those that are left when half are gone."""
    left, rows = np.ones(len(b), bool), np.arange(len(b))
    tree, gone = cKDTree(z[b]), 0  # of the tree
    reach = limit + TIE * np.abs(z).max()
    i, j, d = [], [], []
    for _ in range(k):
        for unit in a.tolist():
            if gone * 2 > len(rows):
                rows = np.flatnonzero(left)
                if not len(rows):
                    break
                tree, gone = cKDTree(z[b[rows]]), 0
            want = min(8, len(rows))
            while True:
                distance, near = tree.query(z[unit], k=np.arange(1, want + 1), distance_upper_bound=reach)
                found = near < len(rows)  # others lie beyond the reach
                open_ = found & left[rows[np.where(found, near, 0)]]
                if open_.any() or want == len(rows) or not found.all():
                    break
                want = min(2 * want, len(rows))
            if open_.any():
                first = int(np.flatnonzero(open_)[0])
                row = int(rows[near[first]])
                left[row] = False
                gone += 1
                i.append(unit)
                j.append(int(b[row]))
                d.append(float(distance[first]))
    return np.array(i, int), np.array(j, int), np.array(d)


def _optimal(z: Floats, a: NDArray[Any], b: NDArray[Any], limit: float) -> tuple[NDArray[Any], NDArray[Any], Floats]:
    """The pairs of least total distance among the largest number of pairs within the limit."""
    if len(a) * len(b) > 2e8:
        raise UserError(
            f"optimal matching of {len(a)} with {len(b)} holds {len(a) * len(b):.1g} distances: match greedily"
        )
    distance = cdist(z[a], z[b])
    finite = np.where(distance <= limit, distance, 0).max()
    barred = (finite + 1) * (min(len(a), len(b)) + 1)  # costs more than any change of the others could win
    rows, columns = linear_sum_assignment(np.where(distance <= limit, distance, barred))
    kept = distance[rows, columns] <= limit
    return a[rows[kept]], b[columns[kept]], distance[rows[kept], columns[kept]]
