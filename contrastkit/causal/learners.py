"""Models of the outcome and of the treatment, by the names of the options."""

import importlib
from collections.abc import Callable
from typing import Any, Literal, Self, get_args

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin, clone, is_classifier
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LassoCV, LinearRegression, LogisticRegression, LogisticRegressionCV
from sklearn.utils import get_tags
from sklearn.utils.validation import has_fit_parameter

from contrastkit.causal.boosting import BoostClassifier, BoostRegressor
from contrastkit.causal.names import OutcomeModel, PropensityModel
from contrastkit.errors import UserError, check_choice
from contrastkit.tables.checks import Floats


def outcome_learner(name: str, seed: int = 0) -> Any:
    """The regressor of an outcome by name: an :data:`contrastkit.causal.names.OutcomeModel`, or a class of a regressor,
    or of a classifier of an outcome of 0 and 1, as ``package.module:Class``.

    Raises:
        UserError: unknown name, or a class that cannot be used.
    """
    seed %= 2**32  # scikit-learn takes no larger seeds
    by_name: dict[str, Callable[[], Any]] = {
        "linear": LeastSquares,
        "logistic": lambda: LogisticRegression(C=np.inf, solver="newton-cholesky"),
        "lasso": LassoCV,
        "forest": lambda: RandomForestRegressor(min_samples_leaf=5, max_features=1 / 3, n_jobs=-1, random_state=seed),
        "boost": BoostRegressor,
    }
    check_name("outcome", name)
    model = _of_class("outcome", name, seed) if ":" in name else by_name[name]()
    return Probability(model, name) if is_classifier(model) else model


def propensity_learner(name: str, seed: int = 0) -> Any:
    """The classifier of the treatment by name: a :data:`contrastkit.causal.names.PropensityModel`, or the class of a
    classifier; None for logistic regression, which :class:`contrastkit.causal.propensity.Propensity` has.

    Raises:
        UserError: as :func:`outcome_learner`.
    """
    seed %= 2**32
    by_name: dict[str, Callable[[], Any]] = {
        "logistic": lambda: None,
        "lasso": lambda: LogisticRegressionCV(
            cv=5, l1_ratios=(1,), solver="saga", tol=1e-3, max_iter=1000, scoring="neg_log_loss", random_state=seed,
            use_legacy_attributes=False,
        ),
        "forest": lambda: RandomForestClassifier(min_samples_leaf=20, n_jobs=-1, random_state=seed),
        "boost": BoostClassifier,
    }  # fmt: skip
    check_name("propensity", name)
    return _of_class("propensity", name, seed) if ":" in name else by_name[name]()


def check_name(what: Literal["outcome", "propensity"], name: str) -> None:
    """Raise a UserError if a model is neither a known name nor looks like ``package.module:Class``."""
    if ":" not in name:
        known = get_args(OutcomeModel if what == "outcome" else PropensityModel)
        check_choice(f"{what} model", name, [*known, "package.module:Class"])


def flexible(model: Any) -> bool:
    """Whether a model can learn its rows by heart, and must be cross-fitted: any but linear and logistic regression;
    None stands for these."""
    if isinstance(model, Probability):
        model = model.classifier
    linear = (LeastSquares, LinearRegression, LogisticRegression)  # of which the lasso's is a subclass
    return model is not None and type(model) not in linear


def check_cross_fitted(model: Any, folds: int) -> None:
    """Raise a UserError if a flexible model has no folds."""
    if not folds and flexible(model):
        raise UserError(f"{type(model).__name__} can learn its rows by heart: cross-fit it with 2 folds or more")


def learned(model: Any, x: Floats, y: Any, sample_weight: Floats | None = None) -> Any:
    """A clone of the model, fitted to x [n, p] and y [n], with weights [n] of the rows if any. They are scaled to mean
    1, so that a penalty means what it means without them.

    Raises:
        UserError: the model refuses them, or takes no weights.
    """
    weights = {}
    if sample_weight is not None:
        if not has_fit_parameter(model, "sample_weight"):
            raise UserError(
                f"{type(model).__name__} takes no sample weights: choose another model, or leave the weights out"
            )
        weights = {"sample_weight": sample_weight / sample_weight.mean()}
    try:
        return clone(model).fit(x, y, **weights)
    except (ValueError, TypeError) as error:
        raise UserError(f"{type(model).__name__} cannot learn {len(x):,} rows: {str(error).splitlines()[0]}") from error


