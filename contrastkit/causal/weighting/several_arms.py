"""Weights that balance the covariates of several arms."""

import warnings
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression

from contrastkit.causal.learners import learned
from contrastkit.causal.positivity import separating_direction, why_separated
from contrastkit.causal.treatment import as_several_arms
from contrastkit.causal.weighting.entropy_balancing import balance
from contrastkit.causal.weighting.equations import Equations, MultinomialEquations
from contrastkit.causal.weighting.normalise import mean_one_in_each
from contrastkit.errors import UserError
from contrastkit.tables.checks import Bools, Floats
from contrastkit.tables.covariates import Covariates, design, orthogonal, scales

FLAT = 1e-9  # smallest curvature of a likelihood with a maximum, by direction of unit variance


class GeneralisedPropensity(BaseEstimator):
    """Weights from the generalised propensity scores e_k(x) = P(T = k | x) of K arms (Imbens 2000): 1/e_k for the units
    of arm k, which represent all units (McCaffrey et al. 2013, Eq. 3), or e_f/e_k, which represent those of a focal arm
    f. The scores are those of multinomial logistic regression by maximum likelihood.

    Args:
        focal: label of the arm whose units are the target population (ATT); None for all units (ATE).

    Attributes:
        arms_: the K labels. codes_: int64 [n], the arm of each unit as its place in them. scores_: float64 [n, K].
        weights_: float64 [n], with mean 1 in each arm.

    Raises:
        UserError: the covariates tell the arm of some units for certain.
    """

    def __init__(self, focal: str | None = None) -> None:
        self.focal = focal

    def fit(self, X: Any, T: ArrayLike) -> Self:
        """Fit to X [n, p] and labels T [n]."""
        X = Covariates.of(X)
        self.arms_, self.codes_ = as_several_arms(T, len(X))
        self._focal = _focal(self.focal, self.arms_)
        A = design(X.x)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about a singular Hessian: the result is checked instead
            model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-10, max_iter=100)
            model = learned(model, A[:, 1:], self.codes_)
        odds = np.concatenate([np.zeros((len(A), 1)), self._linear(model, A)], axis=1)
        self.scores_ = np.exp(odds - odds.max(1, keepdims=True))
        self.scores_ /= self.scores_.sum(1, keepdims=True)
        self._check(X, A)
        own = self.scores_[np.arange(len(A)), self.codes_]
        goal = np.ones(len(A)) if self._focal is None else self.scores_[:, self._focal]
        self.weights_ = mean_one_in_each(goal / own, arms_of(self.codes_))
        return self

    def _linear(self, model: Any, A: Floats) -> Floats:
        """The log odds of each arm but the first against it, [n, K - 1]."""
        eta = A[:, 1:] @ model.coef_.T + model.intercept_
        odds: Floats = eta if len(self.arms_) == 2 else eta[:, 1:] - eta[:, :1]
        return odds

    def _check(self, X: Covariates, A: Floats) -> None:
        """Refuse a likelihood without a maximum, which is flat along a direction in which rows differ."""
        H = MultinomialEquations(orthogonal(A), self.scores_, self.codes_, None).curvature
        if np.linalg.eigvalsh(H / len(A))[0] > FLAT:
            return
        against = [self.codes_ == k for k in range(len(self.arms_))]
        apart = [separating_direction(X.x, arm)[1] for arm in against]
        k = int(np.argmax(apart))
        reason = why_separated(X, against[k]) if apart[k] else "some covariates tell the arm of units: leave them out"
        raise UserError(f"{self.arms_[k]} (treated) against the other arms (untreated): {reason}")

    def equations(self, X: Covariates) -> list[MultinomialEquations]:
        """The likelihood's."""
        return [MultinomialEquations(design(X.x), self.scores_, self.codes_, self._focal)]


class SeveralEntropyBalancing(BaseEstimator):
    """The weights closest to equal, in relative entropy, under which each arm has the means of all units, or of those
    of a focal arm: :class:`contrastkit.causal.weighting.EntropyBalancing`, one arm after the other.

    Args:
        focal: label of the arm whose units are the target population (ATT); None for all units (ATE).

    Attributes:
        arms_: the K labels. codes_: int64 [n], the arm of each unit as its place in them. weights_: float64 [n], with
            mean 1 in each arm.

    Raises:
        UserError: no weights give an arm these means; the message names it and states the gap.
    """

    def __init__(self, focal: str | None = None) -> None:
        self.focal = focal

    def fit(self, X: Any, T: ArrayLike) -> Self:
        """Fit to X [n, p] and labels T [n]."""
        X = Covariates.of(X)
        self.arms_, self.codes_ = as_several_arms(T, len(X))
        self._focal = _focal(self.focal, self.arms_)
        target = self.codes_ >= 0 if self._focal is None else self.codes_ == self._focal
        z = (X.x - X.x[target].mean(0)) / scales(X.x)
        w = np.ones(len(X))
        for k, arm in enumerate(arms_of(self.codes_)):
            if k != self._focal:
                try:
                    w[arm] = balance(z[arm], X.names, w[arm])
                except UserError as error:
                    raise UserError(f"arm {self.arms_[k]}: {error}") from error
        self._goal = target / target.sum()
        self.weights_ = mean_one_in_each(w, arms_of(self.codes_))
        return self

    def equations(self, X: Covariates) -> list[Equations]:
        """For each weighted arm, its means less those of the target population (Zhao & Percival 2017, Sec. 3)."""
        arms = [arm for k, arm in enumerate(arms_of(self.codes_)) if k != self._focal]
        shares = [arm * self.weights_ / self.weights_[arm].sum() for arm in arms]
        return [Equations(design(X.x), self._goal - share, share, np.sign(share)) for share in shares]


def arms_of(codes: Any) -> list[Bools]:
    """Which units are in each arm, bool [n] each, by their codes [n]."""
    return [codes == k for k in range(int(codes.max()) + 1)]


def _focal(label: str | None, arms: tuple[str, ...]) -> int | None:
    """The number of the focal arm, if any.

    Raises:
        UserError: there is no such arm.
    """
    if label is None:
        return None
    if label not in arms:
        raise UserError(f"--focal {label}: no such arm (the arms: {', '.join(arms)})")
    return arms.index(label)
