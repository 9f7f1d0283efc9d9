"""Standardisation of generalised linear models."""

import math
import warnings
from typing import Any, Literal, get_args

import numpy as np
from scipy.special import expit
from sklearn.linear_model import LogisticRegression, PoissonRegressor

from contrastkit.causal.estimand import population
from contrastkit.causal.estimate.base import Estimator
from contrastkit.causal.estimate.means import Means
from contrastkit.causal.estimate.regression import mean_influence
from contrastkit.causal.learners import learned
from contrastkit.causal.names import Estimand
from contrastkit.causal.positivity import check_varies
from contrastkit.errors import UserError, check_choice
from contrastkit.tables.checks import Bools, Floats
from contrastkit.tables.covariates import Covariates, design, orthogonal

Family = Literal["logistic", "Poisson"]
FLAT = 1e-9  # smallest curvature of a likelihood with a maximum, by mean outcome and direction
EXACT = 1e-6  # largest mean residual times a column of the design, in standard deviations, at a maximum


def family_of(y: Floats) -> Family | None:
    """The generalised linear model of outcomes y [n]: logistic of 0 and 1, Poisson of counts; None of others."""
    if ((y == 0) | (y == 1)).all():
        return "logistic"
    return "Poisson" if ((y >= 0) & (y == np.round(y))).all() else None


class Standardised(Estimator):
    """The mean over the target population of what a generalised linear model of each arm predicts (standardisation, or
    g-computation: Robins 1986, Sec. 4; for ratios, Greenland 1991): logistic regression for an outcome of 0 and 1,
    Poisson regression for counts.

    The mean of an arm that is the target population itself needs no model. The standard error is that of the stacked
    equations of models and means, without trust in the models' variances: that of a count may differ from its mean.
    Residuals of an arm of n units and k coefficients are multiplied by the root of n/(n - k), as in HC1.

    Args:
        estimand: ATE, ATT or ATC.

    Raises:
        UserError: other outcomes, or a model of an arm whose outcomes are all alike or told for certain by the
            covariates, or with no more units than coefficients.
    """

    takes_sample_weight = True
    has_means = True

    def __init__(self, estimand: Estimand = "ATT") -> None:
        self.estimand = estimand

    def _fit(self, X: Covariates, t: Bools, y: Floats) -> None:
        check_choice("estimand", self.estimand, get_args(Estimand))
        family = family_of(y)
        if family is None:
            raise UserError("takes an outcome of 0 and 1, or counts: for other numbers use ols or oaxaca")
        target = population(self.estimand, t)
        A, s = design(X.x), self.sample_weight_
        goal = target * s / s[target].sum()
        values, influences = np.empty(2), np.zeros((2, len(y)))
        for row, arm in enumerate((t, ~t)):
            if np.array_equal(arm, target):
                values[row], influences[row, arm] = goal @ y, mean_influence(y[arm], s[arm])
            else:
                check_varies(X, arm)
                values[row], influences[row] = _mean(family, A, arm, y, s, goal)
        self.effect_, self.influence_ = self._compared(Means(values, influences))
        self.estimand_ = self.estimand
        self.remarks_.append(f"{family} regression of each arm")


def _mean(family: Family, A: Floats, arm: Bools, y: Floats, s: Floats, goal: Floats) -> tuple[float, Floats]:
    """The mean with weights ``goal`` [n], of sum 1, of what the model of an arm [n] predicts from A [n, k], and the
    influence of each unit on it [n]; s [n] are sample weights."""
    mu, slope = _predictions(family, A, arm, y, s)
    mean = float(goal @ mu)
    H = (A[arm] * (s * slope)[arm, None]).T @ A[arm]
    reach = A @ np.linalg.pinv(H, rcond=1e-10, hermitian=True) @ (A.T @ (goal * slope))
    n, rank = int(arm.sum()), int(np.linalg.matrix_rank(A[arm]))
    if n <= rank:
        raise UserError(f"{n} rows cannot identify {rank} coefficients: leave covariates out")
    influence = goal * (mu - mean)
    influence[arm] += (s * reach * (y - mu))[arm] * math.sqrt(n / (n - rank))
    return mean, influence


def _predictions(family: Family, A: Floats, arm: Bools, y: Floats, s: Floats) -> tuple[Floats, Floats]:
    """The mean outcome [n] by the model of an arm, and its derivative by the linear predictor [n]."""
    if (y[arm] == y[arm][0]).all():
        raise UserError(f"all outcomes of an arm are {y[arm][0]:g}, of which no model has a maximum likelihood")
    model: Any = PoissonRegressor(alpha=0, solver="newton-cholesky", tol=1e-10, max_iter=100)
    if family == "logistic":
        model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-10, max_iter=100)
    z = A[:, 1:]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about convergence: the equations are checked instead
        fitted = learned(model, z[arm], y[arm], s[arm])
    eta = z @ np.ravel(fitted.coef_) + float(np.ravel(fitted.intercept_)[0])
    with np.errstate(over="ignore"):
        mu = expit(eta) if family == "logistic" else np.exp(eta)
    slope = mu * (1 - mu) if family == "logistic" else mu
    left = np.abs((s * (y - mu))[arm] @ A[arm]).max() / s[arm].sum() / y[arm].std()
    Z = orthogonal(A[arm])
    curvature = (Z * (s * slope)[arm, None]).T @ Z / s[arm].sum() / y[arm].mean()
    if not (np.isfinite(mu).all() and left < EXACT and np.linalg.eigvalsh(curvature)[0] > FLAT):
        raise UserError(
            f"the {family} regression of an arm has no maximum likelihood: some covariates tell its outcomes for "
            "certain: leave them out"
        )
    return mu, slope
