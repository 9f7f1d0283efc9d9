"""Sample weights of cross-fitted estimators, models and scores: against repeated rows, loops, and surveys of a known
population."""

import math
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from statsmodels.api import WLS

from contrastkit.causal.boosting import BoostClassifier, BoostRegressor
from contrastkit.causal.estimate import AIPW, PartiallyLinear, TLearner
from contrastkit.causal.estimate.cross_fitted import CrossFitted
from contrastkit.causal.estimate.resampling import fit_with_error
from contrastkit.causal.folds import fingerprints, settled_order, splits
from contrastkit.causal.learners import LeastSquares, Probability, learned, outcome_learner
from contrastkit.causal.propensity import Propensity
from contrastkit.causal.weighting import InverseProbability
from contrastkit.errors import UserError
from contrastkit.tables.covariates import standardised
from tests.causal.simulated import varied

UNFOLDED: dict[str, CrossFitted] = {
    **{f"aipw {estimand}": AIPW(estimand, folds=0) for estimand in ("ATE", "ATT", "ATC")},
    "dml": PartiallyLinear(folds=0),
    **{f"tlearner {estimand}": TLearner(estimand, folds=0) for estimand in ("ATE", "ATT", "ATC")},
}


def survey(n: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    """A sample, and its weights, of a population in which the mean effect is 1: it is 1 + x0, and units of large x0 are
    drawn more often."""
    g = np.random.default_rng([seed, 7])
    x = g.normal(size=(4 * n, 2))
    drawn = 1 / (1 + np.exp(1 - 1.5 * x[:, 0]))
    rows = np.flatnonzero(g.uniform(size=4 * n) < drawn)[:n]
    x, s = x[rows], 1 / drawn[rows]
    t = g.uniform(size=n) < 1 / (1 + np.exp(-0.7 * x[:, 1]))
    return x, t, t * (1 + x[:, 0]) + x @ [1.0, 2.0] + g.normal(size=n), s


# ---------------------------------------- what a weight means


@pytest.mark.parametrize("name", UNFOLDED)
def test_a_unit_of_weight_two_counts_as_two_units(name: str) -> None:
    """So does its error, but for the sizes of samples: n units of the total weight N."""
    x, t, y = varied(300)
    times = np.random.default_rng(0).integers(1, 4, size=300)
    every = np.repeat(np.arange(300), times)
    weighted = clone(UNFOLDED[name]).fit(x, t, y, times)
    repeated = clone(UNFOLDED[name]).fit(x[every], t[every], y[every], clusters=every)
    assert weighted.effect_ == pytest.approx(repeated.effect_, rel=1e-6)
    assert abs(weighted.effect_ - clone(UNFOLDED[name]).fit(x, t, y).effect_) > 1e-3
    if not math.isnan(weighted.se_):
        sizes = 299 / 300 if name == "dml" else 1 - 1 / len(every)
        assert weighted.se_ == pytest.approx(repeated.se_ * math.sqrt(sizes), rel=1e-5)


@pytest.mark.parametrize("estimator", [AIPW("ATE"), AIPW(), PartiallyLinear(), TLearner()])
def test_equal_weights_are_none_and_no_unit_of_weights_matters(estimator: Any) -> None:
    x, t, y = varied(150)
    nearest = clone(estimator).set_params(model=KNeighborsRegressor(), folds=2, repeats=1)  # takes no weights
    for tried in (estimator, nearest):
        plain, equal = clone(tried).fit(x, t, y), clone(tried).fit(x, t, y, np.full(150, 7.0))
        assert plain.effect_ == equal.effect_ and plain.remarks_ == equal.remarks_
        assert plain.influence_ is None or (plain.influence_ == equal.influence_).all()
    s = np.random.default_rng(1).uniform(1, 9, size=150)
    one, other = clone(estimator).fit(x, t, y, s), clone(estimator).fit(x, t, y, 1e6 * s)
    assert one.effect_ == pytest.approx(other.effect_, rel=1e-9) and one.effect_ != plain.effect_
    assert math.isnan(one.se_) or one.se_ == pytest.approx(other.se_, rel=1e-9)


def test_the_order_of_rows_that_differ_only_in_weight_does_not_matter() -> None:
    g = np.random.default_rng(2)
    x = g.integers(0, 3, size=(200, 2)).astype(float)
    t = g.uniform(size=200) < 0.3 + 0.1 * x[:, 0]
    y, s = (g.uniform(size=200) < 0.5).astype(float), g.uniform(1, 9, size=200)
    mixed = g.permutation(200)
    for estimator in (AIPW("ATE"), PartiallyLinear(), TLearner()):
        first = clone(estimator).fit(x, t, y, s).effect_
        assert clone(estimator).fit(x[mixed], t[mixed], y[mixed], s[mixed]).effect_ == pytest.approx(first, rel=1e-9)
    scores = Propensity(folds=5).fit(x, t, s).scores_
    assert Propensity(folds=5).fit(x[mixed], t[mixed], s[mixed]).scores_ == pytest.approx(scores[mixed], abs=1e-9)


# ---------------------------------------- values


def likeliest(A: np.ndarray, t: np.ndarray, s: np.ndarray) -> np.ndarray:
    """The coefficients of logistic regression with weights, by Newton's method."""
    b = np.zeros(A.shape[1])
    for _ in range(30):
        e = 1 / (1 + np.exp(-A @ b))
        b += np.linalg.solve((A * (s * e * (1 - e))[:, None]).T @ A, A.T @ (s * (t - e)))
    return b


def parts(x: np.ndarray, t: np.ndarray, y: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, ...]:
    """Scores, and outcomes predicted for both arms, by the folds of a first repeat; and the data in their order."""
    key = fingerprints(x)
    order = settled_order(key, t, y, s)
    x, t, y, s = standardised(x)[order], t[order], y[order], s[order]
    e, m0, m1, both = (np.empty(len(y)) for _ in range(4))
    A, root = np.column_stack([np.ones(len(y)), x]), np.sqrt(s)
    for train, test in splits(x, t, key[order], 5, 0, 0):
        e[test] = 1 / (1 + np.exp(-A[test] @ likeliest(A[train], t[train], s[train])))
        for m, rows in ((m0, train[~t[train]]), (m1, train[t[train]]), (both, train)):
            m[test] = A[test] @ np.linalg.lstsq(A[rows] * root[rows, None], y[rows] * root[rows], rcond=None)[0]
    return e, m0, m1, both, t, y, s


def test_the_estimates_are_the_weighted_formulas_in_loops() -> None:
    x, t, y = varied(200)
    weights = np.random.default_rng(4).uniform(1, 9, size=200)
    e, m0, m1, both, t_, y_, s = parts(x, t, y, weights)
    n, total = 200, float(s.sum())
    expected: dict[str, tuple[float, float]] = {}

    psi = [m1[i] - m0[i] + ((y_[i] - m1[i]) / e[i] if t_[i] else -(y_[i] - m0[i]) / (1 - e[i])) for i in range(n)]
    ate = sum(s[i] * psi[i] for i in range(n)) / total
    meat = sum((s[i] / (total / n) * (psi[i] - ate)) ** 2 for i in range(n))
    expected["ATE"] = ate, math.sqrt(meat / (n * (n - 1)))
    for name, sign, of, model, p in (("ATT", 1, t_, m0, e), ("ATC", -1, ~t_, m1, 1 - e)):
        w = [s[i] * (1 if of[i] else p[i] / (1 - p[i])) for i in range(n)]
        sums = [sum(w[i] for i in range(n) if of[i] == side) for side in (True, False)]
        one, other = (
            sum(w[i] * (y_[i] - model[i]) for i in range(n) if of[i] == side) / sums[not side] for side in (True, False)
        )
        meat = 0.0
        for i in range(n):
            gap = y_[i] - model[i] - (one if of[i] else other)
            meat += (w[i] * gap / sums[0 if of[i] else 1]) ** 2
        expected[name] = sign * (one - other), math.sqrt(meat * n / (n - 1))
    v = t_ - e
    bread = sum(s[i] * v[i] ** 2 for i in range(n))
    theta = sum(s[i] * v[i] * (y_[i] - both[i]) for i in range(n)) / bread
    meat = sum((s[i] * v[i] * (y_[i] - both[i] - theta * v[i])) ** 2 for i in range(n))
    expected["dml"] = theta, math.sqrt(meat) / bread

    tried: dict[str, CrossFitted] = {name: AIPW(name, repeats=1) for name in ("ATE", "ATT", "ATC")}
    for name, estimator in (tried | {"dml": PartiallyLinear(repeats=1)}).items():
        result = estimator.fit(x, t, y, weights)
        assert (result.effect_, result.se_) == pytest.approx(expected[name], rel=1e-6), name
        assert result.influence_ is not None and abs(result.influence_.sum()) < 1e-9
    gain = sum(s[i] * (m1[i] - m0[i]) for i in range(n) if t_[i]) / sum(s[t_])
    assert TLearner(repeats=1).fit(x, t, y, weights).effect_ == pytest.approx(gain, rel=1e-6)


def test_both_ways_to_learn_an_arm_are_weighted_and_so_is_their_mean() -> None:
    x, t, y = varied(200, seed=1)
    weights = np.random.default_rng(4).uniform(1, 9, size=200)
    e, *_, t_, y_, s = parts(x, t, y, weights)
    key = fingerprints(x)
    order = settled_order(key, t, y, weights)
    z = standardised(x)[order]
    alone, both = np.empty((2, 200)), np.empty((2, 200))
    for train, test in splits(z, t_, key[order], 5, 0, 0):
        signs = np.where(t_, 1.0, -1.0)[:, None]
        for d in (0, 1):
            arm = train[t_[train] == d]
            one = Ridge(6.0).fit(z[arm], y_[arm], s[arm] / s[arm].mean())
            two = Ridge(6.0).fit(np.hstack([z, signs])[train], y_[train], s[train] / s[train].mean())
            alone[d, test] = one.predict(z[test])
            both[d, test] = two.predict(np.column_stack([z[test], np.full(len(test), [-1.0, 1.0][d])]))
    m, shares = np.empty((2, 200)), []
    for d in (0, 1):
        arm, more = t_ == d, both[d] - alone[d]
        shares.append(sum(s[arm] * (y_ - alone[d])[arm] * more[arm]) / sum(s[arm] * more[arm] ** 2))
        m[d] = alone[d] + shares[d] * more
    assert all(0.01 < share < 0.99 for share in shares)
    psi = m[1] - m[0] + np.where(t_, (y_ - m[1]) / e, -(y_ - m[0]) / (1 - e))
    result = AIPW("ATE", model=Ridge(6.0), repeats=1).fit(x, t, y, weights)
    assert result.effect_ == pytest.approx(float((s * psi).sum() / s.sum()), rel=1e-6)


def test_the_jackknife_of_the_t_learner_has_weights() -> None:
    x, t, y, s = survey(400)
    result = fit_with_error(TLearner("ATE", folds=0), x, t, y, sample_weight=s)
    assert result.se_ == pytest.approx(AIPW("ATE", folds=0).fit(x, t, y, s).se_, rel=0.4)


def test_heavy_weights_are_remarked_on() -> None:
    x, t, y = varied(150)
    s = np.ones(150)
    s[np.flatnonzero(t)[0]] = 60
    remarks = AIPW("ATE").fit(x, t, y, s).remarks_
    assert any("of the weight of its arm" in remark for remark in remarks)
    assert any("an effective sample of" in remark for remark in remarks)


# ---------------------------------------- surveys


@pytest.mark.slow
def test_weights_give_the_effect_in_the_population_and_intervals_cover_it() -> None:
    tried: dict[str, CrossFitted] = {"aipw": AIPW("ATE"), "dml": PartiallyLinear(), "tlearner": TLearner("ATE")}
    found: dict[str, list[tuple[float, float, bool]]] = {name: [] for name in tried}
    for seed in range(60):
        x, t, y, s = survey(600, seed)
        for name, estimator in tried.items():
            plain = estimator.set_params(folds=2, repeats=1).fit(x, t, y).effect_
            result = estimator.fit(x, t, y, s)
            low, high = result.interval()
            found[name].append((plain, result.effect_, low <= 1 <= high))
    for name, rows in found.items():
        plain, weighted, covered = np.mean(rows, axis=0)
        assert plain > 1.3 and abs(weighted - 1) < 0.06, name
        assert name == "tlearner" or covered >= 0.88, name


@pytest.mark.slow
def test_flexible_models_take_the_weights_too() -> None:
    x, t, y, s = survey(1500)
    model = AIPW("ATE", model=BoostRegressor(), propensity=Propensity(BoostClassifier()), folds=2, repeats=1)
    plain, weighted = clone(model).fit(x, t, y), clone(model).fit(x, t, y, s)
    assert plain.effect_ > 1.3 and abs(weighted.effect_ - 1) < 3 * weighted.se_ < 0.5


# ---------------------------------------- models


def test_least_squares_are_statsmodels() -> None:
    x, _, y = varied(60)
    x = np.column_stack([x, np.eye(4)[np.arange(60) % 4]])  # a factor, whose indicators sum to one
    s = np.random.default_rng(0).uniform(1, 9, size=60)
    expected = WLS(y, x, weights=s).fit().predict(x)
    assert learned(LeastSquares(), x, y, s).predict(x) == pytest.approx(expected)
    assert (learned(LeastSquares(), x, y, 0 * s + 3).predict(x)) == pytest.approx(LeastSquares().fit(x, y).predict(x))


def test_penalties_do_not_depend_on_the_unit_of_weights() -> None:
    x, _, y = varied(60)
    s = np.random.default_rng(0).uniform(1, 9, size=60)
    expected = Ridge(5.0).fit(x, y, s * 60 / s.sum()).predict(x)
    assert learned(Ridge(5.0), x, y, 1000 * s).predict(x) == pytest.approx(expected)


def test_a_model_that_takes_no_weights_is_refused_by_name() -> None:
    x, t, y = varied(80)
    s = np.linspace(1, 2, 80)
    says = "KNeighbors{} takes no sample weights: choose another model, or leave the weights out"
    near = Propensity(KNeighborsClassifier(), folds=2)
    for estimator in (AIPW(model=KNeighborsRegressor()), PartiallyLinear(model=KNeighborsRegressor())):
        with pytest.raises(UserError, match=says.format("Regressor")):
            estimator.fit(x, t, y, s)
    for fit in (AIPW(propensity=near).fit, TLearner(model=Probability(KNeighborsClassifier())).fit):
        with pytest.raises(UserError, match=says.format("Classifier")):
            fit(x, t, (y > 0).astype(float), s)
    with pytest.raises(UserError, match=says.format("Classifier")):
        InverseProbability(propensity=near).fit(x, t, s)


@pytest.mark.parametrize("name", ["logistic", "lasso", "sklearn.naive_bayes:GaussianNB"])
def test_every_outcome_model_learns_from_those_with_weight(name: str) -> None:
    """Half of the rows say the contrary, with hardly any weight."""
    x, _, says, s = contrary(400)
    y = ((2 * x[:, 0] + np.random.default_rng(1).logistic(size=400)) * says > 0).astype(float)
    weighted, alone = learned(outcome_learner(name), x, y, s), learned(outcome_learner(name), x[s == 1], y[s == 1])
    assert np.abs(weighted.predict(x) - alone.predict(x)).mean() < 0.05
    assert np.corrcoef(weighted.predict(x), x[:, 0])[0, 1] > 0.8


def contrary(n: int) -> tuple[np.ndarray, ...]:
    """Covariates, a curve, which rows say what, and their weights: every other one the contrary, with hardly any."""
    g = np.random.default_rng(0)
    x = g.normal(size=(n, 3))
    says = np.where(g.uniform(size=n) < 0.5, 1, -1)
    return x, 2 * x[:, 0] * x[:, 1] + 2.0 * (x[:, 2] > 0.5), says, np.where(says == 1, 1.0, 1e-6)


def test_boosting_finds_the_curve_of_the_rows_with_weight() -> None:
    x, curve, says, s = contrary(2000)
    model = learned(BoostRegressor(), x, says * curve + np.random.default_rng(1).normal(size=2000), s)
    assert (0, 1) in model.products_ and model.share_ > 0.5
    assert ((model.predict(x) - curve) ** 2).mean() < 0.1 * curve.var()


@pytest.mark.slow
def test_boosted_scores_are_those_of_the_rows_with_weight() -> None:
    x, curve, says, s = contrary(2000)
    t = np.random.default_rng(1).logistic(size=2000) < says * (curve - 1)
    model = learned(BoostClassifier(), x, t, s)
    e = model.predict_proba(x)[:, 1]
    assert (0, 1) in model.products_ and np.abs(e - 1 / (1 + np.exp(1 - curve))).mean() < 0.15


@pytest.mark.slow
def test_flexible_scores_are_of_the_population() -> None:
    """Calibrated in the population, of which the sample has other shares of treated."""
    g = np.random.default_rng(0)
    x = g.normal(size=(1500, 2))
    t = g.uniform(size=1500) < 1 / (1 + np.exp(-x[:, 0]))
    s = np.where(t, 1.0, 3.0)  # treated were drawn three times as often: the logit is less by log 3
    for model in (BoostClassifier(), GaussianNB(), LogisticRegression()):
        weighting = InverseProbability("ATE", propensity=Propensity(model, folds=3)).fit(x, t, s)
        gap = weighting.propensity_.scores_ - 1 / (1 + np.exp(math.log(3) - x[:, 0]))
        assert np.sqrt((gap**2).mean()) < 0.07, model
    folded = Propensity(folds=3).fit(x, t, s).scores_
    assert folded == pytest.approx(Propensity().fit(x, t, s).scores_, abs=0.05)
