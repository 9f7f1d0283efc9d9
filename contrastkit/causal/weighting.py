"""Weights that make the arms of a study alike.

Each class has ``fit(X, T)`` and then ``weights_``: float64 [n], not negative, with mean 1 in each arm that is weighted,
so that the difference of the arms' weighted means is the effect on the population that ``estimand`` names: all (ATE),
the treated (ATT), the untreated (ATC), or those who could have been either (ATO). What cannot be balanced is refused
with the gap that remains: weights that did not converge are never returned.
"""

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone

from contrastkit.causal.propensity import Propensity
from contrastkit.causal.study import Floats, covariates, effective_sample_size, treatment
from contrastkit.errors import UserError

Estimand = Literal["ATE", "ATT", "ATC", "ATO"]


def mean_one(w: Floats, t: NDArray[np.bool_]) -> Floats:
    """The weights [n] with mean 1 in each arm (Hajek's normalisation)."""
    w = w.copy()
    for arm in (t, ~t):
        if not w[arm].sum() > 0:
            raise UserError("the weights of an arm sum to zero: nobody is left to compare with")
        w[arm] /= w[arm].mean()
    return w


class InverseProbability(BaseEstimator):
    """Weights from the propensity score e(x) (Horvitz & Thompson 1952; Hajek's normalisation).

    ATE: T/e + (1-T)/(1-e); ATT: T + (1-T) e/(1-e); ATC: T (1-e)/e + (1-T); ATO: T (1-e) + (1-T) e, the overlap weights
    of Li, Morgan & Zaslavsky 2018, which balance every mean exactly where e is logistic by maximum likelihood.
    Stabilised weights (times P(T)) are the same after normalisation within the arms.
    """

    def __init__(self, estimand: Estimand = "ATT", *, propensity: Propensity | None = None) -> None:
        self.estimand = estimand
        self.propensity = propensity

    def fit(self, X: Any, T: ArrayLike) -> Self:
        x, _ = covariates(X)
        t = treatment(T, len(x))
        self.propensity_ = clone(Propensity() if self.propensity is None else self.propensity).fit(x, t)
        e = self.propensity_.scores_
        pairs = {
            "ATE": (1 / e, 1 / (1 - e)),
            "ATT": (np.ones_like(e), e / (1 - e)),
            "ATC": ((1 - e) / e, np.ones_like(e)),
            "ATO": (1 - e, e),
        }
        treated, untreated = pairs[self.estimand]
        self.weights_ = mean_one(np.where(t, treated, untreated), t)
        return self


class EntropyBalancing(BaseEstimator):
    """The weights nearest to equal ones, in relative entropy, under which the arms' means agree (Hainmueller 2012).

    min_w sum_i w_i log w_i  subject to  sum_i w_i c(x_i) = m,  sum_i w_i = 1,  by Newton's method on the dual
    log sum_i exp(-lam'(c_i - m)), convex and without constraints.

    Args:
        estimand: ATT weights the controls to the means of the treated, ATC the treated to those of the controls, ATE
            both arms to those of all.
        moments: 1 balances means, 2 those of the squares too (of columns with more than two values).

    Attributes:
        weights_: see the module. gap_: the largest difference of means that is left, in standard deviations.
        steps_: Newton steps, of the arm that needed more.

    Raises:
        UserError: no weights reach the means (they lie outside of the arm's convex hull), with the gap that was found.
    """

    def __init__(self, estimand: Literal["ATE", "ATT", "ATC"] = "ATT", *, moments: Literal[1, 2] = 1) -> None:
        self.estimand = estimand
        self.moments = moments

    def fit(self, X: Any, T: ArrayLike) -> Self:
        x, names = covariates(X)
        t = treatment(T, len(x))
        if self.moments == 2:
            more = [j for j in range(x.shape[1]) if len(np.unique(x[:, j])) > 2]
            x = np.concatenate([x, (x[:, more] - x[:, more].mean(0)) ** 2], axis=1)
            names = (*names, *(f"{names[j]}^2" for j in more))
        goal = {"ATE": np.ones_like(t), "ATT": t, "ATC": ~t}[self.estimand]
        w = np.ones(len(x))
        self.gap_, self.steps_ = 0.0, 0
        for arm in (t, ~t):
            if not np.array_equal(arm, goal):
                w[arm], gap, steps = balance(x[arm], x[goal].mean(0), names)
                self.gap_, self.steps_ = max(self.gap_, gap), max(self.steps_, steps)
        self.weights_ = mean_one(w, t)
        return self


def balance(c: Floats, m: Floats, names: tuple[str, ...], *, tolerance: float = 1e-9) -> tuple[Floats, float, int]:
    """Entropy-balancing weights [n] of rows c [n, p] with sum 1 and means m [p]; the gap that is left, in standard
    deviations of c; and how many Newton steps it took.

    Raises:
        UserError: there are none.
    """
    sd = c.std(0)
    flat = sd <= 1e-12 * (1 + np.abs(c.mean(0)))
    if (off := flat & (np.abs(c.mean(0) - m) > 1e-9 * (1 + np.abs(m)))).any():
        name = names[int(np.flatnonzero(off)[0])]
        raise UserError(
            f"{name} is the same for all of an arm, and not what it is on average in the other: leave it out"
        )
    z = ((c - m) / np.where(flat, 1, sd))[:, ~flat]
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
