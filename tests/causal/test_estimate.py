"""Estimators against their formulas, unit by unit."""

import math
from typing import Any, cast

import numpy as np
import pytest

from contrastkit.causal.coarsened import CoarsenedExact
from contrastkit.causal.direct_balancing import DifferentiatedConfounderBalancing, ResidualBalancing
from contrastkit.causal.estimate import (
    AIPW,
    DifferenceInMeans,
    Estimator,
    Matched,
    OaxacaBlinder,
    Regression,
    Stratified,
    Weighted,
)
from contrastkit.causal.matching import Matching
from contrastkit.causal.propensity import Propensity
from contrastkit.causal.weighting import (
    ApproximateBalancing,
    EntropyBalancing,
    InverseProbability,
)
from contrastkit.errors import UserError
from tests.causal.simulated import varied, world


@pytest.mark.parametrize("estimand", ["ATT", "ATC", "ATE"])
def test_strata_are_means_of_differences_in_fifths_of_the_score(estimand: str) -> None:
    x, t, y = varied()
    e = Propensity().fit(x, t).scores_
    goal = {"ATT": t, "ATC": ~t, "ATE": np.ones(200, bool)}[estimand]
    cuts = np.quantile(e[goal], [0.2, 0.4, 0.6, 0.8])
    effect = variance = 0.0
    for k in range(5):
        low, high = (-1, *cuts, 2)[k : k + 2]
        rows = [i for i in range(200) if low <= e[i] < high]
        one, other = (np.array([y[i] for i in rows if t[i] == arm]) for arm in (True, False))
        share = sum(goal[i] for i in rows) / goal.sum()
        effect += share * (one.mean() - other.mean())
        variance += share**2 * (one.var(ddof=1) / len(one) + other.var(ddof=1) / len(other))
    result = Stratified(estimand).fit(x, t, y)  # type: ignore[arg-type]
    assert (result.effect_, result.se_) == (pytest.approx(effect), pytest.approx(math.sqrt(variance)))


def test_aipw_of_the_treated_has_the_error_of_its_influence_function() -> None:
    x, t, y = varied()
    e = Propensity().fit(x, t).scores_
    A = np.column_stack([np.ones(200), x])
    m0 = A @ np.linalg.lstsq(A[~t], y[~t], rcond=None)[0]
    w = e / (1 - e)
    would = sum(w[i] * (y[i] - m0[i]) for i in range(200) if not t[i]) / w[~t].sum()
    effect = np.mean([y[i] - m0[i] for i in range(200) if t[i]]) - would
    psi = []
    for i in range(200):
        if t[i]:
            psi.append((y[i] - m0[i] - effect - would) / t.mean())
        else:
            psi.append(-w[i] * (y[i] - m0[i] - would) * 200 / w[~t].sum())
    result = AIPW(folds=0).fit(x, t, y)
    assert (result.effect_, result.se_) == (pytest.approx(effect), pytest.approx(np.std(psi, ddof=1) / math.sqrt(200)))


def test_oaxaca_has_the_spread_of_the_differences_and_of_the_prediction() -> None:
    x, t, y = varied()
    A = np.column_stack([np.ones(200), x])
    inverse = np.linalg.inv(A[~t].T @ A[~t])
    beta = inverse @ A[~t].T @ y[~t]
    gain = [y[i] - A[i] @ beta for i in range(200) if t[i]]
    meat = sum(np.outer(A[i], A[i]) * (y[i] - A[i] @ beta) ** 2 for i in range(200) if not t[i])
    n = (~t).sum()
    mean = A[t].mean(0)
    variance = np.var(gain, ddof=1) / t.sum() + mean @ inverse @ meat @ inverse @ mean * n / (n - 4)
    result = OaxacaBlinder().fit(x, t, y)
    assert (result.effect_, result.se_) == (pytest.approx(np.mean(gain)), pytest.approx(math.sqrt(variance)))


def test_the_ate_by_matching_has_the_standard_error_of_abadie_and_imbens() -> None:
    """Theorem 7 of 2006 as implemented in R's Matching: every unit is matched, and partners enter the mean twice."""
    x, t, y = world(40, 2)
    e = Matched(Matching("ATE", metric="euclidean"), bias_correction=False).fit(x, t, y)
    partner = {}
    for i in range(40):
        partner[i] = min((j for j in range(40) if t[j] != t[i]), key=lambda j: np.linalg.norm(x[i] - x[j]))
    tau_i = [(1 if t[i] else -1) * (y[i] - y[partner[i]]) for i in range(40)]
    tau = np.mean(tau_i)
    s2 = sum((v - tau) ** 2 for v in tau_i) / 80
    K = [sum(partner[i] == j for i in range(40)) for j in range(40)]
    V = sum((v - tau) ** 2 for v in tau_i) + s2 * sum(k**2 + 2 * k - k for k in K)
    assert (e.effect_, e.se_) == (pytest.approx(tau), pytest.approx(math.sqrt(V) / 40))


