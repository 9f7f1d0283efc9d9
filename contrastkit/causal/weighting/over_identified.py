"""The covariate balancing propensity score by more conditions than coefficients."""

from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import cho_solve, solve_triangular
from scipy.optimize import least_squares
from scipy.special import expit
from scipy.stats import chi2
from sklearn.base import BaseEstimator

from contrastkit.causal.propensity import Propensity
from contrastkit.causal.weighting.equations import MomentEquations
from contrastkit.causal.weighting.normalise import mean_one
from contrastkit.errors import UserError, check_choice
from contrastkit.tables.checks import Bools, Floats, as_sample_weights, as_treatment
from contrastkit.tables.covariates import Covariates, design, orthogonal

LEVEL = 0.05  # of the test


class OverIdentifiedBalancing(BaseEstimator):
    """The over-identified covariate balancing propensity score (Imai & Ratkovic 2014, Sec. 2.3): the logistic e(x) that
    comes nearest to both the conditions of the likelihood and those of balance.

    It is the two-step generalised method of moments: the quadratic form of the mean conditions in the inverse of their
    covariance given x, their Eq. 11 to 13, at the maximum likelihood. So it does not balance exactly, and tells whether
    a logistic model can do both. Where nearly all scores are small, both kinds of conditions nearly coincide for the
    ATT, and what divides them weighs much.

    Attributes:
        weights_: see :mod:`contrastkit.causal.weighting`. scores_: float64 [n], e(x). j_, p_: float, Hansen's test that
            one logistic model meets all conditions, whose degrees of freedom df_ are the coefficients; agreement_, a
            sentence on it; remarks_, that sentence if it does not.

    Raises:
        UserError: the conditions cannot be told apart, or no model is found.
    """

    def __init__(self, estimand: Literal["ATE", "ATT", "ATC"] = "ATT") -> None:
        self.estimand = estimand

    def fit(self, X: Any, T: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        check_choice("estimand", self.estimand, ["ATE", "ATT", "ATC"])
        X = Covariates.of(X)
        t, s = as_treatment(T, len(X)), np.ones(len(X)) if sample_weight is None else sample_weight
        s = as_sample_weights(s, len(X))
        moments = Moments(orthogonal(design(X.x)), t, s / s.mean(), self.estimand)
        likely = Propensity().fit(X, t, s).logit_
        start = np.linalg.lstsq(moments.z, likely, rcond=None)[0].astype(np.float64)
        try:
            root: Floats = np.linalg.cholesky(moments.covariance(start)).astype(np.float64)
        except np.linalg.LinAlgError:
            raise UserError("the likelihood and the balance of these scores cannot be told apart: use cbps") from None
        found = least_squares(
            lambda beta: solve_triangular(root, moments.mean(beta), lower=True), start,
            jac=lambda beta: solve_triangular(root, moments.jacobian(beta), lower=True),
            method="lm", xtol=1e-14, ftol=1e-14, gtol=1e-14, max_nfev=1000,
        )  # fmt: skip
        if found.status < 1 or not np.isfinite(found.x).all():
            raise UserError("no logistic model is found for likelihood and balance at once: use cbps, or ipw")
        self.df_ = len(found.x)
        self.j_ = float(2 * found.cost * len(t))
        self.p_ = float(chi2.sf(self.j_, self.df_))
        meets = "is not refuted" if self.p_ >= LEVEL else "does not hold: one of them cannot be met"
        self.agreement_ = (
            f"that one logistic model meets both likelihood and balance {meets} (J = {self.j_:.2f} on {self.df_} "
            f"degrees of freedom, p = {self.p_:.3g})"
        )
        self.remarks_ = [self.agreement_] if self.p_ < LEVEL else []
        self.scores_ = expit(moments.z @ found.x)
        self.weights_, self.estimand_ = mean_one(moments.weights(found.x), t), self.estimand
        self._solved = moments.equations(found.x, root)
        return self

    def equations(self, X: Covariates, t: Bools) -> list[MomentEquations]:
        """The conditions of likelihood and balance, combined as they were at the maximum likelihood: the error is that
        of Hansen (1982), right where one model meets both."""
        return [self._solved]


@dataclass(frozen=True, eq=False)
class Moments:
    """The conditions of one model: E[(t - e) z] = 0, the likelihood's, and E[(t w - (1 - t) w) z] = 0, those of
    balance, where w weights an arm to the population of the estimand.

    Attributes:
        z: float64 [n, k], of full rank. t: bool [n]. s: float64 [n], sample weights, with mean 1.
    """

    z: Floats
    t: Bools
    s: Floats
    estimand: str

    def weights(self, beta: Floats) -> Floats:
        """w, of each unit, [n]."""
        e = self._scores(beta)
        arms: dict[str, tuple[Any, Any]] = {
            "ATE": (1 / e, 1 / (1 - e)), "ATT": (1.0, e / (1 - e)), "ATC": ((1 - e) / e, 1.0),
        }  # fmt: skip
        return self.s * np.where(self.t, *arms[self.estimand])

    def slope(self, beta: Floats) -> Floats:
        """The derivative of log w by z'beta, [n]."""
        e = self._scores(beta)
        arms: dict[str, tuple[Any, Any]] = {"ATE": (e - 1, e), "ATT": (0.0, 1.0), "ATC": (-1.0, 0.0)}
        return np.where(self.t, *arms[self.estimand])

    def mean(self, beta: Floats) -> Floats:
        """[2k]."""
        return np.concatenate([residual @ self.z for residual in self._residuals(beta)]) / len(self.z)

    def jacobian(self, beta: Floats) -> Floats:
        """Of the means, [2k, k]."""
        e = self._scores(beta)
        balance = np.where(self.t, 1, -1) * self.weights(beta) * self.slope(beta)
        return np.concatenate([self._square(-self.s * e * (1 - e)), self._square(balance)])

    def covariance(self, beta: Floats) -> Floats:
        """E[g g' | x], the mean over the units, [2k, 2k]."""
        e = self._scores(beta)
        mixed, balance = {
            "ATE": (np.ones_like(e), 1 / (e * (1 - e))), "ATT": (e, e / (1 - e)), "ATC": (1 - e, (1 - e) / e),
        }[self.estimand]  # fmt: skip
        likelihood, mixed, balance = (self._square(self.s**2 * v) for v in (e * (1 - e), mixed, balance))
        return np.block([[likelihood, mixed], [mixed, balance]])

    def equations(self, beta: Floats, root: Floats) -> MomentEquations:
        """What beta [k] solves, given the Cholesky root [2k, 2k] of the covariance."""
        D = self.jacobian(beta)
        P = cho_solve((root, True), D).T
        return MomentEquations(
            self.z, np.stack(self._residuals(beta)), self.slope(beta), np.linalg.solve(P @ D, P) / len(self.z)
        )

    def _residuals(self, beta: Floats) -> tuple[Floats, Floats]:
        return self.s * (self.t - self._scores(beta)), np.where(self.t, 1, -1) * self.weights(beta)

    def _scores(self, beta: Floats) -> Floats:
        return np.clip(expit(self.z @ beta), 1e-12, 1 - 1e-12)

    def _square(self, v: Floats) -> Floats:
        return (self.z * v[:, None]).T @ self.z / len(self.z)
