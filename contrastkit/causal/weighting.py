"""Weights that make the arms of a study alike.

Each class has ``fit(X, T)`` and then ``weights_``: float64 [n], not negative, with mean 1 in each arm that is weighted,
so that the difference of the arms' weighted means is the effect on the population that ``estimand`` names: all (ATE),
the treated (ATT), the untreated (ATC), or those who could have been either (ATO). What cannot be balanced is refused
with the gap that remains: weights that did not converge are never returned.
"""

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq, minimize
from sklearn.base import BaseEstimator, clone

from contrastkit.causal.propensity import Propensity, crump, within
from contrastkit.causal.study import (
    Floats,
    columns,
    covariates,
    effective_sample_size,
    population,
    scales,
    treatment,
    without_first,
)
from contrastkit.errors import UserError
from contrastkit.stable.reweight import global_balancing

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
    """Weights from the propensity score e(x): h(e)/e for the treated, h(e)/(1 - e) for the others (Horvitz & Thompson
    1952; the tilting functions of Li, Morgan & Zaslavsky 2018).

    h is 1 for the ATE, e for the ATT, 1 - e for the ATC, and e (1 - e) for the ATO: overlap weights, which balance
    every mean exactly where e is logistic by maximum likelihood.

    Args:
        scale: ``hajek`` gives mean 1 in each arm; ``stabilised`` the weights times P(T), over the mean of h, of which
            the mean is 1 in each arm but for chance (Robins, Hernan & Brumback 2000); ``raw`` as above. A difference of
            weighted means is the same under all three.
        trim: nobody counts whose score is below it or above one less it; ``crump`` chooses (:func:`propensity.crump`).
            The scores stay as fitted to all. The effect is then that on those who are left, as ``estimand_`` says.

    Attributes:
        weights_: see the module, and ``scale``. propensity_: the fitted model. alpha_: where it was trimmed, 0 if not.
    """

    def __init__(
        self,
        estimand: Estimand = "ATT",
        *,
        scale: Literal["hajek", "stabilised", "raw"] = "hajek",
        trim: float | Literal["crump"] = 0.0,
        propensity: Propensity | None = None,
    ) -> None:
        self.estimand = estimand
        self.scale = scale
        self.trim = trim
        self.propensity = propensity

    def fit(self, X: Any, T: ArrayLike) -> Self:
        x, _ = covariates(X)
        t = treatment(T, len(x))
        self.propensity_ = clone(Propensity() if self.propensity is None else self.propensity).fit(x, t)
        e = self.propensity_.scores_
        self.alpha_ = crump(e) if self.trim == "crump" else float(self.trim)
        if not 0 <= self.alpha_ < 0.5:
            raise UserError(f"scores are trimmed to [a, 1 - a] with a in [0, 0.5), not {self.alpha_:g}")
        tilt = {"ATE": np.ones_like(e), "ATT": e, "ATC": 1 - e, "ATO": e * (1 - e)}
        if self.estimand not in tilt:
            raise UserError(f"{self.estimand} is not among the estimands here: {', '.join(tilt)}")
        h = tilt[self.estimand]
        w = h / np.where(t, e, 1 - e) * within(e, self.alpha_)
        hajek = mean_one(w, t)
        arms = np.where(t, t.mean(), 1 - t.mean())
        self.weights_ = {"hajek": hajek, "stabilised": w * arms / h.mean(), "raw": w}[self.scale]
        self.estimand_ = self.estimand + (" after trimming" if self.alpha_ else "")
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
        weights_: see the module. terms_: float64 [n, k], what is balanced: the covariates, and their squares.
        gap_: the largest difference of means that is left, in standard deviations. steps_: of Newton's, of the arm
        that needed more.

    Raises:
        UserError: no weights reach the means (they lie outside of the arm's convex hull), with the gap that was found.
    """

    def __init__(self, estimand: Literal["ATE", "ATT", "ATC"] = "ATT", *, moments: Literal[1, 2] = 1) -> None:
        self.estimand = estimand
        self.moments = moments

    def fit(self, X: Any, T: ArrayLike) -> Self:
        x, names = covariates(X)
        t = treatment(T, len(x))
        if self.moments not in (1, 2):
            raise UserError(f"moments are 1 (means) or 2 (squares too), not {self.moments}")
        if self.moments == 2:
            more = [j for j in range(x.shape[1]) if len(np.unique(x[:, j])) > 2]
            x = np.concatenate([x, (x[:, more] - x[:, more].mean(0)) ** 2], axis=1)
            names = (*names, *(f"{names[j]}^2" for j in more))
        goal = population(self.estimand, t)
        w = np.ones(len(x))
        self.terms_, self.gap_, self.steps_ = x, 0.0, 0
        for arm in (t, ~t):
            if not np.array_equal(arm, goal):
                z = (x - x[goal].mean(0)) / scales(x)
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


class CovariateBalancing(BaseEstimator):
    """The covariate balancing propensity score (CBPS; Imai & Ratkovic 2014), just identified: the logistic e(x) whose
    inverse-probability weights, and not its likelihood, are right, so that the arms' weighted means agree.

    Found as the minimum of the convex loss that has these conditions for its gradient (Zhao 2019, Table 1). For the ATT
    and the ATC the weights are those of entropy balancing; for the ATE the arms agree with one another, not with the
    mean of all. The over-identified form, which weighs likelihood against balance, is not here.

    Attributes:
        weights_: see the module. scores_: float64 [n], e(x). gap_: the largest difference of weighted means that is
            left, in standard deviations.

    Raises:
        UserError: no logistic model balances the covariates, with the gap that was found.
    """

    def __init__(self, estimand: Literal["ATE", "ATT", "ATC"] = "ATT") -> None:
        self.estimand = estimand

    def fit(self, X: Any, T: ArrayLike) -> Self:
        x, names = covariates(X)
        t = treatment(T, len(x))
        z = np.column_stack([np.ones(len(x)), (x - x.mean(0)) / scales(x)])
        ate = self.estimand == "ATE"
        sign = np.where(t, -1.0, 1.0)
        tilted = np.ones_like(t) if ate else ~population(self.estimand, t)  # who has a weight of the model

        def grown(beta: Floats) -> Floats:
            """exp(-eta) of the treated, 1/e - 1; exp(eta) of the others, 1/(1 - e) - 1."""
            return np.where(tilted, np.exp(np.minimum(sign * (z @ beta), 300)), 0.0)

        def loss(beta: Floats) -> tuple[float, Floats]:
            flat = ate | ~tilted
            value = grown(beta).sum() + (sign * flat) @ (z @ beta)
            return float(value) / len(z), (sign * (grown(beta) + flat)) @ z / len(z)

        def hessian(beta: Floats) -> Floats:
            return (z * grown(beta)[:, None]).T @ z / len(z)

        small = {"gtol": 1e-10, "maxiter": 200}
        found = minimize(loss, np.zeros(z.shape[1]), jac=True, hess=hessian, method="trust-exact", options=small)
        w = grown(found.x) + (ate | ~tilted)
        gap = np.abs(np.average(z[t], axis=0, weights=w[t]) - np.average(z[~t], axis=0, weights=w[~t]))
        self.gap_ = float(gap.max())
        if self.gap_ > 1e-6:
            worst = names[int(gap[1:].argmax())]
            raise UserError(
                f"no logistic model balances these covariates: {worst} is {gap[1:].max():.2g} standard deviations off; "
                "leave some out, or weight by the propensity score"
            )
        self.scores_ = 1 / (1 + np.exp(-(z @ found.x)))
        self.weights_, self.estimand_ = mean_one(w, t), self.estimand
        return self


class ApproximateBalancing(BaseEstimator):
    """Weights that balance as far as they stay even: the first step of approximate residual balancing (Athey, Imbens &
    Wager 2018, Eq. 4), whose second is :class:`contrastkit.causal.balancing.ResidualBalancing`.

    g = argmin (1 - zeta) ||g||_2^2 + zeta ||mean_t - X_c'g||_inf^2  subject to  sum g = 1, 0 <= g_i <= n_c^(-2/3),
    on standardised X, by L-BFGS on the dual, which has a variable for each covariate; a certificate of optimality (the
    gap between both problems) is checked.

    Args:
        estimand: ATT weights the controls to the means of the treated, ATC the treated to those of the controls.
        zeta: in (0, 1), how much balance counts.

    Attributes:
        weights_: see the module. gap_: the largest difference of means that is left, in standard deviations.
    """

    def __init__(self, estimand: Literal["ATT", "ATC"] = "ATT", *, zeta: float = 0.5) -> None:
        self.estimand = estimand
        self.zeta = zeta

    def fit(self, X: Any, T: ArrayLike) -> Self:
        x, _ = covariates(X)
        t = treatment(T, len(x))
        goal = population(self.estimand, t)
        if goal.all() or not 0 < self.zeta < 1:
            raise UserError("approximate balancing weights one arm (ATT or ATC), with zeta between 0 and 1")
        c = (x[~goal] - x[goal].mean(0)) / scales(x)
        n, p = c.shape
        zeta, cap = self.zeta, max(n ** (-2 / 3), 1 / n)

        def inner(u: Floats) -> Floats:
            """argmin (1 - zeta) ||g||^2 + g'c u over the weights that are allowed."""
            a = -(c @ u) / (2 * (1 - zeta))
            if n * cap <= 1:
                return np.full(n, 1 / n)
            nu = brentq(lambda nu: np.clip(a - nu, 0, cap).sum() - 1, a.min() - cap, a.max(), xtol=1e-15, rtol=1e-14)
            return np.clip(a - nu, 0, cap)

        def dual(halves: Floats) -> tuple[float, Floats]:
            """Minus it, n times: of u = (halves[:p] - halves[p:]) / n, both not negative."""
            u, size = (halves[:p] - halves[p:]) / n, halves.sum() / n
            g = inner(u)
            value = (1 - zeta) * g @ g + g @ (c @ u) - size**2 / (4 * zeta)
            slope = c.T @ g
            return -n * float(value), np.concatenate([-slope, slope]) + size / (2 * zeta)

        start, box = np.zeros(2 * p), [(0, None)] * (2 * p)
        small = {"maxiter": 5000, "maxfun": 20000, "ftol": 1e-15, "gtol": 1e-9, "maxcor": 30}
        found = minimize(dual, start, jac=True, method="L-BFGS-B", bounds=box, options=small)
        g = inner((found.x[:p] - found.x[p:]) / n)
        self.gap_ = float(np.abs(c.T @ g).max(initial=0.0))
        primal = n * ((1 - zeta) * g @ g + zeta * self.gap_**2)
        if primal + found.fun > 1e-4 * primal:
            raise UserError(f"approximate balancing stopped {(primal + found.fun) / primal:.1%} from its optimum")
        w = np.ones(len(x))
        w[~goal] = g
        self.weights_, self.estimand_ = mean_one(w, t), self.estimand
        return self


class GlobalBalancing(BaseEstimator):
    """Global balancing (Shen et al., ACM MM 2018; Kuang et al., KDD 2018): the treatment, and each covariate in turn as
    if it were one, is balanced against all others (:func:`contrastkit.stable.reweight.global_balancing`).

    The population is that of the weights: what is estimated is the effect on it, close to the ATE where little weight
    was moved.

    Attributes:
        weights_: see the module. reweighting_: the dependence before and after.
    """

    def fit(self, X: Any, T: ArrayLike) -> Self:
        x, _, origins = columns(X)
        t = treatment(T, len(x))
        self.reweighting_ = global_balancing(np.column_stack([t, x[:, without_first(origins)]]))
        self.weights_, self.estimand_ = mean_one(self.reweighting_.weights, t), "ATE of the reweighted"
        return self
