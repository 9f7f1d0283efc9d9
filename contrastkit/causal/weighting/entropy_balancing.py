"""Entropy balancing."""

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator

from contrastkit.causal.estimand import population
from contrastkit.causal.weighting.normalise import mean_one
from contrastkit.errors import UserError
from contrastkit.tables.checks import Floats, as_treatment, effective_sample_size
from contrastkit.tables.covariates import Covariates, scales


class EntropyBalancing(BaseEstimator):
    """The weights nearest to equal ones, in relative entropy, under which the arms' means agree (Hainmueller 2012).

    min_w sum_i w_i log w_i  subject to  sum_i w_i c(x_i) = m,  sum_i w_i = 1,  by Newton's method on the dual
    log sum_i exp(-lam'(c_i - m)), convex and without constraints.

    Args:
        estimand: ATT weights the controls to the means of the treated, ATC the treated to those of the controls, ATE
            both arms to those of all.
        moments: 1 balances means, 2 those of the squares too (of columns with more than two values).

    Attributes:
        weights_: see :mod:`contrastkit.causal.weighting`.
        terms_: float64 [n, k], what is balanced: the covariates, and their squares.
        gap_: the largest difference of means that is left, in standard deviations. steps_: of Newton's, of the arm
        that needed more.

    Raises:
        UserError: no weights reach the means (they lie outside of the arm's convex hull), with the gap that was found.
    """

    def __init__(self, estimand: Literal["ATE", "ATT", "ATC"] = "ATT", *, moments: Literal[1, 2] = 1) -> None:
        self.estimand = estimand
        self.moments = moments

    def fit(self, X: Any, T: ArrayLike) -> Self:
        X = Covariates.of(X)
        x, names, t = X.x, X.names, as_treatment(T, len(X))
        if self.moments not in (1, 2):
            raise UserError(f"moments are 1 (means) or 2 (squares too), not {self.moments}")
        if self.moments == 2:
            more = [j for j in range(x.shape[1]) if len(np.unique(x[:, j])) > 2]
            x = np.concatenate([x, (x[:, more] - x[:, more].mean(0)) ** 2], axis=1)
            names = (*names, *(f"{names[j]}^2" for j in more))
        target = population(self.estimand, t)
        w = np.ones(len(x))
        self.terms_, self.gap_, self.steps_ = x, 0.0, 0
        for arm in (t, ~t):
            if not np.array_equal(arm, target):
                z = (x - x[target].mean(0)) / scales(x)
                w[arm], gap, steps = balance(z[arm], names)
                self.gap_, self.steps_ = max(self.gap_, gap), max(self.steps_, steps)
        self.weights_, self.estimand_ = mean_one(w, t), self.estimand
        return self


def balance(c: Floats, names: tuple[str, ...], *, tolerance: float = 1e-9) -> tuple[Floats, float, int]:
    """Entropy-balancing weights [n] of rows c [n, p] with sum 1 and means 0; the gap that is left, in standard
    deviations of c; and how many Newton steps it took.

    Raises:
        UserError: there are none.
    """
    sd = c.std(0)
    flat = c.max(0) - c.min(0) <= 1e-12 * (1 + np.abs(c).max(0))
    if (off := flat & (np.abs(c.mean(0)) > 1e-9)).any():
        name = names[int(np.flatnonzero(off)[0])]
        raise UserError(
            f"{name} is the same for all of an arm, and not what it is on average in the other: leave it out"
        )
    z = (c / np.where(flat, 1, sd))[:, ~flat]
    # Columns that follow from others have directions without curvature; there the means agree, or cannot.
    lam = np.zeros(z.shape[1])
    w, value = _tilted(z, lam)
    gap, steps = np.inf, 0
    for steps in range(200):
        g = w @ z
        gap = float(np.abs(g).max(initial=0.0))
        if gap < tolerance:
            return w, gap, steps
        H = (z * w[:, None]).T @ z - np.outer(g, g)
        step = np.linalg.lstsq(H, g, rcond=1e-13)[0]
        size, slope = 1.0, float(g @ step)
        while size > 1e-10:
            trial, lower = _tilted(z, lam + size * step)
            if lower <= value - 1e-4 * size * slope or abs(size * slope) < 1e-14:
                break
            size /= 2
        else:
            break
        lam, w, value = lam + size * step, trial, lower
        if value < -50:  # the log of a sum with a term of at least exp(0) on the hull: beyond, it is unbounded
            break
    worst = int(np.abs(w @ z).argmax())
    raise UserError(
        f"no weights balance these covariates: {np.array(names)[~flat][worst]} is {gap:.2g} standard deviations off, "
        f"with an effective sample of {effective_sample_size(w):.1f}; leave some out, or weight by the propensity score"
    )


def _tilted(z: Floats, lam: Floats) -> tuple[Floats, float]:
    """w_i = exp(-lam'z_i) / sum, and the log of the mean of exp(-lam'z_i)."""
    a = -z @ lam
    top = a.max()
    e = np.exp(a - top)
    return e / e.sum(), float(top + np.log(e.mean()))
