"""One weight per sample under which the features no longer depend on one another.

Each way takes features and its own numbers and returns a :class:`Reweighting`; :data:`METHODS` has them by name.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize

from contrastkit.causal.study import Floats, effective_sample_size
from contrastkit.errors import UserError
from contrastkit.stable.checks import features
from contrastkit.stable.checks import weights as weighing

COSINES = 10  # of each feature
LARGEST = 10**9  # numbers in an array: 8 GB


@dataclass(frozen=True)
class Reweighting:
    """Weights [n] with mean 1, and what they did.

    Attributes:
        weights: [n].
        before, after: :func:`dependence` of the features, the same measure for every method.
        linear_before, linear_after: of it, what their covariances alone make.
        ess: effective sample size, (sum w)^2 / sum w^2.
        by: the method. linear: whether it sees covariances alone. penalty: what it was given, none of srdo.
        converged: whether the optimiser, of srdo each network, says that it has arrived. It mostly has not: it stops at
            its largest number of steps, which is a part of the method, as its penalty is.
        constant: names of the features that do not vary, which have no part in it.
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
        """What the user should know of them, a line each."""
        n, said = len(self.weights), []
        if self.constant:
            some = ", ".join(self.constant[:5]) + (", ..." if len(self.constant) > 5 else "")
            said.append(f"features that do not vary have no part in it, {len(self.constant)} of them: {some}")
        other = ["use rff"] if self.by != "rff" else ["use cosines"] if self.linear else []
        more = ["raise the clip"] if self.penalty is None else ["lower the penalty"] if self.penalty else []
        if self.after > 0.95 * self.before:
            if self.linear and self.linear_before < 1e-6:
                what = "the features are uncorrelated already: a linear method has nothing to do, by algebra"
                advice = other
            elif self.linear_after < 0.5 * self.linear_before:
                what, advice = "the features are less correlated, but depend on one another as before", other
            else:
                what, advice = "the weights did next to nothing", [*more, *other]
            said.append(what + (f"; {', or '.join(advice)}" if advice else ""))
        if self.ess < max(0.02 * n, min(n / 4, 10)):
            less = "lower the clip" if self.penalty is None else "raise the penalty"
            said.append(f"the weights collapsed on {self.ess:.0f} of {n} samples: {less}")
        return said


def dependence(X: Any, w: ArrayLike | None = None, *, cosines: int = COSINES) -> float:
    """How much features depend on one another: sum over columns j, k of different features of Cov_w(z_j, z_k)^2.

    Each feature has as columns itself, standardised without weights, and ``cosines`` random cosines of itself as in
    :func:`rff`; none leave the linear part. The draws are no method's own, lest it be judged on what it was fitted to.
    Chance adds about one over the effective sample size for each pair, so that few rows never come to 0.

    Args:
        X: [n, p], an array or a frame.
        w: weights [n], not negative; None for equal ones.
        cosines: of each feature.

    Raises:
        UserError: the data are not numbers, two features are copies, fewer than two vary, there are fewer than three
            rows, or the weights are not finite, negative, all zero, or of another number.
    """
    _at_least("cosines", cosines, 0)
    x, _ = _standardised(X)
    return _dependence(x, np.ones(len(x)) if w is None else weighing(w, len(x)), cosines)


