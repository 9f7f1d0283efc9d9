"""Two-stage least squares, and the tests of its assumptions that data allow."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

from contrastkit.causal.inference import Effect, Wald
from contrastkit.causal.instruments.sample import Sample
from contrastkit.tables.checks import Floats


def least_squares(sample: Sample) -> Effect:
    """The coefficient of the treatment in the regression of the outcome on it and the covariates."""
    return _ratio(sample, sample.d)


def two_stage(sample: Sample) -> Effect:
    """Two-stage least squares (Theil 1953): the outcome on the treatment that the instruments predict. For several
    instruments and heterogeneous effects, a weighted mean of the effects on those whom each moves (Imbens & Angrist
    1994; Angrist & Imbens 1995)."""
    return _ratio(sample, sample.Z @ (sample.Z.T @ sample.d))


def _ratio(sample: Sample, p: Floats) -> Effect:
    """p'y / p'd, for p [n] in the span of the instruments and the treatment, with its sandwich error."""
    effect = float(p @ sample.y / (p @ sample.d))
    score = p * (sample.y - effect * sample.d) / (p @ sample.d)
    variance = sample.covariance(score[:, None], coefficients=1)[0, 0]
    return Effect.of(effect, float(np.sqrt(variance)), sample.df(1))


def endogeneity(sample: Sample) -> Wald:
    """The Wu-Hausman test that least squares would do, as the test of the first stage's residuals in the regression of
    the outcome on them and the treatment (Hausman 1978), with the sandwich covariance (Wooldridge 2010, Sec. 6.3.1)."""
    v = sample.d - sample.Z @ (sample.Z.T @ sample.d)
    A = np.column_stack([sample.d, v])
    inverse = np.linalg.inv(A.T @ A)
    coefficients = inverse @ A.T @ sample.y
    scores = A * (sample.y - A @ coefficients)[:, None] @ inverse
    return Wald.of(coefficients[1:], sample.covariance(scores, coefficients=2)[1:, 1:], sample.df(2))


@dataclass(frozen=True)
class Overidentification:
    """Tests that several instruments agree.

    Attributes:
        j: Hansen's statistic (1982), of two-step efficient GMM: robust. sargan: Sargan's (1958), which supposes
            homoskedastic errors. Both are chi-squared with df degrees of freedom; p, sargan_p: their p-values.
    """

    j: float
    sargan: float
    df: int
    p: float
    sargan_p: float


def overidentification(sample: Sample) -> Overidentification | None:
    """The tests of k instruments with k - 1 degrees of freedom; None for one instrument, or where the weights of the
    moments cannot be estimated, as from fewer clusters than moments."""
    k, n = sample.Z.shape[1], len(sample.y)
    if k < 2:
        return None
    A = np.column_stack([sample.W, sample.Z])
    p = sample.Z @ (sample.Z.T @ sample.d)
    u = sample.y - p @ sample.y / (p @ sample.d) * sample.d
    sargan = float(n * ((sample.Z.T @ u) ** 2).sum() / (u @ u))
    moments = A * u[:, None]
    if sample.groups is not None:
        sums = np.zeros((sample.df(0) + 1, A.shape[1]))
        np.add.at(sums, sample.groups, moments)
        moments = sums
    if np.linalg.matrix_rank(moments) < A.shape[1]:
        return None
    root = np.linalg.cholesky(moments.T @ moments)
    B, c = np.linalg.solve(root, A.T @ np.column_stack([sample.W, sample.d])), np.linalg.solve(root, A.T @ sample.y)
    left = c - B @ np.linalg.lstsq(B, c, rcond=None)[0]
    j = float(left @ left)
    return Overidentification(j, sargan, k - 1, float(chi2.sf(j, k - 1)), float(chi2.sf(sargan, k - 1)))
