"""Balance against loops."""

import math

import numpy as np
import pytest

from contrastkit.causal.diagnostics import balance_table
from contrastkit.errors import UserError
from tests.causal.simulated import varied, world


def test_the_table_is_that_of_loops() -> None:
    x, t, _ = world(50)
    x[:, 2] = x[:, 2] > 0
    w = np.random.default_rng(2).uniform(0, 2, 50)
    result = balance_table(x, t, w, estimand="ATT")
    for j in range(3):
        a, b, u, v = x[t == 1, j], x[t == 0, j], w[t == 1], w[t == 0]
        difference = sum(a * u) / sum(u) - sum(b * v) / sum(v)
        sd = math.sqrt(a.mean() * (1 - a.mean())) if j == 2 else a.std(ddof=1)
        assert result.smd[j, 1] == pytest.approx(difference / sd)
        steps = [sum(u[a <= z]) / sum(u) - sum(v[b <= z]) / sum(v) for z in x[:, j]]
        assert result.ks[j, 1] == pytest.approx(max(map(abs, steps)))
        assert (
            math.isnan(result.variance_ratio[j, 0])
            if j == 2
            else result.variance_ratio[j, 0] == pytest.approx(a.var(ddof=1) / b.var(ddof=1))
        )
    assert result.n[0, 1] == pytest.approx(sum(w[t == 1]) ** 2 / sum(w[t == 1] ** 2))


def test_each_estimand_has_its_denominator_and_weights_their_variance() -> None:
    x, t, _ = varied(50)
    w = np.random.default_rng(3).uniform(0.1, 2, 50)
    for estimand in ("ATT", "ATC", "ATE", "ATO"):
        result = balance_table(x, t, w, estimand=estimand)
        for j in range(3):
            one, other = x[t, j].var(ddof=1), x[~t, j].var(ddof=1)
            variance = {"ATT": one, "ATC": other}.get(estimand, (one + other) / 2)
            means = [sum(w[arm] * x[arm, j]) / sum(w[arm]) for arm in (t, ~t)]
            assert result.smd[j, 1] == pytest.approx((means[0] - means[1]) / math.sqrt(variance))
            spread = [
                sum(w[arm] * (x[arm, j] - m) ** 2) / (sum(w[arm]) - sum(w[arm] ** 2) / sum(w[arm]))
                for arm, m in zip((t, ~t), means, strict=True)
            ]
            assert result.variance_ratio[j, 1] == pytest.approx(spread[0] / spread[1])


def test_weights_are_checked() -> None:
    x, t, _ = world()
    with pytest.raises(UserError, match="the weights of the treated sum to zero"):
        balance_table(x, t, np.where(t == 1, 0.0, 1.0))
    with pytest.raises(UserError, match="finite and not negative"):
        balance_table(x, t, np.where(t == 1, -1.0, 1.0))