def test_matching_has_the_standard_error_of_abadie_and_imbens() -> None:
    """Written out unit by unit; with replacement, ties and three partners each."""
    x, t, y = world(60, 2)
    x = x.round(1)
    e = Matched(Matching(metric="euclidean", ratio=3)).fit(x, t, y)
    treated, controls = np.flatnonzero(t == 1), np.flatnonzero(t == 0)
    J = {}
    for i in treated:
        d = {j: np.linalg.norm(x[i] - x[j]) for j in controls}
        third = sorted(d.values())[2]
        J[i] = [j for j in controls if d[j] <= third + 1e-9]
    K = {j: sum((j in J[i]) / len(J[i]) for i in treated) for j in controls}
    K2 = {j: sum((j in J[i]) / len(J[i]) ** 2 for i in treated) for j in controls}
    used = [j for j in controls if K[j]]
    A = np.array([[1, *x[j]] for j in used])
    W = np.diag([K[j] for j in used])
    beta = np.linalg.solve(A.T @ W @ A, A.T @ W @ y[used])[1:]
    other = {(i, j): y[j] + (x[i] - x[j]) @ beta for i in treated for j in J[i]}
    each = {i: y[i] - np.mean([other[i, j] for j in J[i]]) for i in treated}
    tau = np.mean(list(each.values()))
    s2 = sum((y[i] - other[i, j] - tau) ** 2 / len(J[i]) for i in treated for j in J[i]) / (2 * len(treated))
    V = sum((v - tau) ** 2 for v in each.values()) + s2 * sum(K[j] ** 2 - K2[j] for j in controls)
    assert (e.effect_, e.se_) == (pytest.approx(tau), pytest.approx(math.sqrt(V) / len(treated)))


def test_regression_has_whites_standard_error() -> None:
    x, t, y = world()
    A = np.column_stack([np.ones(len(y)), t, x])
    inverse = np.linalg.inv(A.T @ A)
    beta = inverse @ A.T @ y
    meat = sum(np.outer(a, a) * (yi - a @ beta) ** 2 for a, yi in zip(A, y, strict=True))
    V = inverse @ meat @ inverse * len(y) / (len(y) - 5)
    e = Regression().fit(x, t, y)
    assert (e.effect_, e.se_) == (pytest.approx(beta[1]), pytest.approx(math.sqrt(V[1, 1])))
    W = DifferenceInMeans().fit(x, t, y)
    A = A[:, :2]
    residual = y - A @ np.linalg.lstsq(A, y, rcond=None)[0]
    inverse = np.linalg.inv(A.T @ A)
    V = inverse @ (A.T @ np.diag(residual**2) @ A) @ inverse * len(y) / (len(y) - 2)
    assert W.se_ == pytest.approx(math.sqrt(V[1, 1]))


def test_all_dummies_of_a_factor_are_as_good_as_all_but_one() -> None:
    x, t, y = world(80)
    factor = np.arange(80) % 3
    less = np.column_stack([x, factor == 1, factor == 2])
    every = np.column_stack([x, factor == 0, factor == 1, factor == 2, np.ones(80)])
    for estimator in (Regression(), OaxacaBlinder()):
        one = estimator.fit(less, t, y)
        effect, se = one.effect_, one.se_
        other = estimator.fit(every, t, y)
        assert (other.effect_, other.se_) == (pytest.approx(effect), pytest.approx(se))


@pytest.mark.parametrize("estimand", ["ATT", "ATE"])
def test_aipw_is_right_if_either_model_is(estimand: str) -> None:
    x, t, y = world(6000)
    both = AIPW(estimand).fit(x, t, y)  # type: ignore[arg-type]
    neither = DifferenceInMeans().fit(x, t, y)
    assert abs(both.effect_ - 2) < 4 * both.se_ < abs(neither.effect_ - 2)

    class Wrong(Propensity):
        """Ignores all confounders."""

        def learn(self, x: np.ndarray, t: np.ndarray, s: np.ndarray | None = None) -> None:
            super().learn(x[:, 1:2], t, s)

        def probabilities(self, x: np.ndarray) -> np.ndarray:
            return super().probabilities(x[:, 1:2])

    half = AIPW(estimand, propensity=Wrong()).fit(x, t, y)  # type: ignore[arg-type]
    assert abs(half.effect_ - 2) < 4 * half.se_


