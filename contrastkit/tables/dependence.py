"""Statistical dependence between columns under row weights.

Each feature is expanded by random cosines of itself (random Fourier features; Rahimi & Recht 2007). Their covariances
capture dependence of any form; covariances of the features alone capture only linear dependence.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from contrastkit.errors import UserError
from contrastkit.tables.checks import Bools, Floats, as_weights, check_at_least, check_magnitude
from contrastkit.tables.covariates import Covariates, scales

COSINES = 10  # for each feature
LARGEST_ARRAY = 10**9  # numbers, 8 GB
PERMUTATIONS = 199
MEASURE_SEED = 10**6  # differs from every method's seed: no method is evaluated on the cosines it was fitted to


def dependence(X: Any, w: ArrayLike | None = None, *, cosines: int = COSINES) -> float:
    """Dependence between features: the sum over columns j, k of different features of Cov_w(z_j, z_k)^2.

    Each feature contributes itself, standardised without weights, and ``cosines`` random cosines of itself
    (:func:`fourier_features`); with 0 cosines only the linear part remains. Chance adds about one over the effective
    sample size for each pair, so the value does not reach 0 on few rows.

    Args:
        X: covariates, an array or a frame, [n, p].
        w: nonnegative weights [n]; None for equal weights.
        cosines: number of cosines for each feature.

    Raises:
        UserError: see :func:`standardise`; or the weights are not n, not finite, negative, or all zero.
    """
    check_at_least("cosines", cosines, 0)
    x, _ = standardise(X)
    return measure(x, np.ones(len(x)) if w is None else as_weights(w, len(x)), cosines)


def measure(x: Floats, w: Floats, cosines: int = COSINES) -> float:
    """:func:`dependence` of standardised features x [n, p] under weights w [n] of any sum."""
    z, between = fourier_features(x, cosines, seed=MEASURE_SEED)
    return float((weighted_covariance(z, w / w.sum())[0][between] ** 2).sum())


def independence(a: Floats, b: Floats, *, permutations: int = PERMUTATIONS, seed: int = 0) -> float:
    """The p-value of columns a [n, p] that are independent of columns b [n, q], by the sum of squared covariances
    between their cosines (:func:`fourier_features`), which is the Hilbert-Schmidt independence criterion of Gretton et
    al. (2005) with kernels approximated by random features, and permutations of the rows of a (Phipson & Smyth 2010).
    """
    z, w = (fourier_features((x - x.mean(0)) / scales(x), COSINES, MEASURE_SEED + k)[0] for k, x in enumerate((a, b)))
    z, w = z - z.mean(0), w - w.mean(0)
    g = np.random.default_rng(seed)
    seen = float(((z.T @ w) ** 2).sum())
    permuted = [float(((z[g.permutation(len(z))].T @ w) ** 2).sum()) for _ in range(permutations)]
    return (1 + sum(value >= seen for value in permuted)) / (1 + permutations)


def standardise(X: Any) -> tuple[Floats, tuple[str, ...]]:
    """The features that vary, scaled to mean 0 and variance 1, [n, p], and the names of the constant ones.

    Raises:
        UserError: the data are not numbers of moderate size, two features are copies of one another, fewer than two
            vary, or there are fewer than three rows.
    """
    covariates = Covariates.of(X)
    x, names = covariates.x, covariates.names
    check_magnitude(x, names)
    if len(x) < 3:
        raise UserError(f"{len(x)} rows: with fewer than three, any two features are copies of one another")
    sd = x.std(0)
    varies = sd > 1e-12 * np.abs(x).max(0)  # the standard deviation of a constant may be rounding error
    constant = tuple(name for name, variable in zip(names, varies, strict=True) if not variable)
    if (p := int(varies.sum())) < 2:
        raise UserError(f"{p} features vary: decorrelation needs at least two")
    x = (x[:, varies] - x[:, varies].mean(0)) / sd[varies]
    r = np.triu(np.abs(x.T @ x) / len(x), 1)
    if len(copies := np.argwhere(r > 1 - 1e-10)):
        j, k = (np.array(names)[varies][i] for i in copies[0])
        raise UserError(f"{j} and {k} are copies of one another: no weights make them independent; leave one out")
    return x, constant


def fourier_features(x: Floats, cosines: int, seed: int) -> tuple[Floats, Bools]:
    """Each feature of x [n, p] followed by ``cosines`` of sqrt(2) cos(omega x + b), omega ~ N(0, 1), b ~ U(0, 2 pi).

    Returns:
        z [n, p (cosines + 1)], and bool [p (cosines + 1)] * 2: which pairs of its columns belong to different features.

    Raises:
        UserError: the result would not fit in memory.
    """
    g, (n, p) = np.random.default_rng(seed), x.shape
    if max(n, p * (cosines + 1)) * p * (cosines + 1) > LARGEST_ARRAY:
        raise UserError(
            f"{p:,} features with {cosines:,} cosines each, of {n:,} rows, do not fit in memory: use fewer "
            "of them, or principal components"
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
    """The gradient [n] with respect to w of sum_jk S_jk Cov_jk, for symmetric S [k, k] and m from
    :func:`weighted_covariance`."""
    return np.einsum("ij,ij->i", z @ S, z - 2 * m)
