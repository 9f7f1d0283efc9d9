"""Difference in means, and regressions."""

import math
from typing import Literal

import numpy as np

from contrastkit.causal.estimate.base import ArmwiseEstimator, Estimator
from contrastkit.causal.estimate.means import Means, weighted_means
from contrastkit.causal.positivity import check_varies
from contrastkit.errors import UserError
from contrastkit.tables.checks import Bools, Floats
from contrastkit.tables.covariates import Covariates, design


class DifferenceInMeans(Estimator):
    """The naive estimator, valid if the treatment was randomised. HC1 standard error."""

    takes_sample_weight = True
    has_means = True

    def _fit(self, X: Covariates, t: Bools, y: Floats) -> None:
        self.estimand_ = "naive"
        self.effect_, self.influence_ = self._compared(weighted_means(self.sample_weight_, (t, ~t), y))


class Regression(Estimator):
    """The coefficient of T in the regression of Y on 1, T and X; HC1 standard error. Heterogeneous effects are
    averaged with weights proportional to the variance of T given X."""

    takes_sample_weight = True

    def _fit(self, X: Covariates, t: Bools, y: Floats) -> None:
        A = np.column_stack([t, np.ones_like(y), X.x])
        self.estimand_ = "constant"
        self.effect_, self.influence_ = least_squares(A, y, np.eye(A.shape[1])[0], self.sample_weight_)


class OaxacaBlinder(ArmwiseEstimator):
    """Untreated outcomes of the treated, predicted by the regression of Y on X among the controls (Kline 2011).

    The standard error combines the spread of the differences between observed and predicted outcomes of the treated
    with the HC1 error of the control regression at their mean.

    Args:
        estimand: ATT, or ATC: treated outcomes of the controls.
    """

    takes_sample_weight = True
    has_means = True

    def __init__(self, estimand: Literal["ATT", "ATC"] = "ATT") -> None:
        self.estimand = estimand

    def _att(self, X: Covariates, t: Bools, y: Floats) -> None:
        check_varies(X, ~t)
        A, s = np.column_stack([np.ones_like(y), X.x]), self.sample_weight_
        at = np.average(A[t], axis=0, weights=s[t])
        predicted, influence = least_squares(A[~t], y[~t], at, s[~t])
        A, root = design(X.x), np.sqrt(s)
        m = A[t] @ np.linalg.lstsq(A[~t] * root[~t, None], (y * root)[~t], rcond=1e-10)[0]
        influences = np.zeros((2, len(y)))
        influences[0, t], influences[1, t] = mean_influence(y[t], s[t]), mean_influence(m, s[t])
        influences[1, ~t] = influence
        means = Means(np.array([np.average(y[t], weights=s[t]), predicted]), influences)
        self.effect_, self.influence_ = self._compared(means)


def mean_influence(values: Floats, w: Floats) -> Floats:
    """The influence of each of n values on their mean with weights w [n]; with equal ones, the norm is the standard
    error of the mean."""
    n = len(values)
    return w / w.sum() * (values - np.average(values, weights=w)) * math.sqrt(n / (n - 1))


def least_squares(A: Floats, y: Floats, at: Floats, w: Floats) -> tuple[float, Floats]:
    """at'beta of the regression of y on the columns of A [n, k] with weights w [n], and the influence of each row on it
    [n], whose norm is its HC1 standard error (White 1980; times n/(n - rank)). Columns may be linearly dependent, like
    the indicators of a factor, as long as at'beta is identified.

    Raises:
        UserError: it is not identified, or there are no more rows than coefficients.
    """
    root = np.sqrt(w)
    A, y = A * root[:, None], y * root
    scale = np.linalg.norm(A, axis=0)
    scale[scale == 0] = 1
    U, s, Vt = np.linalg.svd(A / scale, full_matrices=False)
    rank = int((s > 1e-10 * s[0]).sum())
    n, U, half = len(y), U[:, :rank], Vt[:rank] @ (at / scale)
    if n <= rank:
        raise UserError(f"{n} rows cannot identify {rank} coefficients: leave covariates out")
    if np.linalg.norm(Vt[:rank].T @ half - at / scale) > 1e-8 * np.linalg.norm(at / scale):
        raise UserError(
            "the effect is not identified: leave out the covariate that the treatment determines, or that is constant "
            "in one arm"
        )
    half = U @ (half / s[:rank])  # contribution of each row to the estimate
    residual = y - U @ (U.T @ y)
    return float(half @ y), half * residual * math.sqrt(n / (n - rank))