def rff(X: Any, *, cosines: int = COSINES, penalty: float = 1e-4, iterations: int = 80, seed: int = 0) -> Reweighting:
    """Decorrelation of random Fourier features (Rahimi & Recht 2007), over all samples at once.

    w = softmax(a) goes towards the least of  sum over columns j, k of different features of Cov_w(z_j, z_k)^2 / (p (p -
    1))  +  penalty n sum w^2,  where each feature has as columns itself and ``cosines`` of sqrt(2) cos(omega x + b),
    omega ~ N(0, 1), b ~ U(0, 2 pi), on standardised x. StableNet (Zhang et al., CVPR 2021) has the same dependence, of
    a batch, with features drawn anew at each step and a descent that hardly moves the weights; fixed features, all
    samples and L-BFGS do.

    Args:
        X: [n, p], an array or a frame.
        cosines: of each feature; 0 leaves the linear covariance. With few, the weights follow the draw:
            at three, errors over environments are twice as uneven (measured under selection bias).
        penalty: on n sum w^2, which is 1 for equal weights and n for a single one.
        iterations: of L-BFGS at most, after half as many towards it. They mostly end there and not at the least: with
            more, the dependence falls further and the effective sample with it.
        seed: of the cosines.

    Raises:
        UserError: the data are not numbers, two features are copies, fewer than two vary, there are fewer than three
            rows, or more columns than a memory holds; a number that is negative or infinite.
    """
    _at_least("cosines", cosines, 0)
    x, constant = _standardised(X)
    z, apart = _fourier(x, cosines, seed)
    pairs = x.shape[1] * (x.shape[1] - 1)

    def loss(w: Floats) -> tuple[float, Floats]:
        C, m = _covariance(z, w)
        C *= apart
        return float((C**2).sum()) / pairs, 2 / pairs * _slope(z, C, m)

    w, converged = _descend(loss, len(x), penalty, iterations)
    return _reweighting(x, w, constant, by="rff", linear=cosines == 0, penalty=penalty, converged=converged)


def dwr(X: Any, *, penalty: float = 5e-5, unit: float = 0.5, iterations: int = 500) -> Reweighting:
    """Decorrelated weighting (Kuang et al., AAAI 2020; the numbers of KunKuang/Decorrelated-Weighted-Regression
    and StableLearn's SVI/algorithm/DWR.py).

    W = G o G goes towards the least of  (2000 / p) sum_j ||Cov_W(x_j, x_-j)||_2 + unit (sum W - n)^2 + penalty sum W^2,
    the regression left to whoever takes the weights. Two departures: x is standardised, and L-BFGS with the exact
    gradient takes the place of thousands of steps of RMSprop or Adam. The norms are rounded off at 0, where they have
    no slope.

    Covariances only: on features that are uncorrelated, the axes of a PCA say, the weights stay equal.

    Args:
        X: [n, p], an array or a frame.
        penalty: on sum W^2.
        unit: of the mean weight's pull to 1: 0.5 in StableLearn, 5e-4 in the authors' own code.
        iterations: of L-BFGS at most, where it mostly ends, as the thousands of steps do.

    Raises:
        UserError: as :func:`rff`.
    """
    _at_least("penalty", penalty, 0)
    _at_least("unit", unit, 0)
    _at_least("iterations", iterations, 1)
    x, constant = _standardised(X)
    n, p = x.shape

    def objective(G: Floats) -> tuple[float, Floats]:
        W = G * G
        C, m = _covariance(x, W / n)
        np.fill_diagonal(C, 0)
        s = np.sqrt((C**2).sum(1) + 1e-12)
        S = 1000 / p * C * (1 / s + 1 / s[:, None])
        dW = _slope(x, S, m) / n + 2 * unit * (W.sum() - n) + 2 * penalty * W
        value = 2000 / p * s.sum() + unit * (W.sum() - n) ** 2 + penalty * (W**2).sum()
        return float(value), 2 * G * dW

    options = {"maxiter": iterations, "maxfun": 2 * iterations, "ftol": 1e-12, "gtol": 1e-8}
    found = minimize(objective, np.ones(n), jac=True, method="L-BFGS-B", options=options)
    return _reweighting(x, found.x**2, constant, by="dwr", linear=True, penalty=penalty, converged=bool(found.success))


