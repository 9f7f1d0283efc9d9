"""Weighted linear predictors, and how even their errors are over environments."""

import json
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge

from contrastkit.checkpoint import write_text
from contrastkit.errors import UserError
from contrastkit.stable.names import Kind
from contrastkit.tables.checks import Floats, as_numbers, as_weights, check_magnitude
from contrastkit.tables.covariates import Covariates

FORMAT = 1


@dataclass(frozen=True)
class Linear:
    """A fitted predictor: scores X coefficients' + intercept, in the units of X.

    Attributes:
        kind: ridge predicts a number; logistic one of ``classes``.
        names: of the p features.
        coefficients: [1, p]; of logistic with more than two classes [classes, p].
        intercept: [1] or [classes], zeros where none was fitted.
        classes: of logistic, as text; none of ridge.
    """

    kind: Kind
    names: tuple[str, ...]
    coefficients: Floats
    intercept: Floats
    classes: tuple[str, ...] = ()

    def predict(self, X: Any) -> NDArray[Any]:
        """Numbers float64 [n], or classes as text [n], of covariates or a frame with columns of these names, or of an
        array [n, p].

        A frame's columns are known by their names as text: 0 is "0".

        Raises:
            UserError: a column is missing, another number of them, or not finite numbers.
        """
        x = _features(self._own(X)).x
        if x.shape[1] != len(self.names):
            raise UserError(f"the model is for {len(self.names)} features, these data have {x.shape[1]}")
        scores = x @ self.coefficients.T + self.intercept
        if self.kind == "ridge":
            return scores[:, 0]
        best = scores.argmax(1) if len(self.classes) > 2 else (scores[:, 0] > 0).astype(int)
        return np.array(self.classes)[best]

    def _own(self, X: Any) -> Any:
        """The model's columns of covariates or a frame, in its order; an array as it is."""
        if isinstance(X, Covariates):
            place = {name: j for j, name in enumerate(X.names)}
        elif hasattr(X, "columns"):
            place = {str(column): j for j, column in enumerate(X.columns)}
        else:
            return X
        if lacking := [name for name in self.names if name not in place]:
            raise UserError(f"the model needs a column '{lacking[0]}', which these data lack")
        columns = [place[name] for name in self.names]
        return X.select(columns) if isinstance(X, Covariates) else X.iloc[:, columns]

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        state = asdict(self) | {"coefficients": self.coefficients.tolist(), "intercept": self.intercept.tolist()}
        write_text(path, json.dumps({"format": FORMAT, **state}, indent=2) + "\n")


def load(path: Path) -> Linear:
    """Read what :meth:`Linear.save` wrote.

    Raises:
        UserError: no such file, not one of these, damaged, or of another format.
    """
    try:
        state = json.loads(path.read_text())
        version = state.pop("format")
        model = Linear(
            kind=state["kind"],
            names=tuple(state["names"]),
            coefficients=np.array(state["coefficients"], np.float64),
            intercept=np.array(state["intercept"], np.float64),
            classes=tuple(state["classes"]),
        )
    except FileNotFoundError as error:
        raise UserError(f"{path} is no file: 'contrastkit stable fit' writes one") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(f"{path} is no model that 'contrastkit stable fit' wrote, or damaged") from error
    if version != FORMAT:
        raise UserError(f"{path} has format {version}, this version reads format {FORMAT}")
    rows = len(model.classes) if len(model.classes) > 2 else 1
    worded = all(isinstance(name, str) for name in (*model.names, *model.classes))
    fitting = model.coefficients.shape == (rows, len(model.names)) and model.intercept.shape == (rows,)
    whole = bool(np.isfinite(model.coefficients).all() and np.isfinite(model.intercept).all())
    known = (model.kind == "logistic" and len(model.classes) > 1) or (model.kind == "ridge" and not model.classes)
    if not (worded and fitting and whole and known):
        raise UserError(f"{path} is damaged: its parts do not fit one another")
    return model


