"""Sample weights under which the features are independent.

Each method takes features and its parameters and returns a :class:`Reweighting`; :data:`METHODS` maps names to methods.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize

from contrastkit.errors import UserError, listed
from contrastkit.tables.checks import Floats, check_at_least, effective_sample_size
from contrastkit.tables.dependence import (
    COSINES,
    covariance_gradient,
    fourier_features,
    measure,
    standardise,
    weighted_covariance,
)
from contrastkit.tables.reweighting import global_balancing_weights, softmax_weights


@dataclass(frozen=True)
class Reweighting:
    """Weights with mean 1, and their effect.

    Attributes:
        weights: float64 [n].
        before, after: :func:`contrastkit.tables.dependence.dependence` of the features, one measure for all methods.
        linear_before, linear_after: its linear part, from covariances alone.
        ess: effective sample size, (sum w)^2 / sum w^2.
        by: the method. linear: whether it uses covariances only. penalty: its penalty, None for srdo.
        converged: whether the optimiser, or each network of srdo, converged. Usually it did not: it stops at its limit
            on the number of steps, which is part of the method, like its penalty.
        constant: names of the features that do not vary, which are ignored.
    """

    weights: Floats
    before: float
    after: float
    linear_before: float
    linear_after: float
    ess: float
    by: str
    linear: bool
    penalty: float | None
    converged: bool
    constant: tuple[str, ...] = ()

    @property
    def notices(self) -> list[str]:
        """Remarks for the user, a line each."""
        n, lines = len(self.weights), []
        if self.constant:
            lines.append(f"constant features are ignored, {len(self.constant)} of them: {listed(self.constant, 5)}")
        other = ["use rff"] if self.by != "rff" else ["use cosines"] if self.linear else []
        more = ["raise the clip"] if self.penalty is None else ["lower the penalty"] if self.penalty else []
        if self.after > 0.95 * self.before:
            if self.linear and self.linear_before < 1e-6:
                what = "the features are already uncorrelated: a linear method cannot change anything"
                advice = other
            elif self.linear_after < 0.5 * self.linear_before:
                what, advice = "the features are less correlated, but as dependent as before", other
            else:
                what, advice = "the weights had almost no effect", [*more, *other]
            lines.append(what + (f"; {', or '.join(advice)}" if advice else ""))
        if self.ess < max(0.02 * n, min(n / 4, 10)):
            less = "lower the clip" if self.penalty is None else "raise the penalty"
            lines.append(f"the weights collapsed onto {self.ess:.0f} of {n} samples: {less}")
        return lines


def rff(X: Any, *, cosines: int = COSINES, penalty: float = 1e-4, iterations: int = 80, seed: int = 0) -> Reweighting:
    """Decorrelate random Fourier features (Rahimi & Recht 2007) over all samples at once.

    w = softmax(a) minimises  sum over columns j, k of different features of Cov_w(z_j, z_k)^2 / (p (p - 1))  +
    penalty n sum w^2,  where the columns of each feature are itself and ``cosines`` of sqrt(2) cos(omega x + b),
    omega ~ N(0, 1), b ~ U(0, 2 pi), on standardised x. StableNet (Zhang et al., CVPR 2021) uses the same dependence
    within a batch, with new random features at each step, and moves the weights hardly with few features and
    too far with many (:mod:`contrastkit.methods.stablenet`); here features are fixed, and L-BFGS sees all samples.

    Args:
        X: covariates, an array or a frame, [n, p].
        cosines: number for each feature; 0 for the linear covariance only. With few, the weights depend on the draw:
            with three, errors vary twice as much across environments (measured under selection bias).
        penalty: on n sum w^2, which is 1 for equal weights and n for a single nonzero weight.
        iterations: maximum of L-BFGS, after half as many under larger penalties. The descent usually stops there and
            not at the minimum: with more, the dependence falls further, and the effective sample size with it.
        seed: seed of the cosines.

    Raises:
        UserError: the data are not numbers, two features are copies, fewer than two vary, there are fewer than three
            rows or too many columns for memory, or a parameter is negative or infinite.
    """
    check_at_least("cosines", cosines, 0)
    x, constant = standardise(X)
    z, between = fourier_features(x, cosines, seed)
    pairs = x.shape[1] * (x.shape[1] - 1)

    def loss(w: Floats) -> tuple[float, Floats]:
        C, m = weighted_covariance(z, w)
        C *= between
        return float((C**2).sum()) / pairs, 2 / pairs * covariance_gradient(z, C, m)

    w, converged = softmax_weights(loss, len(x), penalty=penalty, iterations=iterations)
    return _measured(x, w, constant, by="rff", linear=cosines == 0, penalty=penalty, converged=converged)


def dwr(X: Any, *, penalty: float = 5e-5, unit: float = 0.5, iterations: int = 500) -> Reweighting:
    """Decorrelated weighting (Kuang et al., AAAI 2020; parameters of KunKuang/Decorrelated-Weighted-Regression
    and StableLearn's SVI/algorithm/DWR.py).

    W = G o G minimises  (2000 / p) sum_j ||Cov_W(x_j, x_-j)||_2 + unit (sum W - n)^2 + penalty sum W^2,
    with the regression fitted separately. Two departures: x is standardised, and L-BFGS with the exact gradient
    replaces thousands of steps of RMSprop or Adam. The norms are smoothed at 0, where they are not differentiable.

    Only covariances count: on uncorrelated features, such as principal components, the weights stay equal.

    Args:
        X: covariates, an array or a frame, [n, p].
        penalty: on sum W^2.
        unit: strength of the pull of the mean weight to 1: 0.5 in StableLearn, 5e-4 in the authors' code.
        iterations: maximum of L-BFGS, which usually stops there.

    Raises:
        UserError: see :func:`rff`.
    """
    check_at_least("penalty", penalty, 0)
    check_at_least("unit", unit, 0)
    check_at_least("iterations", iterations, 1)
    x, constant = standardise(X)
    n, p = x.shape

    def objective(G: Floats) -> tuple[float, Floats]:
        W = G * G
        C, m = weighted_covariance(x, W / n)
        np.fill_diagonal(C, 0)
        s = np.sqrt((C**2).sum(1) + 1e-12)
        S = 1000 / p * C * (1 / s + 1 / s[:, None])
        dW = covariance_gradient(x, S, m) / n + 2 * unit * (W.sum() - n) + 2 * penalty * W
        value = 2000 / p * s.sum() + unit * (W.sum() - n) ** 2 + penalty * (W**2).sum()
        return float(value), 2 * G * dW

    options = {"maxiter": iterations, "maxfun": 2 * iterations, "ftol": 1e-12, "gtol": 1e-8}
    result = minimize(objective, np.ones(n), jac=True, method="L-BFGS-B", options=options)
    return _measured(x, result.x**2, constant, by="dwr", linear=True, penalty=penalty, converged=bool(result.success))


def srdo(X: Any, *, permutations: int = 3, folds: int = 5, clip: float = 10.0, seed: int = 0) -> Reweighting:
    """Sample reweighted decorrelation (Shen et al., AAAI 2020; Silver-Shen/Stable_Linear_Model_Learning, model.py).

    A classifier distinguishes the rows from rows whose columns were permuted independently; w = p(permuted | x) /
    p(row | x) is the density ratio. The paper's weights are predictions for the rows that its network was trained on,
    and concentrate on few of them. Here a row is scored by networks (scikit-learn, 100 and 5 units, early stopping)
    that have not seen it, over several permutations; weights are clipped to [1/clip, clip], then scaled to mean 1.

    Args:
        X: covariates, an array or a frame, [n, p].
        permutations: number of permuted copies, over which probabilities are averaged.
        folds: number of cross-fitting folds.
        clip: largest density ratio.
        seed: seed of permutations, folds and networks; the latter two use it modulo 2^32.

    Raises:
        UserError: see :func:`rff`; or fewer than twenty rows for each fold, two folds, one permutation, or a clip of 1.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import KFold
    from sklearn.neural_network import MLPClassifier

    check_at_least("permutations", permutations, 1)
    check_at_least("folds", folds, 2)
    check_at_least("clip", clip, 1)
    x, constant = standardise(X)
    n = len(x)
    if n < 20 * folds:
        raise UserError(f"{n} rows: srdo needs {20 * folds}, twenty for each of its {folds} folds")
    g, real, state, converged = np.random.default_rng(seed), np.zeros(n), seed % 2**32, True
    for turn in range(permutations):
        for train, test in KFold(folds, shuffle=True, random_state=(state + turn) % 2**32).split(x):
            rows = np.concatenate([x[train], g.permuted(x[train], axis=0)])
            network = MLPClassifier((100, 5), early_stopping=True, max_iter=500, random_state=state)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                network.fit(rows, np.repeat([1, 0], len(train)))
            converged = converged and network.n_iter_ < 500
            real[test] += network.predict_proba(x[test])[:, 1] / permutations
    w = np.clip((1 - real) / np.maximum(real, 1e-300), 1 / clip, clip)
    return _measured(x, w, constant, by="srdo", linear=False, penalty=None, converged=converged)


def global_balancing(X: Any, *, penalty: float = 1e-4, iterations: int = 80) -> Reweighting:
    """Global balancing (:func:`contrastkit.tables.reweighting.global_balancing_weights`): each feature in turn is a
    treatment, and the other features should have equal means in both arms.

    Args:
        X: covariates, an array or a frame, [n, p].
        penalty: on n sum W^2, which is 1 for equal weights and n for a single nonzero weight.
        iterations: maximum of L-BFGS, after half as many under larger penalties.

    Raises:
        UserError: see :func:`rff`; or no feature has 20 to 80 % of the rows above its mean.
    """
    x, constant = standardise(X)
    w, converged = global_balancing_weights(x, penalty=penalty, iterations=iterations)
    return _measured(x, w, constant, by="global", linear=False, penalty=penalty, converged=converged)


METHODS: dict[str, Callable[..., Reweighting]] = {"rff": rff, "dwr": dwr, "srdo": srdo, "global": global_balancing}


def _measured(x: Floats, w: Floats, constant: tuple[str, ...], **how: Any) -> Reweighting:
    """The result for weights w [n] of any sum; ``how`` has the fields by, linear, penalty and converged."""
    if not (np.isfinite(w).all() and w.sum() > 0):
        raise UserError("the weights are not finite: choose a smaller penalty")
    equal = np.ones(len(x))
    return Reweighting(
        weights=w * (len(w) / w.sum()),
        before=measure(x, equal, COSINES),
        after=measure(x, w, COSINES),
        linear_before=measure(x, equal, 0),
        linear_after=measure(x, w, 0),
        ess=effective_sample_size(w),
        constant=constant,
        **how,
    )
