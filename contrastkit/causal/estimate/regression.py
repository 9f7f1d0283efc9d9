"""Difference in means, and regressions."""

import math
from typing import Literal

import numpy as np

from contrastkit.causal.estimate.base import ArmwiseEstimator, Estimator
from contrastkit.causal.positivity import check_varies
from contrastkit.errors import UserError
from contrastkit.tables.checks import Bools, Floats
from contrastkit.tables.covariates import Covariates, design


class DifferenceInMeans(Estimator):
    """The naive estimator, valid if the treatment was randomised. HC1 standard error."""

    def _fit(self, X: Covariates, t: Bools, y: Floats) -> None:
        self.estimand_ = "naive"
        self.effect_, self.se_ = contrast(np.ones_like(y), t, y)


class Regression(Estimator):
    """The coefficient of T in the regression of Y on 1, T and X; HC1 standard error. Heterogeneous effects are
    averaged with weights proportional to the variance of T given X."""

    def _fit(self, X: Covariates, t: Bools, y: Floats) -> None:
        A = np.column_stack([t, np.ones_like(y), X.x])
        self.estimand_ = "constant"
        self.effect_, self.se_ = least_squares(A, y, np.eye(A.shape[1])[0])


class OaxacaBlinder(ArmwiseEstimator):
    """Untreated outcomes of the treated, predicted by the regression of Y on X among the controls (Kline 2011).

    The standard error combines the spread of the differences between observed and predicted outcomes of the treated
    with the HC1 error of the control regression at their mean.

    Args:
        estimand: ATT, or ATC: treated outcomes of the controls.
    """

    def __init__(self, estimand: Literal["ATT", "ATC"] = "ATT") -> None:
        self.estimand = estimand

    def _att(self, X: Covariates, t: Bools, y: Floats) -> None:
        check_varies(X, ~t)
        A = np.column_stack([np.ones_like(y), X.x])
        predicted, predicted_se = least_squares(A[~t], y[~t], A[t].mean(0))
        A = design(X.x)
        gain = y[t] - A[t] @ np.linalg.lstsq(A[~t], y[~t], rcond=1e-10)[0]
        self.effect_ = float(y[t].mean()) - predicted
        self.se_ = math.hypot(float(gain.std(ddof=1)) / math.sqrt(len(gain)), predicted_se)


def contrast(w: Floats, t: Bools, y: Floats) -> tuple[float, float]:
    """The difference of weighted means, treated minus controls, and the HC1 standard error of the weighted regression
    of y on t."""
    means = {arm: np.average(y[t == arm], weights=w[t == arm]) for arm in (True, False)}
    variance = sum(((w * (y - means[arm]))[t == arm] ** 2).sum() / w[t == arm].sum() ** 2 for arm in (True, False))
    n = int((w > 0).sum())
    return float(means[True] - means[False]), float(np.sqrt(variance * n / (n - 2)))


def least_squares(A: Floats, y: Floats, at: Floats) -> tuple[float, float]:
    """at'beta of the regression of y on the columns of A [n, k], and its HC1 standard error (White 1980; times n/(n -
    rank)). Columns may be linearly dependent, like the indicators of a factor, as long as at'beta is identified.

    Raises:
        UserError: it is not identified, or there are no more rows than coefficients.
    """
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
    return float(half @ y), float(np.sqrt((half**2 * residual**2).sum() * n / (n - rank)))
