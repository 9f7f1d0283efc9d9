"""Entropy balancing."""

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator

from contrastkit.causal.estimand import population
from contrastkit.causal.weighting.equations import Equations
from contrastkit.causal.weighting.normalise import mean_one
from contrastkit.errors import UserError
from contrastkit.tables.checks import Bools, Floats, as_sample_weights, as_treatment, effective_sample_size
from contrastkit.tables.covariates import Covariates, design, scales
from contrastkit.tables.ties import levels, rounding

TOLERANCE = 1e-9  # the largest difference in means that is left, in standard deviations of the arm


class EntropyBalancing(BaseEstimator):
    """The weights closest to equal, in relative entropy, that equate the means of the arms (Hainmueller 2012).

    min_w sum_i w_i log w_i  subject to  sum_i w_i c(x_i) = m,  sum_i w_i = 1,  by Newton's method on the dual
    log sum_i exp(-lam'(c_i - m)), convex and unconstrained.

    Args:
        estimand: ATT weights the controls to the means of the treated, ATC the treated to those of the controls, ATE
            both arms to those of all.
        moments: 1 balances means; 2 also means of squares, for columns with more than two values.

    Attributes:
        weights_: see :mod:`contrastkit.causal.weighting`.
        terms_: float64 [n, k], the balanced terms: the covariates, and their squares.

    Raises:
        UserError: no weights reach the means, which lie outside the convex hull of the arm; the message states the gap.
    """

    def __init__(self, estimand: Literal["ATE", "ATT", "ATC"] = "ATT", *, moments: Literal[1, 2] = 1) -> None:
        self.estimand = estimand
        self.moments = moments

    def fit(self, X: Any, T: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        X = Covariates.of(X)
        self._survey = s = np.ones(len(X)) if sample_weight is None else as_sample_weights(sample_weight, len(X))
        x, names, t = X.x, X.names, as_treatment(T, len(X))
        if self.moments not in (1, 2):
            raise UserError(f"moments must be 1 (means) or 2 (also squares), not {self.moments}")
        if self.moments == 2:
            squared = [j for j in range(x.shape[1]) if levels(x[:, j], rounding(x[:, j])).max() > 1]
            x = np.concatenate([x, (x[:, squared] - x[:, squared].mean(0)) ** 2], axis=1)
            names = (*names, *(f"{names[j]}^2" for j in squared))
        target = population(self.estimand, t)
        w = s.copy()
        self.terms_ = x
        for arm in (t, ~t):
            if not np.array_equal(arm, target):
                z = (x - np.average(x[target], axis=0, weights=s[target])) / scales(x)
                w[arm] = balance(z[arm], names, s[arm])
        self.weights_, self.estimand_ = mean_one(w, t), self.estimand
        return self

    def equations(self, X: Covariates, t: Bools) -> list[Equations]:
        """For each weighted arm, its means less those of the target population (Zhao & Percival 2017, Sec. 3)."""
        A, target = design(self.terms_), population(self.estimand, t)
        goal = target * self._survey / self._survey[target].sum()
        arms = [arm for arm in (t, ~t) if not np.array_equal(arm, target)]
        shares = [arm * self.weights_ / self.weights_[arm].sum() for arm in arms]
        return [Equations(A, goal - share, share, np.sign(share)) for share in shares]


def balance(c: Floats, names: tuple[str, ...], q: Floats) -> Floats:
    """Entropy-balancing weights [n] of rows c [n, p] with sum 1 and means 0, to within :data:`TOLERANCE`, that are
    closest to being proportional to q [n].

    Raises:
        UserError: no such weights exist.
    """
    sd = c.std(0)
    flat = c.max(0) - c.min(0) <= 1e-12 * (1 + np.abs(c).max(0))
    if (off := flat & (np.abs(c.mean(0)) > 1e-9)).any():
        name = names[int(np.flatnonzero(off)[0])]
        raise UserError(f"{name} is constant in one arm, at another value than the mean of the other: leave it out")
    z = (c / np.where(flat, 1, sd))[:, ~flat]
    # Linearly dependent columns give directions without curvature, in which the means agree or cannot.
    lam = np.zeros(z.shape[1])
    w, value = _tilted(z, lam, q)
    gap = np.inf
    for _ in range(200):
        g = w @ z
        gap = float(np.abs(g).max(initial=0.0))
        if gap < TOLERANCE:
            return w
        H = (z * w[:, None]).T @ z - np.outer(g, g)
        step = np.linalg.lstsq(H, g, rcond=1e-13)[0]
        size, slope = 1.0, float(g @ step)
        while size > 1e-10:
            trial, lower = _tilted(z, lam + size * step, q)
            if lower <= value - 1e-4 * size * slope or abs(size * slope) < 1e-14:
                break
            size /= 2
        else:
            break
        lam, w, value = lam + size * step, trial, lower
        if value < -50:  # feasible problems are bounded below: this one diverges
            break
    worst = int(np.abs(w @ z).argmax())
    raise UserError(
        f"no weights balance these covariates: {np.array(names)[~flat][worst]} is {gap:.2g} standard deviations off, "
        f"with effective sample size {effective_sample_size(w):.1f}; leave some out, or weight by the propensity score"
    )


def _tilted(z: Floats, lam: Floats, q: Floats) -> tuple[Floats, float]:
    """w_i = q_i exp(-lam'z_i) / sum, and the log of the mean of q_i exp(-lam'z_i)."""
    a = -z @ lam
    top = a.max()
    e = q * np.exp(a - top)
    return e / e.sum(), float(top + np.log(e.mean()))
