"""Cross-fitted estimators against loops; what folds, bounds and repeats promise."""

import math
import os
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize, minimize_scalar
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.tree import DecisionTreeClassifier

from contrastkit.causal.boosting import BoostClassifier, BoostRegressor
from contrastkit.causal.compare import compare, estimators
from contrastkit.causal.estimate import AIPW, OaxacaBlinder, PartiallyLinear, TLearner
from contrastkit.causal.estimate.cross_fitted import CrossFitted
from contrastkit.causal.folds import fingerprints, rarest_levels, settled_order, splits
from contrastkit.causal.models import Models
from contrastkit.causal.propensity import Propensity
from contrastkit.errors import UserError
from contrastkit.tables.covariates import standardised
from tests.causal.simulated import varied, world


def rare(n: int, treated: int, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """A world whose effect is 2, with a factor: three rows are in Ulm, so many of them treated, and better off by 5."""
    x, t, y = world(n, 3, seed=seed)
    g = np.random.default_rng([seed, 1])
    city = np.where(g.uniform(size=n) < 0.5, "Bonn", "Trier").astype(object)
    rows = np.r_[np.flatnonzero(t == 1)[:treated], np.flatnonzero(t == 0)[: 3 - treated]]
    city[rows], y[rows] = "Ulm", y[rows] + 5
    return pd.DataFrame(x, columns=list("abc")).assign(city=city), t, y


# ---------------------------------------- folds


def folds_of(x: np.ndarray, t: np.ndarray, folds: int, *seeds: int, groups: np.ndarray | None = None) -> np.ndarray:
    """The fold of each row, in the order of the data."""
    key = fingerprints(x)
    order = settled_order(key, t)
    fold = np.empty(len(x), int)
    parts = splits(x[order], t[order], key[order], folds, *seeds, groups=None if groups is None else groups[order])
    for k, (train, test) in enumerate(parts):
        assert sorted([*train, *test]) == list(range(len(x)))
        fold[order[test]] = k
    return fold


def test_clusters_stay_whole_and_those_that_are_treated_are_spread_evenly() -> None:
    x, t, _ = world(600, 2, seed=0)
    groups = np.arange(600) // 5
    treated = groups % 3 == 0
    fold = folds_of(x, treated, 4, groups=groups)
    assert all(len(set(fold[groups == g])) == 1 for g in range(120))
    assert np.bincount(fold[treated][::5]).tolist() == [10] * 4 and np.bincount(fold[::5]).tolist() == [30] * 4
    with pytest.raises(UserError, match="5 folds of 3 clusters: use fewer --folds"):
        folds_of(x, t == 1, 5, groups=groups % 3)
    with pytest.raises(UserError, match="a fold leaves no untreated units to learn from.*: do without folds"):
        folds_of(x, groups != 7, 5, groups=groups)


@pytest.mark.slow
def test_copies_that_are_clusters_are_not_learned_by_heart() -> None:
    """Copies on both sides of a fold would tell a forest their outcomes; as clusters they are the originals."""
    g = np.random.default_rng(0)
    x, t, y = world(200, 2, seed=3)
    rows = np.repeat(np.arange(200), 5)
    copied = x[rows] + 1e-3 * g.normal(size=(1000, 2))
    forest = RandomForestRegressor(30, random_state=0)
    model = PartiallyLinear(model=forest, propensity=Propensity(RandomForestClassifier(30, random_state=0)), repeats=1)
    once = model.fit(x, t, y)
    effect, error = once.effect_, once.se_
    with pytest.raises(UserError, match="perfect separation"):
        model.fit(copied, t[rows], y[rows])
    again = model.fit(copied, t[rows], y[rows], clusters=rows)
    assert abs(again.effect_ - effect) < 3 * error and 0.7 * error < again.se_ < 1.5 * error


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tlearner", "aipw", "dml"])
def test_models_that_split_rows_in_sequence_see_them_in_a_random_order(name: str) -> None:
    """The lasso's own folds would otherwise be cells of discrete covariates, and it would shrink all of them away."""
    errors = []
    for seed in range(3):
        g = np.random.default_rng(seed)
        x = g.integers(0, 2, (600, 2)).astype(float)
        t = g.uniform(size=600) < 0.25 + 0.5 * x[:, 0]
        y = t + 3 * x[:, 0] - x[:, 1] + g.normal(size=600)
        models = Models(outcome="lasso", folds=2, repeats=1)
        errors.append(estimators("ATE", models=models)[name].fit(x, t, y).effect_ - 1)
    assert abs(np.mean(errors)) < 0.15


@pytest.mark.slow
def test_a_flexible_propensity_that_separates_the_arms_is_refused_with_the_column() -> None:
    g = np.random.default_rng(0)
    x = pd.DataFrame(g.normal(size=(200, 2)), columns=["a", "b"])
    t = x.a.to_numpy() > 0
    for estimator in estimators("ATE", models=Models(propensity="boost", repeats=1)).values():
        if isinstance(estimator, AIPW | PartiallyLinear):
            with pytest.raises(UserError, match="perfect separation by a, at most -?0.0"):
                estimator.fit(x, t, x.b.to_numpy())


def test_the_lasso_is_cross_fitted() -> None:
    assert Models(propensity="lasso").of_propensity().folds == 5
    assert Models(propensity="logistic").of_propensity().folds == 0


def test_one_fold_is_refused_before_any_estimator() -> None:
    with pytest.raises(UserError, match="1 folds: cross-fitting needs two folds or more"):
        Models(folds=1)


def test_arms_and_rare_levels_are_spread_evenly() -> None:
    g = np.random.default_rng(0)
    x = np.column_stack([g.normal(size=600), g.uniform(size=(600, 3)) < [0.5, 0.03, 0.01]]).astype(float)
    t = g.uniform(size=600) < 0.3
    fold = folds_of(x, t, 5)
    for arm in (t, ~t):
        for rows in (arm, arm & (x[:, 3] == 1)):  # the rarest level
            counts = np.bincount(fold[rows], minlength=5)
            assert counts.max() - counts.min() <= 1
        assert np.bincount(fold[arm & (x[:, 2] == 1)], minlength=5).max() <= (arm & (x[:, 2] == 1)).sum() / 2
    assert rarest_levels(x, 50).max() == 8 and set(rarest_levels(x, 50)[x[:, 3] == 1]) == {7}


def test_folds_are_those_of_the_rows_whatever_their_order_and_units() -> None:
    x, t, _ = varied(120)
    fold = folds_of(x, t, 4)
    mixed = np.random.default_rng(0).permutation(120)
    assert (folds_of(x[mixed] * [1, 1e6, 1e-6] + 3, t[mixed], 4) == fold[mixed]).all()
    assert not (folds_of(x, t, 4, 1) == fold).all() and not (folds_of(x, t, 4, 2) == folds_of(x, t, 4, 1)).all()


@pytest.mark.parametrize(
    "estimator",
    [
        AIPW("ATE"),
        AIPW(model=BoostRegressor(), propensity=Propensity(BoostClassifier()), repeats=1, folds=2),
        PartiallyLinear(),
        TLearner("ATC"),
    ],
    ids=["aipw", "boost", "dml", "tlearner"],
)
def test_the_order_of_rows_does_not_matter(estimator: CrossFitted) -> None:
    X, t, y = rare(300, 1)
    X, t, y = (pd.concat([X, X.iloc[:60]], ignore_index=True), np.r_[t, t[:60]], np.r_[y, y[:30], y[:30]])  # with ties
    one = estimator.fit(X, t, y)
    effect, se, influence = one.effect_, one.se_, one.influence_
    mixed = np.random.default_rng(0).permutation(360)
    other = estimator.fit(X.iloc[mixed], t[mixed], y[mixed])
    assert other.effect_ == pytest.approx(effect, rel=1e-9) and other.se_ == pytest.approx(se, rel=1e-9, nan_ok=True)
    if influence is not None and other.influence_ is not None:
        assert np.sort(other.influence_) == pytest.approx(np.sort(influence), abs=1e-9)
        alone = ~pd.concat([X, pd.Series(t, name="t")], axis=1).duplicated(keep=False).to_numpy()
        assert other.influence_[alone[mixed]] == pytest.approx(influence[mixed][alone[mixed]], abs=1e-9)


def test_scores_do_not_depend_on_the_order_of_rows_and_equal_rows_have_equal_ones() -> None:
    x, t, _ = varied(200)
    x = x.round()
    tree = DecisionTreeClassifier(max_depth=3, random_state=0)
    mixed = np.random.default_rng(0).permutation(200)
    for classifier in (None, tree):
        e = Propensity(classifier, folds=5).fit(x, t).scores_
        assert Propensity(classifier, folds=5).fit(x[mixed], t[mixed]).scores_ == pytest.approx(e[mixed], abs=1e-9)
        _, inverse = np.unique(np.column_stack([x, t]), axis=0, return_inverse=True)
        assert all(np.ptp(e[inverse == k]) == 0 for k in range(inverse.max() + 1))


# ---------------------------------------- values


def parts(x: np.ndarray, t: np.ndarray, y: np.ndarray, repeat: int) -> tuple[np.ndarray, ...]:
    """Scores and predicted outcomes of both arms from other models than the tested ones; and the folds' order."""
    key = fingerprints(x)
    order = settled_order(key, t, y)
    x, t, y = standardised(x)[order], t[order], y[order]
    e, m0, m1, both = (np.empty(len(y)) for _ in range(4))
    A = np.column_stack([np.ones(len(y)), x])
    for train, test in splits(x, t, key[order], 5, 0, repeat):
        score = LogisticRegression(C=1e12, tol=1e-10, max_iter=10_000).fit(x[train], t[train])
        e[test] = score.predict_proba(x[test])[:, 1]
        for m, rows in ((m0, train[~t[train]]), (m1, train[t[train]]), (both, train)):
            m[test] = A[test] @ np.linalg.lstsq(A[rows], y[rows], rcond=None)[0]
    return e, m0, m1, both, t, y


def over_repeats(results: list[tuple[float, float]]) -> tuple[float, float]:
    """The median estimate and error of Chernozhukov et al., Sec. 3.4, over two repeats."""
    (one, se_one), (other, se_other) = results
    middle = (one + other) / 2
    return middle, math.sqrt((se_one**2 + (one - middle) ** 2 + se_other**2 + (other - middle) ** 2) / 2)


def test_aipw_is_the_mean_of_its_score_and_the_median_over_repeats() -> None:
    x, t, y = varied()
    results = []
    for repeat in range(2):
        e, m0, m1, _, tt, yy = parts(x, t, y, repeat)
        psi = []
        for i in range(200):
            residual = (yy[i] - m1[i]) / e[i] if tt[i] else -(yy[i] - m0[i]) / (1 - e[i])
            psi.append(m1[i] - m0[i] + residual)
        results.append((float(np.mean(psi)), float(np.std(psi, ddof=1)) / math.sqrt(200)))
    effect, se = over_repeats(results)
    result = AIPW("ATE", repeats=2).fit(x, t, y)
    assert (result.effect_, result.se_) == (pytest.approx(effect, rel=1e-5), pytest.approx(se, rel=1e-5))
    assert result.influence_ is not None and np.linalg.norm(result.influence_) == pytest.approx(result.se_)
    assert abs(result.influence_.sum()) < 1e-9


def ridge(x: np.ndarray, y: np.ndarray, at: np.ndarray, penalty: float) -> np.ndarray:
    """Ridge regression by its normal equations, without a penalty on the constant."""
    mean = x.mean(0)
    z = x - mean
    return y.mean() + (at - mean) @ np.linalg.solve(z.T @ z + penalty * np.eye(x.shape[1]), z.T @ (y - y.mean()))


@pytest.mark.parametrize("estimand", ["ATE", "ATC"])
def test_a_flexible_model_learns_each_arm_alone_and_both_at_once(estimand: Any) -> None:
    x, t, y = varied(seed=1)
    e, *_, tt, yy = parts(x, t, y, 0)
    key = fingerprints(x)
    order = settled_order(key, t, y)
    z = standardised(x)[order]
    alone, both = np.empty((2, 200)), np.empty((2, 200))
    for train, test in splits(z, tt, key[order], 5, 0, 0):
        with_t = np.column_stack([z[train], np.where(tt[train], 1, -1)])
        for d in (0, 1):
            arm = train[tt[train] == d]
            alone[d, test] = ridge(z[arm], yy[arm], z[test], 6.0)
            at = np.column_stack([z[test], np.full(len(test), [-1, 1][d])])
            both[d, test] = ridge(with_t, yy[train], at, 6.0)
    m, shares = np.empty((2, 200)), []
    for d in (0, 1):
        arm = tt == d

        def loss(share: float, d: int = d, arm: np.ndarray = arm) -> float:
            return float(((yy - (1 - share) * alone[d] - share * both[d])[arm] ** 2).sum())

        shares.append(minimize_scalar(loss, bounds=(0, 1), method="bounded", options={"xatol": 1e-12}).x)
        m[d] = (1 - shares[d]) * alone[d] + shares[d] * both[d]
    assert all(0.01 < share < 0.99 for share in shares)  # neither is left out
    psi = m[1] - m[0] + np.where(tt, (yy - m[1]) / e, -(yy - m[0]) / (1 - e))
    gain, w = (m[1] - yy)[~tt].mean(), ((1 - e) / e)[tt]
    expected = {"ATE": psi.mean(), "ATC": gain + np.average((yy - m[1])[tt], weights=w)}[estimand]
    result = AIPW(estimand, model=Ridge(6.0), repeats=1).fit(x, t, y)
    assert result.effect_ == pytest.approx(expected, rel=1e-5)


def test_double_machine_learning_regresses_residuals_on_residuals() -> None:
    x, t, y = varied()
    results = []
    for repeat in range(2):
        e, _, _, both, tt, yy = parts(x, t, y, repeat)
        v, u = tt - e, yy - both
        theta = sum(v * u) / sum(v * v)
        meat = sum((v[i] * (u[i] - theta * v[i])) ** 2 for i in range(200))
        results.append((float(theta), math.sqrt(meat) / float(sum(v * v))))
    effect, se = over_repeats(results)
    result = PartiallyLinear(repeats=2).fit(x, t, y)
    assert (result.effect_, result.se_) == (pytest.approx(effect, rel=1e-5), pytest.approx(se, rel=1e-5))
    assert result.estimand_ == "ATO"


def test_the_t_learner_with_lines_is_oaxaca_and_g_computation() -> None:
    x, t, y = varied()
    assert TLearner(folds=0).fit(x, t, y).effect_ == pytest.approx(OaxacaBlinder().fit(x, t, y).effect_)
    A = np.column_stack([np.ones(200), x])
    one, other = (A @ np.linalg.lstsq(A[arm], y[arm], rcond=None)[0] for arm in (t, ~t))
    result = TLearner("ATE", folds=0).fit(x, t, y)
    assert result.effect_ == pytest.approx(np.mean(one - other)) and math.isnan(result.se_)
    e, m0, m1, *_ = parts(x, t, y, 0)
    assert TLearner("ATE", repeats=1).fit(x, t, y).effect_ == pytest.approx(np.mean(m1 - m0))


def test_the_t_learner_needs_no_overlap_but_a_regression_that_knows_the_level() -> None:
    """Three rows of a level, all untreated: there are scores of 0, and a regression in the controls that knows all."""
    X, t, y = rare(300, 0)
    for model in (AIPW(folds=0), PartiallyLinear()):
        with pytest.raises(UserError, match=r"perfect separation by city=Ulm \(3 rows, none treated\)"):
            model.fit(X, t, y)
    A = np.column_stack([np.ones(300), X[["a", "b", "c"]], X.city == "Ulm", X.city == "Bonn"]).astype(float)
    beta = np.linalg.lstsq(A[t == 0], y[t == 0], rcond=None)[0]
    own = np.linalg.lstsq(A[t == 1], y[t == 1], rcond=None)[0]
    effect = np.mean(A[t == 1] @ (own - beta))
    assert TLearner(folds=0).fit(X, t, y).effect_ == pytest.approx(effect)
    for estimand in ("ATC", "ATE"):  # they need the treated outcomes of those in Ulm
        with pytest.raises(UserError, match="not identified: city=Ulm has one value in the arm"):
            TLearner(estimand).fit(X, t, y)
    assert abs(TLearner().fit(X, t, y).effect_ - effect) < 0.2
    assert (
        "only one value of city=Ulm outside some folds, whose outcome" in TLearner("ATE").fit(*rare(300, 1)).remarks_[0]
    )


def test_models_with_no_more_rows_than_coefficients_are_counted() -> None:
    x, t, y = world(60, 25)
    parts_of = {"aipw": [t == 1], "dml": [np.ones(60, bool)], "tlearner": [t == 0, t == 1]}
    key = fingerprints(x)
    order = settled_order(key, t == 1, y)
    rows = {
        name: [
            int(arm[order][train].sum())
            for arm in arms
            for k in range(3)
            for train, _ in splits(standardised(x)[order], (t == 1)[order], key[order], 5, 0, k)
        ]
        for name, arms in parts_of.items()
    }
    for name, counts in rows.items():
        few = [count for count in counts if count <= 26]
        estimator = estimators("ATC")[name]
        if name != "tlearner":
            estimator.set_params(propensity=Propensity(DummyClassifier()))
        said = [remark for remark in estimator.fit(x, t, y).remarks_ if "coefficients" in remark]
        expected = f"{len(few)} outcome models have no more rows than coefficients ({min(counts)} for 26)"
        assert [remark.split(":")[0] for remark in said] == [expected][: len(few)]
    assert any(count <= 26 for count in rows["aipw"]) and all(count > 26 for count in rows["dml"])
    lasso = estimators("ATT", models=Models(outcome="lasso", repeats=1))["tlearner"].fit(x, t, y)
    assert not any("coefficients" in remark for remark in lasso.remarks_)


# ---------------------------------------- rare levels and bounds


@pytest.mark.parametrize("treated", [1, 2])
@pytest.mark.parametrize("estimand", ["ATE", "ATT", "ATC"])
def test_a_level_of_three_rows_neither_explodes_nor_stops_aipw(estimand: Any, treated: int) -> None:
    for seed in range(2):
        result = AIPW(estimand, seed=seed).fit(*rare(1000, treated, seed))
        assert abs(result.effect_ - 2) < 3 * result.se_ < 0.4
        assert "city=Ulm" in result.remarks_[0]


def test_a_fold_without_a_likelihoods_maximum_has_the_penalised_one() -> None:
    """Columns scaled as by Gelman et al. 2008, and half the sum of squared coefficients as the penalty."""
    x, t, _ = varied(80)
    x[:, 2] = 0
    x[np.flatnonzero(t)[:3], 2] = 1
    scaled = np.column_stack([x[:, :2] / (2 * x[:, :2].std(0)), x[:, 2]])

    def loss(b: np.ndarray) -> float:
        likelihood = sum(
            math.log1p(math.exp((1 - 2 * ti) * (b[0] + b[1:] @ xi))) for xi, ti in zip(scaled, t, strict=True)
        )
        return likelihood + 0.5 * float(b[1:] @ b[1:])

    b = minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-9}).x
    model = Propensity()
    assert model.learn_part(x, t) and not model.learn_part(x[:, :2], t)
    model.learn_part(x, t)
    assert model.probabilities(x) == pytest.approx(1 / (1 + np.exp(-(b[0] + scaled @ b[1:]))), abs=1e-4)