def srdo(X: Any, *, permutations: int = 3, folds: int = 5, clip: float = 10.0, seed: int = 0) -> Reweighting:
    """Sample reweighted decorrelation (Shen et al., AAAI 2020; Silver-Shen/Stable_Linear_Model_Learning, model.py).

    A classifier tells the rows from rows whose columns were permuted, each by itself; w = p(permuted | x) / p(row | x)
    is the ratio of the densities. The paper's weights are predictions of the rows that its network was trained on, and
    follow few of them. Here a row is judged by networks (scikit-learn's, 100 and 5 units, stopped early) that have not
    seen it, over several permutations, and no weight is above ``clip`` or below its inverse before they get mean 1.

    Args:
        X: [n, p], an array or a frame.
        permutations: draws of the permuted rows, over which probabilities are averaged.
        folds: of cross-fitting.
        clip: the largest ratio of densities.
        seed: of permutations, folds and networks, the latter by its remainder of 2^32.

    Raises:
        UserError: as :func:`rff`, fewer than twenty rows for each fold, or two folds, one permutation, a clip of 1.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import KFold
    from sklearn.neural_network import MLPClassifier

    _at_least("permutations", permutations, 1)
    _at_least("folds", folds, 2)
    _at_least("clip", clip, 1)
    x, constant = _standardised(X)
    n = len(x)
    if n < 20 * folds:
        raise UserError(f"{n} rows: srdo wants {20 * folds}, twenty for each of its {folds} folds")
    g, real, state, converged = np.random.default_rng(seed), np.zeros(n), seed % 2**32, True
    for turn in range(permutations):
        for train, held in KFold(folds, shuffle=True, random_state=(state + turn) % 2**32).split(x):
            rows = np.concatenate([x[train], g.permuted(x[train], axis=0)])
            network = MLPClassifier((100, 5), early_stopping=True, max_iter=500, random_state=state)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                network.fit(rows, np.repeat([1, 0], len(train)))
            converged = converged and network.n_iter_ < 500
            real[held] += network.predict_proba(x[held])[:, 1] / permutations
    w = np.clip((1 - real) / np.maximum(real, 1e-300), 1 / clip, clip)
    return _reweighting(x, w, constant, by="srdo", linear=False, penalty=None, converged=converged)


def global_balancing(X: Any, *, penalty: float = 1e-4, iterations: int = 80) -> Reweighting:
    """Global balancing (Shen et al., ACM MM 2018, the causal regulariser of CRLR), by itself.

    Each feature in turn is a treatment, I_j = 1 above its mean, and the others are to have the same mean in both arms:
    W goes towards the least of  sum_j || X_-j'(W o I_j) / W'I_j - X_-j'(W o (1 - I_j)) / W'(1 - I_j) ||^2 / q  +
    penalty n sum W^2,  q the number of pairs of a treatment and another feature.
    As in the code of DGBCox, features are cut at their mean, and are treatments only where 20 to 80 % of the rows
    are treated. Departures: X_-j is standardised and not cut, the classifier is left to whoever takes the weights, and
    W = softmax(a), by L-BFGS, needs no term that draws its sum to 1.

    Args:
        X: [n, p], an array or a frame.
        penalty: on n sum W^2, which is 1 for equal weights and n for a single one.
        iterations: of L-BFGS at most, after half as many towards it; they may end there.

    Raises:
        UserError: as :func:`rff`, or no feature has arms of that size.
    """
    x, constant = _standardised(X)
    above = x > 0  # standardised: above the mean
    treated = np.flatnonzero(np.abs(above.mean(0) - 0.5) <= 0.3)
    if not len(treated):
        raise UserError("no feature has 20 to 80 % of the rows above its mean: global balancing has no treatment")
    I = above[:, treated].astype(np.float64)  # noqa: E741
    others = np.ones((len(treated), x.shape[1]))
    others[np.arange(len(treated)), treated] = 0

    def loss(w: Floats) -> tuple[float, Floats]:
        a = w @ I
        wx = x * w[:, None]
        inside = I.T @ wx
        one = inside / a[:, None]
        zero = (wx.sum(0) - inside) / (1 - a)[:, None]
        D = (one - zero) * others
        along = x @ D.T
        dw = I * (along - (D * one).sum(1)) / a - (1 - I) * (along - (D * zero).sum(1)) / (1 - a)
        return float((D**2).sum()) / others.sum(), 2 / others.sum() * dw.sum(1)

    w, converged = _descend(loss, len(x), penalty, iterations)
    return _reweighting(x, w, constant, by="global", linear=False, penalty=penalty, converged=converged)


METHODS: dict[str, Callable[..., Reweighting]] = {"rff": rff, "dwr": dwr, "srdo": srdo, "global": global_balancing}


def _at_least(name: str, value: float, least: float) -> None:
    if not least <= value < np.inf:
        raise UserError(f"{name} {value:g}: a finite number, {least:g} or more")


def _standardised(X: Any) -> tuple[Floats, tuple[str, ...]]:
    """The features that vary with mean 0 and variance 1, [n, p], and the names of those that do not."""
    x, names = features(X)
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


def _fourier(x: Floats, cosines: int, seed: int) -> tuple[Floats, NDArray[np.bool_]]:
    """Each feature and its cosines side by side, [n, p (cosines + 1)], and which pairs are of different features."""
    g, (n, p) = np.random.default_rng(seed), x.shape
    if max(n, p * (cosines + 1)) * p * (cosines + 1) > LARGEST:
        raise UserError(
            f"{p:,} features with {cosines:,} cosines each, of {n:,} rows, are more than a memory holds: take fewer, "
            "or principal components"
        )
    omega, b = g.normal(size=(p, cosines)), g.uniform(0, 2 * np.pi, size=(p, cosines))
    z = np.concatenate([x[:, :, None], np.sqrt(2) * np.cos(x[:, :, None] * omega + b)], axis=2).reshape(n, -1)
    own = np.repeat(np.arange(p), cosines + 1)
    return z, own[:, None] != own


def _covariance(z: Floats, w: Floats) -> tuple[Floats, Floats]:
    """z' diag(w) z - m m' and m = z' w."""
    m = w @ z
    return (z * w[:, None]).T @ z - np.outer(m, m), m


