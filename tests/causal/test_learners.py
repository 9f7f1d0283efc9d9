"""Models by name, and the boosting that starts from a linear model."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import Lasso, LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPRegressor

from contrastkit.causal.boosting import BoostClassifier, BoostRegressor
from contrastkit.causal.estimate import AIPW, TLearner
from contrastkit.causal.learners import LeastSquares, learned, outcome_learner, propensity_learner
from contrastkit.causal.models import Models, propensity_model
from contrastkit.causal.propensity import Propensity
from contrastkit.causal.scores import propensity_scores
from contrastkit.causal.study import read
from contrastkit.errors import UserError
from tests.causal.simulated import varied


def test_a_name_is_a_model_and_a_class_is_one_too() -> None:
    assert isinstance(outcome_learner("linear"), LeastSquares) and propensity_learner("logistic") is None
    assert isinstance(outcome_learner("boost"), BoostRegressor)
    assert isinstance(propensity_learner("boost"), BoostClassifier)
    assert outcome_learner("forest", 7).random_state == propensity_learner("forest", 7 + 2**32).random_state == 7
    assert isinstance(outcome_learner("sklearn.neighbors:KNeighborsRegressor"), KNeighborsRegressor)
    assert isinstance(propensity_learner("sklearn.neighbors:KNeighborsClassifier"), KNeighborsClassifier)
    x, t, y = varied(150)
    by_name = Models("sklearn.neighbors:KNeighborsRegressor", "sklearn.tree:DecisionTreeClassifier", folds=3, repeats=1)
    assert by_name.of_propensity().folds == 5 and by_name.of_propensity().classifier.random_state == 0
    result = TLearner("ATT", model=by_name.of_outcome(), **by_name.cross_fitting).fit(x, t, y)
    assert result.effect_ == TLearner(model=KNeighborsRegressor(), folds=3, repeats=1).fit(x, t, y).effect_


class Lost(DummyRegressor):
    """Knows no answer."""

    def predict(self, X: Any, return_std: bool = False) -> Any:
        return np.full(len(X), np.nan)


class Bare:
    """Of no class of scikit-learn."""

    def get_params(self) -> dict[str, Any]:
        return {}

    fit = predict = get_params


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("boosting", "unknown outcome model 'boosting', did you mean 'boost'"),
        ("nowhere.at:All", "nowhere.at:All: No module named 'nowhere'"),
        ("sklearn.linear_model:Lines", "sklearn.linear_model has no class Lines"),
        ("sklearn.ensemble:StackingRegressor", "cannot be made without arguments"),
        ("sklearn.preprocessing:StandardScaler", "it has no predict"),
        ("collections:Counter", "it has no get_params"),
        ("sklearn.svm:LinearSVC", "it has no predict_proba"),
        ("sklearn.cluster:KMeans", "it predicts no outcome: name a regressor"),
        ("tests.causal.test_learners:Bare", "it has no __sklearn_tags__"),
        (":Lasso", "outcome model :Lasso: Empty module name"),
    ],
)
def test_what_is_no_model_is_refused_in_one_line(name: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as error:
        outcome_learner(name)
    assert "\n" not in str(error.value)


def test_a_propensity_model_predicts_probabilities() -> None:
    with pytest.raises(UserError, match="it has no predict_proba"):
        propensity_learner("sklearn.linear_model:Lasso")
    with pytest.raises(UserError, match="unknown propensity model 'linear'"):
        propensity_learner("linear")


def test_a_model_that_cannot_learn_the_rows_is_refused() -> None:
    x, t, y = varied(40)
    model = KNeighborsClassifier(n_neighbors=-1)
    for estimator in (AIPW(model=model, folds=2), AIPW(propensity=Propensity(model), folds=2)):
        with pytest.raises(UserError, match="KNeighborsClassifier cannot learn [0-9]+ rows: .*n_neighbors"):
            estimator.fit(x, t, y)


def test_a_model_that_cannot_predict_the_rows_is_refused() -> None:
    x, t, y = varied(40)
    few, many = KNeighborsRegressor(n_neighbors=33), KNeighborsClassifier(n_neighbors=33)
    for estimator in (AIPW(model=few, folds=2), AIPW(propensity=Propensity(many), folds=2)):
        with pytest.raises(UserError, match=r"KNeighbors[A-Za-z]+ cannot predict [0-9]+ rows: .*n_neighbors = 33"):
            estimator.fit(x, t, y)
    with pytest.raises(UserError, match="Lost predicts values that are not finite"):
        TLearner(model=Lost()).fit(x, t, y)


@pytest.mark.filterwarnings("error")
def test_models_that_did_not_converge_are_counted() -> None:
    x, t, y = varied(60)
    result = TLearner(model=MLPRegressor(hidden_layer_sizes=(2,), max_iter=1, random_state=0), folds=2, repeats=2).fit(
        x, t, y
    )
    assert result.remarks_[0] == "8 of 8 outcome models did not converge: try another --outcome-model"
    converged = TLearner(model=Lasso(0.01), folds=2, repeats=2).fit(x, t, y)
    assert not any("converge" in remark for remark in converged.remarks_)


def test_the_probability_of_an_outcome_of_0_and_1() -> None:
    x, t, y = varied(400)
    model = outcome_learner("logistic")
    with pytest.raises(UserError, match="the outcome model logistic predicts an outcome of 0 and 1"):
        model.fit(x, y)
    b = (y > y.mean()).astype(float)
    expected = LogisticRegression(C=1e9, tol=1e-9, max_iter=1000).fit(x, b).predict_proba(x)[:, 1]
    assert model.fit(x, b).predict(x) == pytest.approx(expected, abs=1e-4)
    assert (model.fit(x, np.ones(400)).predict(x) == 1).all()
    forest = Models("sklearn.ensemble:RandomForestClassifier").of_outcome().fit(x, b).predict(x)
    assert ((forest > 0) & (forest < 1)).any()
    assert np.isfinite(AIPW(model=model, folds=0).fit(x, t, b).effect_)  # no flexible model


def test_flexible_scores_need_folds(tmp_path: Path) -> None:
    x, t, _ = varied(60)
    pd.DataFrame({"a": x[:, 0], "t": t}).to_csv(tmp_path / "t.csv", index=False)
    study = read(str(tmp_path / "t.csv"), treatment="t", covariates=["a"])
    with pytest.raises(UserError, match="BoostClassifier can learn its rows by heart"):
        propensity_scores(study, model="boost", folds=0)
    assert propensity_model("boost").folds == 5 and propensity_model("logistic").folds == 0


# ---------------------------------------- boosting


def curved(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Two columns of twenty matter, by their product, a square and a threshold; x, z0 z1, E[Y | x], Y."""
    g = np.random.default_rng(seed)
    x = g.normal(size=(n, 20))
    product = x[:, 0] * x[:, 1]
    mean = 2 * product + x[:, 2] ** 2 + 2 * (x[:, 3] > 0.5)
    return x * 7 + 3, product, mean, mean + g.normal(size=n)