def predicted(model: Any, x: Floats, *, probability: bool = False) -> Floats:
    """The predictions [n] of a fitted model for x [n, p], or the probabilities of a classifier's second class.

    Raises:
        UserError: the model refuses x, or predicts anything but n finite numbers.
    """
    name = type(model).__name__
    try:
        values = np.asarray(model.predict_proba(x)[:, 1] if probability else model.predict(x), np.float64)
        values = values.reshape(len(x))
    except (ValueError, TypeError) as error:
        raise UserError(f"{name} cannot predict {len(x):,} rows: {str(error).splitlines()[0]}") from error
    if not np.isfinite(values).all():
        raise UserError(f"{name} predicts values that are not finite: choose another model")
    return values


class LeastSquares(RegressorMixin, BaseEstimator):
    """Linear regression; where many coefficients fit equally well, the smallest. On a few hundred rows, of which
    cross-fitting and resampling have many, the checks of scikit-learn's take fifty times as long."""

    def fit(self, x: Floats, y: Floats, sample_weight: Floats | None = None) -> Self:
        self.at_, self.base_ = np.average(x, axis=0, weights=sample_weight), np.average(y, weights=sample_weight)
        z, r = x - self.at_, y - self.base_
        if sample_weight is not None:
            root = np.sqrt(sample_weight)
            z, r = z * root[:, None], r * root
        self.coef_ = np.linalg.lstsq(z, r, rcond=None)[0]
        return self

    def predict(self, x: Floats) -> Floats:
        return np.asarray(self.base_ + (x - self.at_) @ self.coef_)


class Probability(RegressorMixin, BaseEstimator):
    """The probability that an outcome of 0 and 1 is 1, by a classifier.

    Raises:
        UserError: the outcome has other values.
    """

    def __init__(self, classifier: Any, name: str = "") -> None:
        self.classifier = classifier
        self.name = name

    def fit(self, x: Floats, y: Floats, sample_weight: Floats | None = None) -> Self:
        if not set(np.unique(y)) <= {0.0, 1.0}:
            raise UserError(f"the outcome model {self.name} predicts an outcome of 0 and 1: choose another for numbers")
        self.only_ = float(y[0])
        same = (y == y[0]).all()
        self.classifier_ = None if same else learned(self.classifier, x, y.astype(np.int64), sample_weight)
        return self

    def predict(self, x: Floats) -> Floats:
        if self.classifier_ is None:
            return np.full(len(x), self.only_)
        return predicted(self.classifier_, x, probability=True)


def _of_class(what: str, name: str, seed: int) -> Any:
    """An instance of the class ``package.module:Class``; its ``random_state``, if it has one, is the seed."""
    module, _, cls = name.partition(":")
    try:
        model = getattr(importlib.import_module(module), cls)()
    except (ImportError, ValueError) as error:
        raise UserError(f"{what} model {name}: {error}: correct the name, or install the package") from error
    except AttributeError as error:
        raise UserError(f"{what} model {name}: {module} has no class {cls}") from error
    except TypeError as error:
        raise UserError(f"{what} model {name}: it cannot be made without arguments ({error})") from error
    kind = get_tags(model).estimator_type if hasattr(model, "__sklearn_tags__") else None
    method = "predict_proba" if what == "propensity" or kind == "classifier" else "predict"
    if missing := [part for part in ("get_params", "fit", method, "__sklearn_tags__") if not hasattr(model, part)]:
        raise UserError(f"{what} model {name}: it has no {missing[0]}: name a class like those of scikit-learn")
    if kind not in (None, "classifier", "regressor"):
        raise UserError(f"{what} model {name}: it predicts no {what}: name a regressor or a classifier")
    return model.set_params(random_state=seed) if "random_state" in model.get_params() else model