def _slope(z: Floats, S: Floats, m: Floats) -> Floats:
    """The gradient [n] by w of sum_jk S_jk Cov_jk, S symmetric."""
    return np.einsum("ij,ij->i", z @ S, z - 2 * m)


def _dependence(x: Floats, w: Floats, cosines: int) -> float:
    z, apart = _fourier(x, cosines, seed=10**6)
    return float((_covariance(z, w / w.sum())[0][apart] ** 2).sum())


def _softmax(a: Floats) -> Floats:
    w = np.exp(a - a.max())
    return w / w.sum()


def _descend(
    loss: Callable[[Floats], tuple[float, Floats]], n: int, penalty: float, iterations: int
) -> tuple[Floats, bool]:
    """w = softmax(a) [n] on the way from equal weights to where loss(w) + penalty n sum w^2 is least, by L-BFGS, and
    whether it has arrived; ``loss`` gives its value and its gradient by w."""
    _at_least("penalty", penalty, 0)
    _at_least("iterations", iterations, 1)

    def objective(a: Floats, penalty: float) -> tuple[float, Floats]:
        w = _softmax(a)
        value, dw = loss(w)
        dw = dw + 2 * penalty * n * w
        return value + penalty * n * float(w @ w), w * (dw - w @ dw)

    a, converged = np.zeros(n), False
    # A first step too far ends on one sample, whence no slope leads: even weights are given up by and by.
    for share, most in ((100, iterations // 4), (10, iterations // 4), (1, iterations)):
        options = {"maxiter": most, "gtol": 1e-6 / n, "ftol": 1e-12}  # the gradient of one weight of n is small
        found = minimize(objective, a, args=(share * penalty,), jac=True, method="L-BFGS-B", options=options)
        a, converged = found.x, bool(found.success)
    return _softmax(a), converged


def _reweighting(x: Floats, w: Floats, constant: tuple[str, ...], **how: Any) -> Reweighting:
    """``how``: the fields by, linear, penalty and converged."""
    if not (np.isfinite(w).all() and w.sum() > 0):
        raise UserError("no finite weights came of it: choose a smaller penalty")
    equal = np.ones(len(x))
    return Reweighting(
        weights=w * (len(w) / w.sum()),
        before=_dependence(x, equal, COSINES),
        after=_dependence(x, w, COSINES),
        linear_before=_dependence(x, equal, 0),
        linear_after=_dependence(x, w, 0),
        ess=effective_sample_size(w),
        constant=constant,
        **how,
    )