def test_folds_of_the_score_say_which_level_they_lack() -> None:
    X, t, _ = rare(400, 1)
    model = Propensity(folds=5).fit(X, t)
    assert model.scores_.min() > 0.001 and "only one value of city=Ulm outside some folds" in model.remarks_[0]
    assert Propensity(folds=5).fit(X[["a", "b", "c"]], t).remarks_ == []


class Known(Propensity):
    """Knows that a covariate is the score."""

    def learn(self, x: np.ndarray, t: np.ndarray, s: np.ndarray | None = None) -> None:
        pass

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-4 * x[:, 0]))


def test_scores_are_bounded_where_the_estimand_divides_by_them_and_that_is_said() -> None:
    x, t, y = varied(400)
    z = standardised(x)
    e = 1 / (1 + np.exp(-4 * z[:, 0]))
    A = np.column_stack([np.ones(400), z])
    m0, m1 = (A @ np.linalg.lstsq(A[arm], y[arm], rcond=None)[0] for arm in (~t, t))
    bounded = np.array([min(max(v, 0.05), 0.95) for v in e])
    psi = [
        m1[i] - m0[i] + ((y[i] - m1[i]) / bounded[i] if t[i] else -(y[i] - m0[i]) / (1 - bounded[i]))
        for i in range(400)
    ]
    result = AIPW("ATE", propensity=Known(LogisticRegression()), folds=0, clip=0.05).fit(x, t, y)
    assert result.effect_ == pytest.approx(np.mean(psi))
    assert f"{(bounded != e).sum()} of 400 scores were clipped to 0.05 from 0 or 1" in result.remarks_
    w = np.array([min(v, 0.95) / (1 - min(v, 0.95)) for v in e])
    effect = np.mean((y - m0)[t]) - np.average((y - m0)[~t], weights=w[~t])
    result = AIPW(propensity=Known(LogisticRegression()), folds=0, clip=0.05).fit(x, t, y)
    assert result.effect_ == pytest.approx(effect)
    assert f"{(e > 0.95).sum()} of 400 scores were clipped to 0.05 from 0 or 1" in result.remarks_
    result = AIPW(propensity=Known(LogisticRegression()), folds=0, clip=0).fit(x, t, y)
    w = e / (1 - e)
    share = w[~t].max() / w[~t].sum()
    assert result.remarks_ == [f"the estimate rests on few units: one has {share:.0%} of the weight of its arm"]


