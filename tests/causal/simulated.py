"""Studies with a known effect."""

import numpy as np


def world(n: int = 60, p: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confounded by the first column; the effect is 2."""
    g = np.random.default_rng(seed)
    x = g.normal(size=(n, p))
    t = g.uniform(size=n) < 1 / (1 + np.exp(-0.8 * x[:, 0] + 0.5))
    return x, t.astype(int), 2.0 * t + x @ np.arange(1, p + 1) + g.normal(size=n)


def varied(n: int = 200, p: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confounded by the first column, on which the effect also depends: 2 + x0."""
    g = np.random.default_rng(seed)
    x = g.normal(size=(n, p))
    t = g.uniform(size=n) < 1 / (1 + np.exp(-0.8 * x[:, 0] + 0.5))
    return x, t, 2.0 * t + x @ np.arange(1, p + 1) + x[:, 0] * t + g.normal(size=n)