@pytest.mark.parametrize(
    ("X", "T", "Y", "says"),
    [
        (np.array([[1.0], [np.nan], [2.0]]), [0, 1, 1], [1, 2, 3], "1 of 3 values are missing"),
        (np.array([[1.0], [np.inf], [2.0]]), [0, 1, 1], [1, 2, 3], "1 of 3 values are infinite"),
        (np.array([["a"], ["b"], ["c"]]), [0, 1, 1], [1, 2, 3], "values that are not numbers"),
        (np.array([[10**400], [1], [2]], dtype=object), [0, 1, 1], [1, 2, 3], "has values beyond 1e308"),
        (np.ones((3, 1)), [1, 1, 1], [1, 2, 3], "no untreated units"),
        (np.ones((3, 1)), [0, 1, 2], [1, 2, 3], "the treatment must be 0 or 1, not 0, 1, 2"),
        (np.ones((3, 1)), ["no", "yes", "no"], [1, 2, 3], "the treatment contains values that are not numbers"),
        (np.ones((3, 1)), [0, 1], [1, 2, 3], "2 treatments for 3 rows"),
        (np.ones((3, 1)), [0, 1, 1], [1, 2, np.nan], "the outcome: 1 of 3 values are missing"),
        (np.ones((3, 0)), [0, 1, 1], [1, 2, 3], "rows and columns"),
        (np.array([[0.0], [1], [1], [0]]), [0, 1, 1, 0], [1, 2, 3, 4], "the effect is not identified"),
        (np.eye(4), [0, 1, 1, 0], [1, 2, 3, 4], "4 rows cannot identify 4 coefficients"),
    ],
)
def test_bad_data_are_refused_in_one_line(X: np.ndarray, T: list[int], Y: list[float], says: str) -> None:
    with pytest.raises(UserError, match=says) as error:
        Regression().fit(X, T, Y)
    assert "\n" not in str(error.value)


def test_what_is_asked_of_an_estimator_is_checked() -> None:
    x, t, y = varied(40)
    weightings: tuple[tuple[Any, str], ...] = (
        (EntropyBalancing(cast(Any, "ATO")), "unknown estimand 'ATO'"),
        (InverseProbability(cast(Any, "all")), "unknown estimand 'all'"),
        (ApproximateBalancing(zeta=1), "zeta between 0 and 1"),
        (EntropyBalancing(moments=cast(Any, 3)), "moments must be 1"),
        (CoarsenedExact(bins=0), "0 bins"),
        (CoarsenedExact(cast(Any, "ATO")), "unknown estimand 'ATO'"),
        (Matching(cast(Any, "ATO")), "unknown estimand 'ATO'"),
        (Propensity(folds=1), "1 folds"),
    )
    for weighting, says in weightings:
        with pytest.raises(UserError, match=says):
            weighting.fit(x, t)
    estimators: tuple[tuple[Estimator, str], ...] = (
        (Stratified(strata=0), "0 strata"),
        (AIPW(folds=1), "two folds or more"),
        (ResidualBalancing(folds=1), "two folds or more"),
        (OaxacaBlinder(cast(Any, "ATE")), "unknown estimand 'ATE'"),
    )
    for estimator, says in estimators:
        with pytest.raises(UserError, match=says):
            estimator.fit(x, t, y)
    with pytest.raises(UserError, match="an arm of one unit"):
        Weighted().fit(x, np.arange(40) == 3, y)
    with pytest.raises(UserError, match="the same for all"):
        Weighted().fit(x, t, np.ones(40))
    with pytest.raises(UserError, match="without error"):
        DifferentiatedConfounderBalancing().fit(x, t, 2.0 * t + x[:, 0])
    with pytest.raises(UserError, match="matched units of an arm cannot identify the 7 coefficients"):
        Matched(Matching(metric="euclidean")).fit(np.random.default_rng(0).normal(size=(8, 6)), np.arange(8) < 4, y[:8])
    ones = np.repeat([0.0, 1.0], 10_000)
    with pytest.raises(UserError, match="equally near: match without ties"):
        Matching(metric="euclidean").fit(ones, np.arange(20_000) % 2 == 0)
