"""Weights under which a continuous treatment no longer depends on the covariates."""

import math
from collections.abc import Callable
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import least_squares
from sklearn.base import BaseEstimator

from contrastkit.causal.treatment import as_dose
from contrastkit.causal.weighting.entropy_balancing import balance
from contrastkit.errors import UserError
from contrastkit.tables.checks import Floats
from contrastkit.tables.covariates import Covariates, orthogonal, standardised

SOLVED = 1e-6  # largest correlation that counts as zero
TOLERATED = 0.1  # largest that a solution by least squares may leave


class NormalDensity(BaseEstimator):
    """Stabilised weights f(T)/f(T | X) with normal densities (Robins, Hernan & Brumback 2000; f(T | X) is the
    generalised propensity score of Hirano & Imbens 2004): T given X is normal about its regression on X.

    Attributes:
        weights_: float64 [n], with mean 1.
    """

    def fit(self, X: Any, T: ArrayLike) -> Self:
        """Fit to X [n, p] and amounts T [n]."""
        A, t = _posed(X, T)
        residual = t - A @ np.linalg.lstsq(A, t, rcond=None)[0]
        sd = math.sqrt(float((residual**2).mean()))
        _check_spread(sd)
        self.weights_ = _mean_one((residual / sd) ** 2 / 2 - t**2 / 2)
        return self


class ContinuousEntropyBalancing(BaseEstimator):
    """The weights closest to equal, in relative entropy, that keep the means of X, T and T^2, and under which X is
    uncorrelated with T (Vegetabile et al. 2021, Sec. 2.3; Tuebbicke 2022, Eq. 5), or with functions of T.

    A regression of Y on functions with which X is uncorrelated, whose means are kept too, is free of confounding that
    is linear in X, in the sample too and not only in large ones.

    Args:
        functions: of T [n], [n, k], such as the basis of a curve without its constant; T itself by default.

    Attributes:
        weights_: float64 [n], with mean 1.

    Raises:
        UserError: no such weights exist; the message states the gap.
    """

    def __init__(self, *, functions: Callable[[Floats], Floats] | None = None) -> None:
        self.functions = functions

    def fit(self, X: Any, T: ArrayLike) -> Self:
        """Fit to X [n, p] and amounts T [n]."""
        X = Covariates.of(X)
        t = as_dose(T, len(X))
        x, f = standardised(X.x), standardised(t[:, None] if self.functions is None else self.functions(t))
        of = ["T", *(f"function {j} of T" for j in range(2, f.shape[1] + 1))]
        c = np.column_stack([x, f, standardised(standardised(t) ** 2), *(x * column[:, None] for column in f.T)])
        names = (*X.names, *of, "T^2", *(f"{name} x {function}" for function in of for name in X.names))
        self.weights_ = balance(c, names, np.ones(len(t))) * len(t)
        return self


class ContinuousCovariateBalancing(BaseEstimator):
    """The covariate balancing generalised propensity score (CBGPS; Fong, Hazlett & Imai 2018, Sec. 2.2), parametric and
    just identified: the weights of :class:`NormalDensity`, whose regression b and variance s^2 solve sum_i w_i T_i x_i
    = 0, for standardised T and x with a constant, and mean (T - x'b)^2 = s^2, instead of maximising the likelihood.
    Weighted means of X may differ from those of all units, as in the paper; its nonparametric form is not implemented.
    In a small sample the equations may have no solution: the sum of the squares of what is left is then the smallest,
    and the correlation that is left in ``remarks_``.

    Attributes:
        weights_: float64 [n], with mean 1. remarks_: what is left, if anything.

    Raises:
        UserError: a correlation above 0.1 is left; the message states it.
    """

    def fit(self, X: Any, T: ArrayLike) -> Self:
        """Fit to X [n, p] and amounts T [n]."""
        X = Covariates.of(X)
        A, t = _posed(X, T)
        n, k = A.shape
        beta = np.linalg.lstsq(A, t, rcond=None)[0]
        start = float(((t - A @ beta) ** 2).mean())
        _check_spread(math.sqrt(start))

        def parts(theta: Floats) -> tuple[Floats, Floats]:
            """Standardised residuals, and weights [n]."""
            r = (t - A @ theta[:k]) / math.exp(theta[k])
            return r, np.exp(theta[k] + (r**2 - t**2) / 2)

        def gaps(theta: Floats) -> Floats:
            r, w = parts(theta)
            return np.append(A.T @ (w * t) / n, (r**2).mean() - 1)

        def slopes(theta: Floats) -> Floats:
            r, w = parts(theta)
            by = np.column_stack([-A * (r / math.exp(theta[k]))[:, None], 1 - r**2])  # of log w
            last = -2 * np.append(A.T @ r / math.exp(theta[k]), r @ r) / n
            return np.vstack([A.T @ (by * (w * t)[:, None]) / n, last])

        with np.errstate(over="ignore", invalid="ignore"):  # at steps too long, which are taken back
            first = np.append(beta, math.log(start) / 2)
            solved = least_squares(gaps, first, slopes, method="trf", xtol=1e-15, ftol=1e-15, gtol=1e-15, max_nfev=500)
        self.weights_ = _mean_one((parts(solved.x)[0] ** 2 - t**2) / 2)
        left = float(np.abs(weighted_correlations(X.x, t, self.weights_)).max())
        what = f"no normal model of the treatment balances these covariates: a correlation of {left:.2g} is left"
        if not left < TOLERATED:
            raise UserError(f"{what}; use --by entropy, or leave covariates out")
        self.remarks_ = [] if left < SOLVED else [what]
        return self


def weighted_correlations(x: Floats, t: Floats, w: Floats) -> Floats:
    """The correlation of each column of x [n, p] with t [n] under weights w [n]: [p]."""
    dx, dt = x - np.average(x, axis=0, weights=w), t - np.average(t, weights=w)
    scale = np.sqrt((w @ dx**2) * (w @ dt**2))
    return np.divide((w * dt) @ dx, scale, out=np.zeros(x.shape[1]), where=scale > 0)


def _posed(X: Any, T: ArrayLike) -> tuple[Floats, Floats]:
    """A constant and independent columns with the span of X, of mean 0 and variance 1: [n, k]; and T standardised."""
    X = Covariates.of(X)
    t = standardised(as_dose(T, len(X)))
    return np.column_stack([np.ones(len(t)), orthogonal(standardised(X.x))]), t


def _check_spread(sd: float) -> None:
    """Refuse a treatment that the covariates determine."""
    if sd < 1e-6:
        raise UserError("the covariates determine the treatment: leave some of them out")


def _mean_one(log: Floats) -> Floats:
    """Weights [n] with these logarithms, scaled to mean 1."""
    w = np.exp(log - log.max())
    scaled: Floats = w / w.mean()
    return scaled
