"""Row weights by gradient descent from equal weights, and those of global balancing."""

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize

from contrastkit.errors import UserError
from contrastkit.tables.checks import Floats, check_at_least

EASING = (100, 10, 1)  # successive multiples of the penalty
EMPTY = 1e-12  # an arm with less of the weight has no means


def softmax_weights(
    loss: Callable[[Floats], tuple[float, Floats]], n: int, *, penalty: float, iterations: int
) -> tuple[Floats, bool]:
    """Weights w = softmax(a) [n] that minimise loss(w) + penalty n sum w^2, by L-BFGS from equal weights, and whether
    the descent converged.

    Args:
        loss: returns its value and its gradient [n] with respect to w.
        penalty: on n sum w^2, which is 1 for equal weights and n for a single nonzero weight.
        iterations: maximum of L-BFGS, after half as many under larger penalties.

    Raises:
        UserError: a negative or infinite penalty, or no iterations.
    """
    check_at_least("penalty", penalty, 0)
    check_at_least("iterations", iterations, 1)

    def objective(a: Floats, penalty: float) -> tuple[float, Floats]:
        w = _softmax(a)
        value, dw = loss(w)
        dw = dw + 2 * penalty * n * w
        return value + penalty * n * float(w @ w), w * (dw - w @ dw)

    a, converged = np.zeros(n), False
    # A first step too far ends on a single row, where the gradient vanishes: leave even weights gradually.
    for factor, steps in zip(EASING, (iterations // 4, iterations // 4, iterations), strict=True):
        options = {"maxiter": steps, "gtol": 1e-6 / n, "ftol": 1e-12}  # gradients of single weights are small
        result = minimize(objective, a, args=(factor * penalty,), jac=True, method="L-BFGS-B", options=options)
        a, converged = result.x, bool(result.success)
    return _softmax(a), converged


def global_balancing_weights(x: Floats, *, penalty: float = 1e-4, iterations: int = 80) -> tuple[Floats, bool]:
    """Global balancing: the causal regulariser of CRLR (Shen et al., ACM MM 2018) on its own.

    Each feature in turn is a treatment, I_j = 1 above its mean, and the other features should have equal means in both
    arms: W minimises  sum_j || X_-j'(W o I_j) / W'I_j - X_-j'(W o (1 - I_j)) / W'(1 - I_j) ||^2 / q  +
    penalty n sum W^2,  q the number of pairs of a treatment and another feature.
    As in the code of DGBCox, features are cut at their mean, and are treatments only where 20 to 80 % of the rows
    are treated. Departures: X_-j is standardised and not cut; the classifier is fitted separately, under the weights;
    W = softmax(a), by L-BFGS, needs no term that pulls its sum to 1.

    Args:
        x: [n, p], standardised (:func:`contrastkit.tables.dependence.standardise`).
        penalty, iterations: see :func:`softmax_weights`.

    Returns:
        Weights [n] with sum 1, and whether the descent converged.

    Raises:
        UserError: no feature qualifies as a treatment.
    """
    above = x > 0  # standardised: above the mean
    treated = np.flatnonzero(np.abs(above.mean(0) - 0.5) <= 0.3)
    if not len(treated):
        raise UserError("no feature has 20 to 80 % of the rows above its mean: global balancing has no treatment")
    I = above[:, treated].astype(np.float64)  # noqa: E741
    others = np.ones((len(treated), x.shape[1]))
    others[np.arange(len(treated)), treated] = 0

    def loss(w: Floats) -> tuple[float, Floats]:
        a = w @ I
        if min(a.min(), 1 - a.max()) < EMPTY:  # a step of the line search that went too far
            return 1 / EMPTY, np.zeros_like(w)
        wx = x * w[:, None]
        inside = I.T @ wx
        one = inside / a[:, None]
        zero = (wx.sum(0) - inside) / (1 - a)[:, None]
        D = (one - zero) * others
        projected = x @ D.T
        dw = I * (projected - (D * one).sum(1)) / a - (1 - I) * (projected - (D * zero).sum(1)) / (1 - a)
        return float((D**2).sum()) / others.sum(), 2 / others.sum() * dw.sum(1)

    return softmax_weights(loss, len(x), penalty=penalty, iterations=iterations)


def _softmax(a: Floats) -> Floats:
    w = np.exp(a - a.max())
    return w / w.sum()
