"""Standard errors against stacked estimating equations, the jackknife, other packages and simulated coverage."""

import math
from typing import Any

import numpy as np
import pytest

from contrastkit.causal.estimate import Weighted
from contrastkit.causal.weighting import CovariateBalancing, EntropyBalancing, InverseProbability
from tests.causal.simulated import varied

# ---------------------------------------- M-estimation


def weight(kind: str, t: bool, eta: float, other: float) -> float:
    """The weight of a unit with the linear predictor eta (entropy: of its arm)."""
    e = 1 / (1 + math.exp(-eta))
    return {
        "ipw ATE": 1 / e if t else 1 / (1 - e),
        "ipw ATT": 1.0 if t else e / (1 - e),
        "ipw ATC": (1 - e) / e if t else 1.0,
        "ipw ATO": 1 - e if t else e,
        "cbps ATE": 1 / e if t else 1 / (1 - e),
        "cbps ATT": 1.0 if t else math.exp(eta),
        "cbps ATC": math.exp(-eta) if t else 1.0,
        "entropy ATE": math.exp(eta) if t else math.exp(other),
        "entropy ATT": 1.0 if t else math.exp(other),
        "entropy ATC": math.exp(eta) if t else 1.0,
    }[kind]


def equations(kind: str, a: np.ndarray, t: bool, y: float, theta: np.ndarray) -> np.ndarray:
    """One unit's estimating equations for theta = (beta, beta of the untreated, mu1, mu0), as the papers write them."""
    k = len(a)
    eta, other = float(a @ theta[:k]), float(a @ theta[k : 2 * k])
    w = weight(kind, t, eta, other)
    none = theta[k : 2 * k]  # a parameter that is not needed is zero
    if kind.startswith("ipw"):
        beta = [a * (t - 1 / (1 + math.exp(-eta))), none]
    elif kind.startswith("cbps"):
        beta = [a * (w if t else -w), none]
    else:
        target = {"ATE": True, "ATT": t, "ATC": not t}[kind.split()[1]]
        beta = [a * (target - w * t), a * (target - w * (not t))]
        if kind == "entropy ATT":
            beta[0] = theta[:k]
        if kind == "entropy ATC":
            beta[1] = none
    means = [w * t * (y - theta[-2]), w * (not t) * (y - theta[-1])]
    return np.concatenate([*beta, means])


def solve(kind: str, A: np.ndarray, t: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The roots by Newton's method with numerical derivatives, each unit's equations there, and the derivative."""
    k = A.shape[1]
    theta = np.zeros(2 * k + 2)

    def total(theta: np.ndarray) -> np.ndarray:
        return sum(equations(kind, a, bool(ti), yi, theta) for a, ti, yi in zip(A, t, y, strict=True))  # type: ignore[return-value]

    for _ in range(40):
        steps = np.eye(len(theta)) * 1e-5
        D = np.column_stack([(total(theta + h) - total(theta - h)) / 2e-5 for h in steps])
        move = np.linalg.solve(D, total(theta))
        theta = theta - move
        if np.abs(move).max() < 1e-10:
            break
    units = np.array([equations(kind, a, bool(ti), yi, theta) for a, ti, yi in zip(A, t, y, strict=True)])
    return theta, units, D


WEIGHTINGS: dict[str, Any] = {
    **{f"ipw {name}": InverseProbability(name) for name in ("ATE", "ATT", "ATC", "ATO")},  # type: ignore[arg-type]
    **{f"cbps {name}": CovariateBalancing(name) for name in ("ATE", "ATT", "ATC")},  # type: ignore[arg-type]
    **{f"entropy {name}": EntropyBalancing(name) for name in ("ATE", "ATT", "ATC")},  # type: ignore[arg-type]
}


def stretched(kind: str, A: np.ndarray, t: np.ndarray, y: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """What dividing residuals by 1 minus their leverage adds to each influence [n], by numerical derivatives."""
    n, k, h = len(y), A.shape[1], 1e-5
    w = np.array(
        [weight(kind, ti, float(a @ theta[:k]), float(a @ theta[k : 2 * k])) for a, ti in zip(A, t, strict=True)]
    )
    share = w / np.where(t, w[t].sum(), w[~t].sum())
    own = np.where(t, 1, -1) * share * (y - np.where(t, theta[-2], theta[-1]))
    residual, leverage = own.copy(), share.copy()
    for first in (0, k):  # the first parameter of each set: that of the constant
        curvature, slope = np.zeros(n), np.zeros(n)
        for i in range(n):
            up, down = (theta + sign * h * (np.arange(2 * k + 2) == first) for sign in (1, -1))
            score = [equations(kind, A[i], bool(t[i]), y[i], v)[first] for v in (up, down)]
            logs = [
                math.log(weight(kind, bool(t[i]), float(A[i] @ v[:k]), float(A[i] @ v[k : 2 * k]))) for v in (up, down)
            ]
            curvature[i], slope[i] = abs(score[0] - score[1]) / (2 * h), (logs[0] - logs[1]) / (2 * h)
        if np.abs(slope).max() < 1e-9:
            continue  # this set does not move the weights
        inverse = np.linalg.inv(sum(c * np.outer(a, a) for c, a in zip(curvature, A, strict=True)))
        gradient = sum(o * s * a for o, s, a in zip(own, slope, A, strict=True))
        for i in range(n):
            residual[i] -= np.sign(round(slope[i], 6)) * curvature[i] * (A[i] @ inverse @ gradient)
            leverage[i] = max(leverage[i], curvature[i] * (A[i] @ inverse @ A[i]))
    return residual * leverage / (1 - leverage)


@pytest.mark.parametrize("kind", WEIGHTINGS)
def test_m_estimation_is_the_sandwich_of_the_stacked_equations(kind: str) -> None:
    """Stefanski & Boos 2002: the influence of a unit is minus the inverse derivative of the sums times its equations;
    the part of its own residual is divided by 1 minus its leverage, which brings the error near the jackknife's."""
    x, t, y = varied(50, 2)
    A = np.column_stack([np.ones(50), x])
    theta, units, D = solve(kind, A, t, y)
    influence = -np.linalg.solve(D, units.T)
    result = Weighted(WEIGHTINGS[kind]).fit(x, t, y)
    assert result.effect_ == pytest.approx(theta[-2] - theta[-1], abs=1e-6) and result.influence_ is not None
    expected = influence[-2] - influence[-1] + stretched(kind, A, t, y, theta)
    assert result.influence_ == pytest.approx(expected, abs=1e-5)
    assert result.se_ == pytest.approx(np.linalg.norm(expected), rel=1e-4)
    if not kind.startswith("ipw"):  # whose weights change more than in proportion
        left_out = [Weighted(WEIGHTINGS[kind]).fit(*(np.delete(v, i, 0) for v in (x, t, y))).effect_ for i in range(50)]
        assert result.se_ == pytest.approx(np.std(left_out) * 7, rel=0.15)
