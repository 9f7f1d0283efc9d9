"""Dependence against its formula."""

import numpy as np
import pytest

from contrastkit.errors import UserError
from contrastkit.stable.simulate import selection_bias
from contrastkit.tables.dependence import dependence


def test_the_measure_has_draws_of_its_own() -> None:
    """The formula computed differently; the cosines differ from those of rff with seed 0."""
    x = selection_bias(200, r=2.5, seed=3).X[:, [0, 1, 9]]
    xs, g = (x - x.mean(0)) / x.std(0), np.random.default_rng(10**6)
    omega, b = g.normal(size=(3, 2)), g.uniform(0, 2 * np.pi, size=(3, 2))
    z = [np.column_stack([xs[:, j], np.sqrt(2) * np.cos(xs[:, [j]] * omega[j] + b[j])]) for j in range(3)]
    w = np.arange(200.0)
    cov = np.cov(np.concatenate(z, axis=1), rowvar=False, aweights=w, ddof=0)
    between = np.kron(1 - np.eye(3), np.ones((3, 3)))
    assert dependence(x, w, cosines=2) == pytest.approx((cov**2 * between).sum())
    assert dependence(x, w * 1e-310, cosines=2) == pytest.approx(dependence(x, w, cosines=2))
    for bad, says in ((w[1:], "199 weights for 200"), (-w, "199 weights are negative"), (0 * w, "sum to zero")):
        with pytest.raises(UserError, match=says):
            dependence(x, bad)