def test_boosting_finds_products_squares_and_thresholds() -> None:
    x, _, mean, y = curved(3000)
    model = BoostRegressor().fit(x, y)
    assert {(0, 1), (2, 2)} <= set(model.products_) and len(model.products_) < 6
    at, _, expected, _ = curved(3000, 1)
    error = np.mean((model.predict(at) - expected) ** 2)
    line = np.mean((LinearRegression().fit(x, y).predict(at) - expected) ** 2)
    assert error < 0.15 < line / 20
    scaled = BoostRegressor().fit(x, 1000 * y)
    assert scaled.predict(at) == pytest.approx(1000 * model.predict(at), rel=1e-6)


def test_boosting_of_a_line_is_the_line() -> None:
    g = np.random.default_rng(0)
    x = g.normal(size=(2000, 10))
    y = x @ np.arange(10) + g.normal(size=2000)
    at = g.normal(size=(2000, 10))
    errors = [np.std(m.fit(x, y).predict(at) - at @ np.arange(10)) for m in (BoostRegressor(), LinearRegression())]
    assert errors[0] < 1.3 * errors[1] < 0.1
    few = BoostRegressor().fit(x[:30], y[:30])
    assert np.isfinite(few.predict(at)).all() and few.share_ == 0
    assert (BoostRegressor().fit(x, np.ones(2000)).predict(at) == 1).all()


