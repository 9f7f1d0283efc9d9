"""Standard errors of a Kaplan-Meier curve at all of its times, in time and memory linear in units and times.

Let S(t) be the curve, and H(t) the sum of d_j/(Y_j (Y_j - d_j)) over the times t_j <= t of events. A unit moves S(t) by
S(t) w_i H(t) until its own time, and then by S(t) times what stays as it is. So sums over units are those over the
units whose times are not later than t, and H(t) or its square times those over the others: cumulative sums from either
end. :func:`contrastkit.causal.estimate.weighted.carried` finds the influences themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrastkit.causal.estimate.base import Judge, welch
from contrastkit.causal.estimate.censored import KaplanMeier
from contrastkit.causal.weighting.equations import Equations, leverages
from contrastkit.tables.checks import Floats


@dataclass(frozen=True, eq=False)
class Bands:
    """How far units move an estimate whose derivatives by log w_i are ``own`` [n]: kept * own + through @ (reach' own).

    Attributes:
        kept: float64 [n]. reach, through: float64 [n, k]; k is 0 for weights that are given.
    """

    judge: Judge
    kept: Floats
    reach: Floats
    through: Floats

    @classmethod
    def of(cls, judge: Judge, equations: Sequence[Equations]) -> "Bands":
        """Under weights that solve these equations."""
        leverage = np.empty_like(judge.w)
        for arm in judge.arms:
            leverage[arm] = judge.w[arm] / judge.w[arm].sum()
        projected = [leverages(e.A, e.curvature) for e in equations]
        for _, pull in projected:
            leverage = np.maximum(leverage, pull)
        grown = leverage / (1 - leverage)
        reach, through = [np.empty((len(grown), 0))], [np.empty((len(grown), 0))]
        for e, (rows, _) in zip(equations, projected, strict=True):
            reach.append(e.A * e.slope[:, None])
            through.append(rows * (e.score - np.sign(e.slope) * e.curvature * grown)[:, None])
        return cls(judge, 1 + grown, np.hstack(reach), np.hstack(through))

    def errors(self, curve: KaplanMeier, t: Floats) -> tuple[Floats, Floats]:
        """The standard errors of the curve of an arm at times t [K], and their degrees of freedom [K]."""
        walk, groups = _Walk.of(curve, t), self.judge.groups
        kept, reach = self.kept[walk.order], self.reach[walk.order]
        shared = self.through
        if groups is not None:
            sums = np.zeros((groups.max() + 1, shared.shape[1]))
            np.add.at(sums, groups, shared)
            shared = sums[groups]
        own, cross = walk.square(kept, groups), np.zeros(len(t))
        moved = np.empty((len(t), reach.shape[1]))  # reach' own
        for j, column in enumerate(shared[walk.order].T):
            moved[:, j] = walk.sum(reach[:, j])
            cross += moved[:, j] * walk.sum(kept * column)
        if groups is not None:
            variance = own + 2 * cross + _quadratic(moved, sums)
            correction = len(sums) / (len(sums) - 1)
            return walk.survival * np.sqrt(np.maximum(variance, 0) * correction), np.full(len(t), len(sums) - 1.0)
        arms = self.judge.arms
        variances = np.stack([_quadratic(moved, self.through[arm]) for arm in arms])
        variances[[bool(arm[walk.order[0]]) for arm in arms]] += own + 2 * cross
        variances = np.maximum(variances, 0)  # rounding
        return walk.survival * np.sqrt(variances.sum(0)), welch(variances, arms, self.judge.w)


@dataclass(frozen=True, eq=False)
class _Walk:
    """Sums over the units of a curve, by time; all are divided by S(t), or by its square.

    Attributes:
        order: int64 [n'], the units, earliest first. weight: float64 [n'], how far each moves S(t) before its time, by
            H(t). settled: float64 [n'], how far since then.
        passed: int64 [K], how many units have times not later than t. growth, survival: float64 [K], H and S.
    """

    order: NDArray[np.int64]
    weight: Floats
    settled: Floats
    passed: NDArray[np.int64]
    growth: Floats
    survival: Floats

    @classmethod
    def of(cls, curve: KaplanMeier, t: Floats) -> "_Walk":
        order = np.argsort(curve.times, kind="stable")
        order = order[curve.w[order] > 0]
        times, w = curve.times[order], curve.w[order]
        growth = np.append(0.0, (curve.d / (curve.risk * curve.left)).cumsum())
        before = np.searchsorted(curve.at, times, side="right")
        settled = growth[before] - np.where(curve.events[order], 1 / curve.left[np.maximum(before - 1, 0)], 0.0)
        passed = np.searchsorted(times, t, side="right")
        reached = growth[np.searchsorted(curve.at, t, side="right")]
        return cls(order, w, w * settled, passed, reached, curve.shares(t))

    def sum(self, x: Floats) -> Floats:
        """The sum over the units of x [n'] times how far they move S, [K]."""
        return self._past(x * self.settled) + self.growth * self._ahead(x * self.weight)

    def square(self, x: Floats, groups: Any) -> Floats:
        """The sum of squares of x [n'] times how far units move S, or of its sums within groups [n], [K]."""
        c, r = x * self.settled, x * self.weight
        if groups is None:
            return self._past(c**2) + self.growth**2 * self._ahead(r**2)
        of = groups[self.order]
        past, ahead = _within(c, of), _within(r[::-1], of[::-1])[::-1]  # of the group, with this unit
        mixed = past * (ahead - r) - (past - c) * ahead  # by which past * ahead changes at the unit's time
        once = self._past(c * (2 * past - c)) + 2 * self.growth * self._past(mixed)
        squares: Floats = once + self.growth**2 * self._ahead(r * (2 * ahead - r))
        return squares

    def _past(self, x: Floats) -> Floats:
        return np.append(0.0, x.cumsum())[self.passed]

    def _ahead(self, x: Floats) -> Floats:
        return np.append(x[::-1].cumsum()[::-1], 0.0)[self.passed]


def _quadratic(b: Floats, rows: Floats) -> Floats:
    """The sum of squares of b [K, k] times each of the rows [., k], [K]."""
    squares: Floats = np.einsum("ki,ki->k", b @ (rows.T @ rows), b)
    return squares


def _within(x: Floats, groups: NDArray[np.int64]) -> Floats:
    """Cumulative sums within groups."""
    import pandas as pd  # slow to import

    return np.asarray(pd.Series(x).groupby(groups, sort=False).cumsum(), np.float64)
