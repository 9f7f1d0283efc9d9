"""Approximate balancing."""

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq, minimize
from sklearn.base import BaseEstimator

from contrastkit.causal.estimand import population
from contrastkit.causal.weighting.normalise import mean_one
from contrastkit.errors import UserError
from contrastkit.tables.checks import Floats, as_treatment
from contrastkit.tables.covariates import Covariates, scales


class ApproximateBalancing(BaseEstimator):
    """Weights that trade balance against evenness: the first step of approximate residual balancing (Athey, Imbens &
    Wager 2018, Eq. 4), whose second is :class:`contrastkit.causal.direct_balancing.ResidualBalancing`.

    g = argmin (1 - zeta) ||g||_2^2 + zeta ||mean_t - X_c'g||_inf^2  subject to  sum g = 1, 0 <= g_i <= n_c^(-2/3),
    on standardised X, by L-BFGS on the dual, which has one variable for each covariate; the duality gap is checked.

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
        c = (x[~target] - x[target].mean(0)) / scales(x)
        n, p = c.shape
        zeta, cap = self.zeta, max(n ** (-2 / 3), 1 / n)

        def inner(u: Floats) -> Floats:
            """argmin (1 - zeta) ||g||^2 + g'c u over the feasible weights."""
            a = -(c @ u) / (2 * (1 - zeta))
            if n * cap <= 1:
                return np.full(n, 1 / n)
            nu = brentq(lambda nu: np.clip(a - nu, 0, cap).sum() - 1, a.min() - cap, a.max(), xtol=1e-15, rtol=1e-14)
            return np.clip(a - nu, 0, cap)

        def dual(halves: Floats) -> tuple[float, Floats]:
            """Minus n times the dual at u = (halves[:p] - halves[p:]) / n, both nonnegative, and its gradient."""
            u, size = (halves[:p] - halves[p:]) / n, halves.sum() / n
            g = inner(u)
            value = (1 - zeta) * g @ g + g @ (c @ u) - size**2 / (4 * zeta)
            slope = c.T @ g
            return -n * float(value), np.concatenate([-slope, slope]) + size / (2 * zeta)

        start, box = np.zeros(2 * p), [(0, None)] * (2 * p)
        options = {"maxiter": 5000, "maxfun": 20000, "ftol": 1e-15, "gtol": 1e-9, "maxcor": 30}
        solution = minimize(dual, start, jac=True, method="L-BFGS-B", bounds=box, options=options)
        g = inner((solution.x[:p] - solution.x[p:]) / n)
        self.gap_ = float(np.abs(c.T @ g).max(initial=0.0))
        primal = n * ((1 - zeta) * g @ g + zeta * self.gap_**2)
        if primal + solution.fun > 1e-4 * primal:
            excess = (primal + solution.fun) / primal
            raise UserError(f"approximate balancing stopped {excess:.1%} from its optimum: drop covariates")
        w = np.ones(len(x))
        w[~target] = g
        self.weights_, self.estimand_ = mean_one(w, t), self.estimand
        return self
