"""Direct balancing against a general optimizer and its own simulation."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from contrastkit.causal.direct_balancing import DifferentiatedConfounderBalancing, ResidualBalancing
from contrastkit.causal.estimate import (
    DifferenceInMeans,
)
from contrastkit.causal.weighting import (
    ApproximateBalancing,
    EntropyBalancing,
)
from contrastkit.errors import UserError
from contrastkit.stable.simulate import confounded
from tests.causal.simulated import world


def test_residual_balancing_mends_what_the_model_missed() -> None:
    """Where the effect of the second covariate is curved, no linear model is right; weighted means do better."""
    x, t, y = world(300)
    result = ResidualBalancing().fit(x, t, y)
    g = ApproximateBalancing().fit(x, t).weights_[t == 0] / (t == 0).sum()
    # With a penalty of nothing the elastic net is least squares, of which the estimate is this:
    A = np.column_stack([np.ones(300), x])
    beta = np.linalg.lstsq(A[t == 0], y[t == 0], rcond=None)[0]
    rest = y - A @ beta
    assert result.effect_ == pytest.approx(rest[t == 1].mean() - g @ rest[t == 0], abs=0.02)
    variance = sum(gi**2 * r**2 for gi, r in zip(g, rest[t == 0], strict=True))
    assert result.se_ == pytest.approx(math.sqrt(variance + rest[t == 1].var(ddof=1) / sum(t)), rel=0.02)


def test_no_other_weights_or_outcome_model_lower_the_objective_of_dcb() -> None:
    """Each step by a general optimizer on the objective of the paper."""
    x, t, y = world(60)
    result = DifferentiatedConfounderBalancing(tolerance=1e-14).fit(x, t, y)
    sd, at = x.std(0), x[t == 0].mean(0)
    X, m = (x[t == 0] - at) / sd, (x[t == 1].mean(0) - at) / sd
    Y = y[t == 0] - y[t == 0].mean()
    Y = Y / (Y - X @ np.linalg.lstsq(X, Y, rcond=None)[0]).std()
    n = len(Y)

    def J(W: np.ndarray, b: np.ndarray) -> float:
        gap = sum(b[k] * (m[k] - sum(W[j] * X[j, k] for j in range(n))) for k in range(3))
        fit = sum((1 + W[j]) * (Y[j] - X[j] @ b) ** 2 for j in range(n))
        return 10 * gap**2 + 10 * fit + 10 * W @ W + b @ b + 0.03 * np.abs(b).sum()

    scale = y[t == 0].std() / Y.std()
    W, b = result.weights_[t == 0] / n, result.coef_ * sd / scale
    best = J(W, b)
    weights = minimize(
        lambda W: J(W, b), np.full(n, 1 / n), method="SLSQP", bounds=[(0, 1)] * n,
        constraints={"type": "eq", "fun": lambda W: W.sum() - 1}, options={"ftol": 1e-12, "maxiter": 500},
    )  # fmt: skip
    assert best == pytest.approx(weights.fun, rel=1e-6) and pytest.approx(weights.x, abs=1e-3) == W
    model = minimize(lambda b: J(W, b), np.ones(3), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-11})
    assert best == pytest.approx(model.fun, rel=1e-8) and b == pytest.approx(model.x, abs=1e-4)
    other = x[t == 1].mean(0) @ result.coef_ + W @ (y[t == 0] - x[t == 0] @ result.coef_)
    assert result.effect_ == pytest.approx(y[t == 1].mean() - other)
    in_cents = DifferentiatedConfounderBalancing(tolerance=1e-14).fit(x / 100, t, 100 * y)
    assert in_cents.effect_ == pytest.approx(100 * result.effect_)


@pytest.mark.parametrize("rate", [0.2, 0.8])
def test_dcb_in_its_own_simulation(rate: float) -> None:
    """RMSE over 20 draws matches the official results over 100 (0.116 and 0.150), out of reach of entropy balancing."""
    off, naive = [], []
    for seed in range(20):
        d = confounded(2000, 50, rate=rate, seed=seed)
        off.append(DifferentiatedConfounderBalancing(intercept=False).fit(d.X, d.T, d.Y).effect_ - d.att)
        naive.append(DifferenceInMeans().fit(d.X, d.T, d.Y).effect_ - d.att)
    assert np.sqrt(np.mean(np.square(off))) < 0.2
    assert np.sqrt(np.mean(np.square(naive))) == pytest.approx({0.2: 7.81, 0.8: 51.7}[rate], rel=0.2)
    with pytest.raises(UserError, match=r"no weights balance these covariates: x\d+ is [\d.]+ standard deviations off"):
        EntropyBalancing().fit(d.X, d.T)
