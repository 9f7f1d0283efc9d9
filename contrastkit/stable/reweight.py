"""One weight per sample under which the features no longer depend on one another."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize

from contrastkit.causal.study import Floats, covariates, effective_sample_size
from contrastkit.errors import UserError


@dataclass(frozen=True)
class Reweighting:
    """Weights [n] with mean 1; the dependence before and after (sum of squared covariances between columns of different
    features, standardised), and the effective sample size."""

    weights: Floats
    before: float
    after: float
    ess: float

    @property
    def remarks(self) -> list[str]:
        """What the user should know of them, a line each."""
        n, said = len(self.weights), []
        if self.before < 1e-9:
            said.append(
                "the features are uncorrelated already, linear weights have nothing to do: use Fourier features"
            )
        elif self.after > 0.95 * self.before:
            said.append("the weights did next to nothing: the features depend on one another as before")
        if self.ess < 0.02 * n:
            said.append(f"the weights collapsed on {self.ess:.0f} of {n} samples: raise the penalty on their variance")
        return said


def rff(X: Any, *, features: int = 10, penalty: float = 0.01, iterations: int = 150, seed: int = 0) -> Reweighting:
    """Decorrelation of random Fourier features (Rahimi & Recht 2007), over all samples at once.

    w = softmax(a) minimises  sum over columns j, k of different features of Cov_w(z_j, z_k)^2  +  penalty n sum w^2,
    where each feature has as columns itself and ``features`` of sqrt(2) cos(omega x + b), omega ~ N(0, 1), b ~
    U(0, 2 pi), on standardised x. StableNet (Zhang et al., CVPR 2021) has the same dependence, of a batch, with
    features drawn anew at each step and a descent that hardly moves the weights; fixed features, all samples and L-BFGS
    do.

    Args:
        X: [n, p], an array or a frame.
        features: cosines of each feature; 0 leaves the linear covariance. With few, the weights follow the draw:
            at three, errors over environments are twice as uneven (measured under selection bias).
        penalty: on n sum w^2, which is 1 for equal weights and n for a single one.
        iterations: of L-BFGS at most.
        seed: of the cosines.

    Raises:
        UserError: the data are not numbers, or fewer than two features vary.
    """
    x, _ = covariates(X)
    sd = x.std(0)
    x = ((x - x.mean(0)) / np.where(sd > 0, sd, 1))[:, sd > 0]
    n, p = x.shape
    if p < 2:
        raise UserError(f"{p} features vary: decorrelation wants two")
    g = np.random.default_rng(seed)
    omega, b = g.normal(size=(p, features)), g.uniform(0, 2 * np.pi, size=(p, features))
    z = np.concatenate([x[:, :, None], np.sqrt(2) * np.cos(x[:, :, None] * omega + b)], axis=2).reshape(n, -1)
    own = np.repeat(np.arange(p), features + 1)
    apart = own[:, None] != own

    def objective(a: Floats) -> tuple[float, Floats]:
        w = np.exp(a - a.max())
        w /= w.sum()
        m = w @ z
        G = ((z * w[:, None]).T @ z - np.outer(m, m)) * apart
        dw = 2 * np.einsum("ij,ij->i", z @ G, z) - 4 * z @ (G @ m) + 2 * penalty * n * w
        return float((G**2).sum()) + penalty * n * float(w @ w), w * (dw - w @ dw)

    start = np.zeros(n)
    small = {"maxiter": iterations, "gtol": 1e-4 / n, "ftol": 1e-12}  # the gradient of one weight of n is small
    a = minimize(objective, start, jac=True, method="L-BFGS-B", options=small).x
    w = np.exp(a - a.max())
    w *= n / w.sum()
    before = objective(start)[0] - penalty
    after = objective(a)[0] - penalty * float(w @ w) / n
    return Reweighting(w, before, after, effective_sample_size(w))
