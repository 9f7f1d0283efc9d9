"""Approximate balancing."""

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from sklearn.base import BaseEstimator

from contrastkit.causal.estimand import population
from contrastkit.causal.weighting.normalise import mean_one
from contrastkit.errors import UserError
from contrastkit.tables.checks import Floats, as_treatment
from contrastkit.tables.covariates import Covariates, scales

ROUNDS = 1000


class ApproximateBalancing(BaseEstimator):
    """Weights that trade balance against evenness: the first step of approximate residual balancing (Athey, Imbens &
    Wager 2018, Eq. 4), whose second is :class:`contrastkit.causal.direct_balancing.ResidualBalancing`.

    g = argmin (1 - zeta) ||g||_2^2 + zeta ||mean_t - X_c'g||_inf^2   subject to  sum g = 1, 0 <= g_i <= n_c^(-2/3),
    on standardised X, by Newton's method on the dual, which has one variable u_j for each covariate, is quadratic
    between the points where a weight reaches a bound, and kinked where u_j = 0: a step ends where it would cross that
    point (as in OWL-QN; Andrew & Gao 2007). The duality gap is checked.

    Args:
        estimand: ATT weights the controls to the means of the treated, ATC the treated to those of the controls.
        zeta: weight of the balance, in (0, 1).

    Attributes:
        weights_: see :mod:`contrastkit.causal.weighting`.
        gap_: the largest remaining difference in means, in standard deviations.
    """

    def __init__(self, estimand: Literal["ATT", "ATC"] = "ATT", *, zeta: float = 0.5) -> None:
        self.estimand = estimand
        self.zeta = zeta

    def fit(self, X: Any, T: ArrayLike) -> Self:
        x = Covariates.of(X).x
        t = as_treatment(T, len(x))
        target = population(self.estimand, t)
        if target.all() or not 0 < self.zeta < 1:
            raise UserError("approximate balancing needs the estimand ATT or ATC, and zeta between 0 and 1")
        g = self._solve((x[~target] - x[target].mean(0)) / scales(x))
        w = np.ones(len(x))
        w[~target] = g
        self.weights_, self.estimand_ = mean_one(w, t), self.estimand
        return self

    def _solve(self, c: Floats) -> Floats:
        """The weights g [n] of rows c [n, p], centred at the target."""
        n, p = c.shape
        u, g, damping = np.zeros(p), np.full(n, 1 / n), 1e-6
        for _ in range(ROUNDS):
            gap, size = c.T @ g, np.abs(u).sum() / (2 * self.zeta)
            self.gap_ = float(np.abs(gap).max(initial=0.0))
            primal, dual = self._primal(g), self._dual(c, u, g)
            if primal - dual <= 1e-9 * primal:
                return g
            slope = np.where(u != 0, size * np.sign(u) - gap, -np.sign(gap) * np.maximum(np.abs(gap) - size, 0))
            side = np.where(u != 0, np.sign(u), -np.sign(slope))
            trial = u + self._newton(c, g, u, slope, side, damping)
            trial[trial * side < 0] = 0
            weights = self._inner(c, trial)
            if self._dual(c, trial, weights) > dual - 1e-4 * slope @ (trial - u):
                u, g, damping = trial, weights, max(damping / 8, 1e-10)
            elif damping > 1e10:
                break
            else:
                damping *= 8
        excess = (primal - dual) / primal
        if excess > 1e-3:
            raise UserError(f"approximate balancing stopped {excess:.1%} from its optimum: drop covariates")
        return g

    def _primal(self, g: Floats) -> float:
        return float((1 - self.zeta) * g @ g + self.zeta * self.gap_**2)

    def _dual(self, c: Floats, u: Floats, g: Floats) -> float:
        """The dual at u, whose weights are g."""
        return float((1 - self.zeta) * g @ g + g @ (c @ u) - np.abs(u).sum() ** 2 / (4 * self.zeta))

    def _cap(self, n: int) -> float:
        return max(n ** (-2 / 3), 1 / n)

    def _inner(self, c: Floats, u: Floats) -> Floats:
        """argmin (1 - zeta) ||g||^2 + g'c u over the feasible weights: a shifted -c u / (2 (1 - zeta)), clipped."""
        n, cap = len(c), self._cap(len(c))
        a = -(c @ u) / (2 * (1 - self.zeta))
        if n * cap <= 1:
            return np.full(n, 1 / n)
        low, high = float(a.min()) - cap, float(a.max())
        shift = brentq(lambda v: np.clip(a - v, 0, cap).sum() - 1, low, high, xtol=1e-9 * (high - low), rtol=1e-12)
        free = (a > shift) & (a < shift + cap)
        if free.any():  # exactly, between two bounds
            shift = float((a[free].sum() + cap * (a >= shift + cap).sum() - 1) / free.sum())
        return np.clip(a - shift, 0, cap)

    def _newton(self, c: Floats, g: Floats, u: Floats, slope: Floats, side: Floats, damping: float) -> Floats:
        """The step of u [p] to the minimum of the damped model (Marquardt 1963) within the orthant ``side``."""
        free = c[(g > 0) & (g < self._cap(len(c)))]
        free = free - (free.mean(0) if len(free) else 0)
        H = free.T @ free / (2 * (1 - self.zeta)) + np.outer(side, side) / (2 * self.zeta)
        H[np.diag_indices_from(H)] += damping * (c**2).sum() / len(u)
        moving = (u != 0) | (slope != 0)
        while True:
            step = np.zeros_like(u)
            step[moving] = -np.linalg.solve(H[np.ix_(moving, moving)], slope[moving])
            outside = moving & (u == 0) & (step * side < 0)
            if not outside.any():
                return step
            moving &= ~outside