def test_what_cannot_be_cross_fitted_is_refused() -> None:
    x, t, y = varied(60)
    for estimator, says in (
        (AIPW(folds=0, model=BoostRegressor()), "BoostRegressor can learn its rows by heart"),
        (PartiallyLinear(folds=0, propensity=Propensity(BoostClassifier())), "BoostClassifier can learn"),
        (TLearner(folds=100), "100 folds"),
        (TLearner("all", folds=2), "unknown estimand"),  # type: ignore[arg-type]
        (AIPW(repeats=0), "0 repeats"),
        (AIPW(clip=0.5), "clipped to 0.5"),
    ):
        with pytest.raises(UserError, match=says):
            cast(CrossFitted, estimator).fit(x, t, y)
    with pytest.raises(UserError, match="perfect separation"):
        AIPW().fit(np.column_stack([x, t]), t, y)


@pytest.mark.slow
@pytest.mark.parametrize("estimand", ["ATE", "ATT"])
@pytest.mark.parametrize(("n", "curve"), [(300, 0), (2000, 0), (300, 1), (2000, 1)])
def test_intervals_of_aipw_cover(estimand: Any, n: int, curve: float) -> None:
    """500 draws, with lines where they are right and boosting where not: the share of 95 % intervals that cover the
    truth is within three standard deviations of 95 %."""
    hits = 0
    models = Models("boost", "boost") if curve else Models()
    for seed in range(500):
        x, t, y = world(n, 3, seed=seed)
        y = y + curve * (2 * (x[:, 0] > 0) + x[:, 0] * x[:, 1])
        outcome, propensity = models.of_outcome(), models.of_propensity()
        estimator = AIPW(estimand, model=outcome, propensity=propensity, repeats=1)
        low, high = estimator.fit(x, t, y).interval()
        hits += low <= 2 <= high
    assert 0.92 <= hits / 500 <= 0.97


IHDP = Path(os.environ.get("CONTRASTKIT_DATA", "none")) / "causal" / "ihdp"


@pytest.mark.skipif(not IHDP.is_dir(), reason="IHDP: not in CONTRASTKIT_DATA/causal/ihdp")
@pytest.mark.parametrize("replications", [pytest.param(n, marks=pytest.mark.slow) for n in (1, 10)])
def test_every_estimator_answers_on_ihdp(replications: int) -> None:
    """19 of its 25 covariates have two values, some of them rare; the truth is known unit by unit."""
    errors: dict[str, list[float]] = {}
    for k in range(1, replications + 1):
        table = pd.read_csv(IHDP / f"ihdp_npci_{k}.csv", header=None).to_numpy()
        t, y = table[:, 0], table[:, 1]
        truth = (table[:, 4] - table[:, 3])[t == 1].mean()
        for row in compare(table[:, 5:], t, y):
            assert not row.refused, (k, row)
            errors.setdefault(row.name, []).append(abs(row.effect - truth))
    assert min(np.mean(errors[name]) for name in errors) < 0.15
    assert np.mean(errors["aipw"]) < 0.2