def fit(
    X: Any, Y: ArrayLike, w: ArrayLike | None = None, *, kind: Kind, alpha: float = 1.0, intercept: bool = True
) -> Linear:
    """Weighted ridge regression or logistic regression (scikit-learn's), of features standardised under the weights.

    Ridge has sum w (y - x b)^2 + alpha ||b||^2, logistic sum w log loss + alpha / 2 ||b||^2, w with mean 1 and the
    intercept free. Without an intercept, features are scaled and not centred; with alpha = 0 besides, ridge is weighted
    least squares, of least norm where columns follow from one another.

    Args:
        X: [n, p], covariates, an array or a frame, whose names the model keeps, of numbers.
        Y: [n]: numbers, or any values for logistic.
        w: weights [n], not negative; None for equal ones.
        kind: ridge or logistic.
        alpha: the penalty, not negative.
        intercept: whether there is one.

    Raises:
        UserError: another kind, data or weights that are not finite numbers, lengths that differ, weights that sum to
            zero, over all rows or over those of a class, a penalty below 0, a single class, or a logistic fit that has
            not converged, or has no penalty and tells all rows apart, so that larger coefficients were better still.
    """
    if kind not in get_args(Kind):
        raise UserError(f"{kind} is not among the predictors here: {', '.join(get_args(Kind))}")
    if not 0 <= alpha < np.inf:
        raise UserError(f"alpha {alpha:g}: a penalty from 0 up")
    features = _features(X)
    x, names, n = features.x, features.names, len(features)
    y: Any = _text(Y, n) if kind == "logistic" else _numbers(Y, n)
    w = np.ones(n) if w is None else as_weights(w, n)
    mean = np.average(x, axis=0, weights=w) if intercept else np.zeros(x.shape[1])
    sd = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=w))
    constant = sd <= 1e-12 * np.abs(x).max(0)  # of a constant it is rounding, not always 0
    sd[constant] = 1
    z = np.where(constant, 0, (x - mean) / sd)
    if kind == "logistic":
        logistic = _logistic(z, y, w, alpha, intercept=intercept)
        classes, b, level = tuple(str(c) for c in np.unique(y)), np.atleast_2d(logistic.coef_) / sd, logistic.intercept_
    elif alpha:
        ridge = Ridge(alpha=alpha, fit_intercept=intercept, solver="svd").fit(z, y, sample_weight=w)
        classes, b, level = (), np.atleast_2d(ridge.coef_) / sd, ridge.intercept_
    else:
        # Not by Ridge, which takes the rounding of a column that follows from others for a direction of its own.
        level, root = np.average(y, weights=w) if intercept else 0.0, np.sqrt(w)
        classes, b = (), np.linalg.lstsq(z * root[:, None], (y - level) * root, rcond=1e-10)[0][None] / sd
    return Linear(kind, names, b, np.broadcast_to(level, len(b)) - b @ mean, classes)


