"""Propensity scores against a general optimizer and loops."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.tree import DecisionTreeClassifier

from contrastkit.causal.estimate import (
    AIPW,
)
from contrastkit.causal.propensity import Propensity, calibration, crump
from contrastkit.errors import UserError
from tests.causal.simulated import varied, world


def test_the_scores_are_those_of_the_largest_likelihood() -> None:
    x, t, _ = world()

    def loss(b: np.ndarray) -> float:
        return sum(math.log1p(math.exp((1 - 2 * ti) * (b[0] + b[1:] @ xi))) for xi, ti in zip(x, t, strict=True))

    b = minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-9}).x
    model = Propensity().fit(x, t)
    assert model.scores_ == pytest.approx(1 / (1 + np.exp(-(b[0] + x @ b[1:]))), abs=1e-6)
    assert model.predict(x) == pytest.approx(model.scores_)
    pairs = [(a > b) + 0.5 * (a == b) for a in model.scores_[t == 1] for b in model.scores_[t == 0]]
    assert model.auc_ == pytest.approx(np.mean(pairs))


def test_separation_is_refused() -> None:
    x, t, _ = world()
    with pytest.raises(UserError, match="perfect separation"):
        Propensity().fit(x, x[:, 0] > 0)
    tree = DecisionTreeClassifier(random_state=0)  # tells by heart whom it has seen
    with pytest.raises(UserError, match="with folds"):
        Propensity(tree).fit(x, t)
    result = Propensity(tree, folds=5).fit(x, t)
    assert set(result.scores_) == {1e-6, 1 - 1e-6} and result.clipped_ == 60


def test_arms_that_are_half_separated_are_refused_and_outliers_are_not() -> None:
    x, t, y = varied(400)
    x[:, 1] = t & (np.arange(400) % 3 == 0)  # 1 among the treated alone
    with pytest.raises(UserError, match="perfect separation"):
        Propensity().fit(x, t)
    x[:, 1] = np.random.default_rng(1).normal(size=400)
    x[7, 0] = 80.0  # whose score rounds to 1
    t[7] = True
    scores = Propensity().fit(x, t).scores_
    assert scores[7] > 1 - 1e-12 and np.isfinite(AIPW().fit(x, t, y).effect_)


def test_a_flexible_model_is_judged_on_rows_it_has_not_seen() -> None:
    """A forest that separates its own training rows still works when cross-fitted; the effect is 2."""
    x, t, y = world(2000)
    forests = RandomForestRegressor(30, random_state=0), RandomForestClassifier(30, min_samples_leaf=20, random_state=0)
    result = AIPW("ATE", model=forests[0], propensity=Propensity(forests[1]), repeats=1).fit(x, t, y)
    assert abs(result.effect_ - 2) < 4 * result.se_ < 0.5


def test_crumps_cut_is_the_smallest_that_will_do() -> None:
    e = np.random.default_rng(1).beta(0.3, 0.3, size=400).clip(0.003, 0.997)

    def holds(a: float) -> bool:
        selected = [1 / (v * (1 - v)) for v in e if v * (1 - v) >= a * (1 - a)]
        return 1 / (a * (1 - a)) <= 2 * sum(selected) / len(selected)

    grid = np.linspace(0.001, 0.499, 4000)
    assert crump(e) == pytest.approx(next(a for a in grid if holds(a)), abs=3e-4)
    assert crump(np.full(10, 0.4)) == 0.0


def test_calibration_counts_tenths() -> None:
    e = np.random.default_rng(2).uniform(size=1000)
    t = np.random.default_rng(3).uniform(size=1000) < e
    order = sorted(range(1000), key=lambda i: e[i])
    rows = []
    for k in range(10):
        tenth = order[100 * k : 100 * (k + 1)]
        rows.append([sum(e[i] for i in tenth) / 100, sum(t[i] for i in tenth) / 100, 100])
    assert calibration(e, t) == pytest.approx(np.array(rows))
    alike = calibration(np.repeat([0.2, 0.6], 50), np.arange(100) % 5 == 0)
    assert alike == pytest.approx(np.array([[0.2, 0.2, 50], [0.6, 0.2, 50]]))