def test_trees_see_the_columns_that_they_use() -> None:
    """Of twenty, the one with a step, and of the two with a corner both, or their product, which shows it too."""
    g = np.random.default_rng(0)
    x = g.normal(size=(2000, 20))
    y = 2 * (x[:, 0] > 1) + 3 * (x[:, 1] > 0) * (x[:, 2] > 0) + g.normal(size=2000)
    t = g.uniform(size=2000) < expit(y - 1)
    for model in (BoostRegressor().fit(x, y), BoostClassifier().fit(x, t)):
        seen = set(model.seen_.tolist())
        assert 0 in seen and ({1, 2} <= seen or 20 + model.products_.index((1, 2)) in seen)
        assert len([j for j in seen if 2 < j < 20]) <= 2


def test_trees_that_may_help_by_chance_are_left_out() -> None:
    g = np.random.default_rng(0)
    x = g.normal(size=(10, 500, 5))
    y = x.sum(2) + g.normal(size=(10, 500))
    assert sum(BoostRegressor().fit(*rows).share_ > 0 for rows in zip(x, y, strict=True)) <= 1


def test_boosted_scores_are_calibrated() -> None:
    x, product, _, _ = curved(4000)
    g = np.random.default_rng(3)
    model = BoostClassifier().fit(x, g.uniform(size=4000) < expit(1.5 * product))
    assert model.products_[0] == (0, 1)
    at, product, _, _ = curved(4000, 1)
    e = model.predict_proba(at)[:, 1]
    assert np.sqrt(np.mean((e - expit(1.5 * product)) ** 2)) < 0.07
    assert (model.predict(at) == (e > 0.5)).all()
    t = g.uniform(size=4000) < expit(1.5 * product)
    slope = LogisticRegression(C=1e9).fit(np.log(e / (1 - e))[:, None], t).coef_[0, 0]
    assert 0.85 < slope < 1.2
    with pytest.raises(ValueError, match="1 classes"):
        BoostClassifier().fit(x, np.ones(4000))
    few = BoostClassifier().fit(x[:30], np.arange(30) % 2)
    assert few.trees_ is None and few.predict_proba(x).shape == (4000, 2)


@pytest.mark.slow
def test_boosting_rescues_an_effect_that_lines_miss() -> None:
    """Treatment and outcome depend on a product, a square and a threshold."""
    x, product, mean, _ = curved(2000)
    g = np.random.default_rng(1)
    t = g.uniform(size=2000) < expit(product + 0.5 * (mean > 2))
    y = mean + 2 * t + g.normal(size=2000)
    errors = {}
    for outcome, propensity in (("linear", "logistic"), ("boost", "boost")):
        models = Models(outcome, propensity)
        estimator = AIPW("ATE", model=models.of_outcome(), propensity=models.of_propensity(), repeats=1, folds=3)
        errors[outcome] = estimator.fit(x, t, y).effect_ - 2
    assert abs(errors["boost"]) < 0.15 and errors["linear"] > 1


def test_least_squares_are_scikit_learns_where_coefficients_are_many_too() -> None:
    x, _, y = varied(60)
    x = np.column_stack([x, np.eye(4)[np.arange(60) % 4]])  # a factor, whose indicators sum to one
    for rows in (60, 5):
        expected = LinearRegression().fit(x[:rows], y[:rows]).predict(x)
        assert learned(LeastSquares(), x[:rows], y[:rows]).predict(x) == pytest.approx(expected)