def _logistic(z: Floats, y: NDArray[Any], w: Floats, alpha: float, *, intercept: bool) -> LogisticRegression:
    """Logistic regression of labels y [n] on standardised z [n, p].

    Raises:
        UserError: a single class or hardly any rows of each, a class without weight, no convergence, or no penalty
            where the classes can be separated.
    """
    classes = np.unique(y)
    if len(classes) < 2:
        raise UserError(f"every label is {classes[0]}: there is nothing to tell apart")
    if len(classes) > max(2, len(y) // 2):
        raise UserError(f"{len(classes)} different labels of {len(y)} rows are no classes: ridge predicts numbers")
    if without := [c for c in classes if not w[y == c].any()]:
        raise UserError(f"the rows of class {without[0]} all have weight zero: nothing of it is left to learn")
    separable = f"the classes may be separable, raise alpha {alpha:g}"
    model = LogisticRegression(C=1 / alpha if alpha else np.inf, fit_intercept=intercept, max_iter=2000)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            model.fit(z, y, sample_weight=w)
        except ConvergenceWarning as error:
            raise UserError(f"logistic regression has not converged: {separable}") from error
    if not alpha and (model.predict(z) == y)[w > 0].all():
        raise UserError(f"logistic regression tells all rows apart, coefficients without a bound: {separable}")
    return model


@dataclass(frozen=True)
class Evaluation:
    """Errors by environment: root mean squares of ridge, shares of wrong classes in % of logistic.

    Attributes:
        errors: of each environment. rows: how many it has.
        average: of the errors, each environment counting the same. deviation: their standard deviation, divided by
            their number: what Kuang et al. (2020) call stability error.
        worst: the largest.
    """

    kind: Kind
    errors: dict[str, float]
    rows: dict[str, int]
    average: float
    deviation: float
    worst: float


def evaluate(model: Linear, X: Any, Y: ArrayLike, environment: ArrayLike | None = None) -> Evaluation:
    """The errors of ``model`` in each environment.

    Args:
        X: [n, p], covariates or a frame with the model's columns, or an array.
        Y: [n].
        environment: where each row comes from, [n], any values; None for one place.

    Raises:
        UserError: as :meth:`Linear.predict`, other lengths, missing environments, or labels that are no numbers (ridge)
            or that the model has never seen (logistic).
    """
    predicted = model.predict(X)
    n = len(predicted)
    where = np.zeros(n) if environment is None else np.asarray(environment).reshape(-1)
    if len(where) != n:
        raise UserError(f"{len(where)} environments for {n} rows")
    if missing := sum(v is None or v != v for v in where):
        raise UserError(f"the environment: {missing} of {n} values are missing: drop or fill them")
    if where.dtype.kind == "O":  # of several types, they may have no order
        where = where.astype(str)
    if model.kind == "logistic":
        y = _text(Y, n)
        if strange := sorted(set(y) - set(model.classes)):
            raise UserError(f"the label {strange[0]} is none of the model's classes, {', '.join(model.classes)}")
        losses = 100.0 * (predicted != y)
    else:
        losses = (predicted - _numbers(Y, n)) ** 2
    places = np.unique(where)
    means = np.array([losses[where == place].mean() for place in places])
    errors = means if model.kind == "logistic" else np.sqrt(means)
    names = ["all"] if environment is None else [str(place) for place in places]
    return Evaluation(
        model.kind,
        dict(zip(names, errors.tolist(), strict=True)),
        dict(zip(names, [int((where == place).sum()) for place in places], strict=True)),
        float(errors.mean()),
        float(errors.std()),
        float(errors.max()),
    )


def _features(X: Any) -> Covariates:
    """Covariates of numbers of moderate size, and no words: their columns would be as many as these data happen to have
    words."""
    covariates = Covariates.of(X)
    check_magnitude(covariates.x, covariates.names)
    for name, origin in zip(covariates.names, covariates.origins, strict=True):
        if name != origin:
            raise UserError(f"{origin} holds words: make numbers of them, a column of 0 and 1 for each but one")
    return covariates


def _numbers(Y: ArrayLike, n: int) -> Floats:
    y = np.asarray(Y).reshape(-1, 1)
    if len(y) != n:
        raise UserError(f"{len(y)} labels for {n} rows")
    if y.dtype.kind in "OUS" and any(isinstance(value, str) for value in y[:, 0]):
        raise UserError("the label holds words: ridge predicts numbers, logistic tells classes apart")
    y = as_numbers(y, ("the label",))
    check_magnitude(y, ("the label",))
    return y[:, 0]


def _text(Y: ArrayLike, n: int) -> NDArray[np.str_]:
    """Labels as text, whole numbers without a point: 1.0 is 1."""
    y = np.asarray(Y).reshape(-1)
    if len(y) != n:
        raise UserError(f"{len(y)} labels for {n} rows")
    if y.dtype.kind == "f":
        y = as_numbers(y[:, None], ("the label",))[:, 0]
        y = y.astype(np.int64) if (y == np.round(y)).all() else y
    elif y.dtype.kind == "O" and (missing := sum(v is None or v != v for v in y)):
        raise UserError(f"the label: {missing} of {n} values are missing: drop or fill them")
    return y.astype(str)
