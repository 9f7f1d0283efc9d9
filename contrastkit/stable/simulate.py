"""Data whose spurious part changes from place to place, to learn on one and be tested on others."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from contrastkit.causal.study import Floats
from contrastkit.errors import UserError

Mode = Literal["independent", "S to V", "V to S", "collinear"]
ENVIRONMENTS = (-3.0, -2.0, -1.7, -1.5, -1.3, 1.3, 1.5, 1.7, 2.0, 3.0)  # of the test (Kuang et al. 2020)
BETA = (1 / 3, -2 / 3, 1.0, -1 / 3, 2 / 3, -1.0)


@dataclass(frozen=True)
class Sample:
    """X [n, p]: the stable S in its first ``stable`` columns, then V. Y [n]."""

    X: Floats
    Y: Floats
    stable: int


def selection_bias(n: int, p: int = 10, *, r: float, mode: Mode = "independent", seed: int = 0) -> Sample:
    """Regression under selection (Kuang et al., AAAI 2020, Sec. 5; as in StableLearn's SVI/data/selection_bias.py).

    S_j = 0.8 Z_j + 0.2 Z_{j+1}, Y = S beta + S_1 S_2 S_3 + noise of variance 0.3; V has no part in Y. A row is kept
    with probability |r|^(-5 sum_b |f(S) - sign(r) V_b|) over the last tenth of the columns, so that these V go with Y,
    the more the larger |r|, in the direction of its sign.

    Args:
        n: rows that are kept. p: columns, half of them S.
        r: the bias rate, |r| > 1.
        mode: V independent of S; made of S; S made of V; or all correlated, 0.9 within S and within V, 0.1 between.
        seed: of all draws.

    Raises:
        UserError: |r| is not above 1, or too few columns.
    """
    if not abs(r) > 1:
        raise UserError(f"a bias rate of {r:g} selects nothing: its size must be above 1")
    if p < 6 or p % 2:
        raise UserError(f"{p} columns: an even number of them, 6 or more")
    g, s = np.random.default_rng(seed), p // 2
    beta = np.resize(BETA, s)
    biased = slice(p - max(1, p // 10), p)
    X, Y, have = [], [], 0
    while have < n:
        S, V = _draw(g, 20_000, s, mode)
        f = S @ beta + S[:, 0] * S[:, 1] * S[:, 2]
        x = np.concatenate([S, V], axis=1)
        far = np.abs(f[:, None] - np.sign(r) * x[:, biased]).sum(1)
        kept = g.uniform(size=len(f)) < abs(r) ** (-5 * far)
        X.append(x[kept])
        Y.append(f[kept] + g.normal(0, np.sqrt(0.3), int(kept.sum())))
        have += int(kept.sum())
    return Sample(np.concatenate(X)[:n], np.concatenate(Y)[:n], s)


def _draw(g: np.random.Generator, n: int, s: int, mode: Mode) -> tuple[Floats, Floats]:
    if mode == "collinear":
        cov = np.full((2 * s, 2 * s), 0.1)
        cov[:s, :s] = cov[s:, s:] = 0.9
        np.fill_diagonal(cov, 1.0)
        x = g.multivariate_normal(np.zeros(2 * s), cov, n, method="cholesky")
        return x[:, :s], x[:, s:]
    Z = g.normal(size=(n, s + 1))
    chain = 0.8 * Z[:, :-1] + 0.2 * Z[:, 1:]
    if mode == "independent":
        return chain, g.normal(size=(n, s))
    if mode == "S to V":
        turned = np.roll(chain, -1, axis=1)
        return chain, 0.8 * chain + 0.2 * turned + g.normal(size=(n, s))
    V = g.normal(size=(n, s))
    return 0.2 * V + 0.8 * np.roll(V, -1, axis=1) + g.normal(size=(n, s)), V
