"""How far columns depend on one another, under weights of the rows.

Each feature stands beside random cosines of itself (random Fourier features; Rahimi & Recht 2007). Covariances of these
see dependence of any form, where those of the features alone see only what is linear.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from contrastkit.errors import UserError
from contrastkit.tables.checks import Bools, Floats, as_weights, check_at_least, check_magnitude
from contrastkit.tables.covariates import Covariates

COSINES = 10  # of each feature
LARGEST_ARRAY = 10**9  # numbers: 8 GB
MEASURE_SEED = 10**6  # no method's own, or it would be judged on the cosines that it was fitted to


def dependence(X: Any, w: ArrayLike | None = None, *, cosines: int = COSINES) -> float:
    """How far features depend on one another: sum over columns j, k of different features of Cov_w(z_j, z_k)^2.

    Each feature has as columns itself, standardised without weights, and ``cosines`` random cosines of itself
    (:func:`fourier_features`); none leave the linear part. Chance adds about one over the effective sample size for
    each pair, so that few rows never come to 0.

    Args:
        X: [n, p], covariates, an array or a frame.
        w: weights [n], not negative; None for equal ones.
        cosines: of each feature.

    Raises:
        UserError: as :func:`standardise`, or the weights are not finite, negative, all zero, or of another number.
    """
    check_at_least("cosines", cosines, 0)
    x, _ = standardise(X)
    return measure(x, np.ones(len(x)) if w is None else as_weights(w, len(x)), cosines)


def measure(x: Floats, w: Floats, cosines: int = COSINES) -> float:
    """:func:`dependence` of standardised features x [n, p] under weights w [n] of any sum."""
    z, between = fourier_features(x, cosines, seed=MEASURE_SEED)
    return float((weighted_covariance(z, w / w.sum())[0][between] ** 2).sum())


def standardise(X: Any) -> tuple[Floats, tuple[str, ...]]:
    """The features that vary, with mean 0 and variance 1, [n, p], and the names of those that do not.

    Raises:
        UserError: the data are not numbers of moderate size, two features are copies, fewer than two vary, or there are
            fewer than three rows.
    """
    covariates = Covariates.of(X)
    x, names = covariates.x, covariates.names
    check_magnitude(x, names)
    if len(x) < 3:
        raise UserError(f"{len(x)} rows: any two features of so few are copies of one another")
    sd = x.std(0)
    varies = sd > 1e-12 * np.abs(x).max(0)  # the standard deviation of a constant is rounding, not always 0
    constant = tuple(name for name, does in zip(names, varies, strict=True) if not does)
    if (p := int(varies.sum())) < 2:
        raise UserError(f"{p} features vary: decorrelation wants two")
    x = (x[:, varies] - x[:, varies].mean(0)) / sd[varies]
    r = np.triu(np.abs(x.T @ x) / len(x), 1)
    if len(copies := np.argwhere(r > 1 - 1e-10)):
        j, k = (np.array(names)[varies][i] for i in copies[0])
        raise UserError(f"{j} and {k} are copies of one another: no weights make them independent, leave one out")
    return x, constant


def fourier_features(x: Floats, cosines: int, seed: int) -> tuple[Floats, Bools]:
    """Each feature of x [n, p] beside ``cosines`` of sqrt(2) cos(omega x + b), omega ~ N(0, 1), b ~ U(0, 2 pi).

    Returns:
        z [n, p (cosines + 1)], and bool [p (cosines + 1)] * 2: which pairs of its columns are of different features.

    Raises:
        UserError: that would not fit in memory.
    """
    g, (n, p) = np.random.default_rng(seed), x.shape
    if max(n, p * (cosines + 1)) * p * (cosines + 1) > LARGEST_ARRAY:
        raise UserError(
            f"{p:,} features with {cosines:,} cosines each, of {n:,} rows, are more than a memory holds: take fewer, "
            "or principal components"
        )
    omega, b = g.normal(size=(p, cosines)), g.uniform(0, 2 * np.pi, size=(p, cosines))
    z = np.concatenate([x[:, :, None], np.sqrt(2) * np.cos(x[:, :, None] * omega + b)], axis=2).reshape(n, -1)
    feature = np.repeat(np.arange(p), cosines + 1)
    return z, feature[:, None] != feature


def weighted_covariance(z: Floats, w: Floats) -> tuple[Floats, Floats]:
    """z' diag(w) z - m m' [k, k] and m = z'w [k], of z [n, k] and weights w [n] with sum 1."""
    m = w @ z
    return (z * w[:, None]).T @ z - np.outer(m, m), m


def covariance_gradient(z: Floats, S: Floats, m: Floats) -> Floats:
    """The gradient [n] with respect to w of sum_jk S_jk Cov_jk, S [k, k] symmetric and m as
    :func:`weighted_covariance` gives it."""
    return np.einsum("ij,ij->i", z @ S, z - 2 * m)
