"""Weighted linear predictors, and how much their errors vary across environments."""

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
from contrastkit.directories import require_file
from contrastkit.errors import UserError, check_choice
from contrastkit.stable.names import Kind
from contrastkit.tables.checks import Floats, as_column, as_weights, check_magnitude, check_present
from contrastkit.tables.covariates import Covariates

FORMAT = 1


@dataclass(frozen=True)
class Linear:
    """A fitted predictor with scores X coefficients' + intercept, in the units of X.

    Attributes:
        kind: ridge predicts a number, logistic one of ``classes``.
        names: the names of the p features.
        coefficients: [1, p], or [classes, p] for logistic with more than two classes.
        intercept: [1] or [classes], zeros if none was fitted.
        classes: as text for logistic, empty for ridge.
    """

    kind: Kind
    names: tuple[str, ...]
    coefficients: Floats
    intercept: Floats
    classes: tuple[str, ...] = ()

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict numbers, float64 [n], or classes, text [n], for covariates or a frame with columns of these names, or
        for an array [n, p].

        The columns of a frame are matched by their names as text: 0 is "0".

        Raises:
            UserError: a column is missing, the number of columns differs, or values are not finite numbers.
        """
        x = _features(self._columns(X)).x
        if x.shape[1] != len(self.names):
            raise UserError(f"the model has {len(self.names)} features, these data {x.shape[1]}: use the same columns")
        scores = x @ self.coefficients.T + self.intercept
        if self.kind == "ridge":
            return scores[:, 0]
        best = scores.argmax(1) if len(self.classes) > 2 else (scores[:, 0] > 0).astype(int)
        return np.array(self.classes)[best]

    def _columns(self, X: Any) -> Any:
        """The columns of the model, in its order, from covariates or a frame; an array as it is."""
        if isinstance(X, Covariates):
            position = {name: j for j, name in enumerate(X.names)}
        elif hasattr(X, "columns"):
            position = {str(column): j for j, column in enumerate(X.columns)}
        else:
            return X
        if missing := [name for name in self.names if name not in position]:
            raise UserError(f"the model needs a column '{missing[0]}', which these data lack")
        columns = [position[name] for name in self.names]
        return X.select(columns) if isinstance(X, Covariates) else X.iloc[:, columns]

    def save(self, path: Path) -> None:
        """Write the model as JSON."""
        state = asdict(self) | {"coefficients": self.coefficients.tolist(), "intercept": self.intercept.tolist()}
        write_text(path, json.dumps({"format": FORMAT, **state}, indent=2) + "\n")


def load(path: Path) -> Linear:
    """Read a model written by :meth:`Linear.save`.

    Raises:
        UserError: no such file, not a model, damaged, or in another format.
    """
    require_file(path, "; 'contrastkit stable fit' writes models")
    try:
        state = json.loads(path.read_text("utf-8"))
        version = state.pop("format")
        model = Linear(
            kind=state["kind"],
            names=tuple(state["names"]),
            coefficients=np.array(state["coefficients"], np.float64),
            intercept=np.array(state["intercept"], np.float64),
            classes=tuple(state["classes"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(f"{path} is damaged or not a model of 'contrastkit stable fit': fit it again") from error
    if version != FORMAT:
        raise UserError(f"{path} has format {version}, but this version reads format {FORMAT}: fit the model again")
    rows = len(model.classes) if len(model.classes) > 2 else 1
    are_text = all(isinstance(name, str) for name in (*model.names, *model.classes))
    shapes_fit = model.coefficients.shape == (rows, len(model.names)) and model.intercept.shape == (rows,)
    finite = bool(np.isfinite(model.coefficients).all() and np.isfinite(model.intercept).all())
    consistent = (model.kind == "logistic" and len(model.classes) > 1) or (model.kind == "ridge" and not model.classes)
    if not (are_text and shapes_fit and finite and consistent):
        raise UserError(f"{path} is damaged, its parts do not match: fit the model again")
    return model


def fit(
    X: Any, Y: ArrayLike, w: ArrayLike | None = None, *, kind: Kind, alpha: float = 1.0, intercept: bool = True
) -> Linear:
    """Fit weighted ridge or logistic regression (scikit-learn) to features standardised under the weights.

    Ridge minimises sum w (y - x b)^2 + alpha ||b||^2, logistic sum w log loss + alpha / 2 ||b||^2, with w of mean 1 and
    the intercept not penalised. Without an intercept, features are scaled but not centred. With alpha = 0, ridge is
    weighted least squares, with the least-norm solution if columns are linearly dependent.

    Args:
        X: numeric covariates, an array or a frame, [n, p]; the model keeps the names.
        Y: numbers [n], or any values for logistic.
        w: nonnegative weights [n]; None for equal weights.
        kind: ridge or logistic.
        alpha: the penalty, 0 or more.
        intercept: whether to fit one.

    Raises:
        UserError: unknown kind, data or weights that are not finite numbers, lengths that differ, weights that sum to
            zero over all rows or over a class, a negative penalty, a single class, or a logistic fit that did not
            converge, or that separates the classes without a penalty, so that its coefficients are unbounded.
    """
    check_choice("predictor", kind, get_args(Kind))
    if not 0 <= alpha < np.inf:
        raise UserError(f"alpha {alpha:g}: give a finite penalty, 0 or more")
    features = _features(X)
    x, names, n = features.x, features.names, len(features)
    y: Any = _text(Y, n) if kind == "logistic" else _numbers(Y, n)
    w = np.ones(n) if w is None else as_weights(w, n)
    mean = np.average(x, axis=0, weights=w) if intercept else np.zeros(x.shape[1])
    sd = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=w))
    constant = sd <= 1e-12 * np.abs(x).max(0)  # that of a constant may be rounding error
    sd[constant] = 1
    z = np.where(constant, 0, (x - mean) / sd)
    if kind == "logistic":
        logistic = _logistic(z, y, w, alpha, intercept=intercept)
        classes, b, level = tuple(str(c) for c in np.unique(y)), np.atleast_2d(logistic.coef_) / sd, logistic.intercept_
    elif alpha:
        ridge = Ridge(alpha=alpha, fit_intercept=intercept, solver="svd").fit(z, y, sample_weight=w)
        classes, b, level = (), np.atleast_2d(ridge.coef_) / sd, ridge.intercept_
    else:
        # Not Ridge: it treats rounding error in linearly dependent columns as a direction.
        level, root = np.average(y, weights=w) if intercept else 0.0, np.sqrt(w)
        classes, b = (), np.linalg.lstsq(z * root[:, None], (y - level) * root, rcond=1e-10)[0][None] / sd
    return Linear(kind, names, b, np.broadcast_to(level, len(b)) - b @ mean, classes)


def _logistic(z: Floats, y: NDArray[Any], w: Floats, alpha: float, *, intercept: bool) -> LogisticRegression:
    """Logistic regression of labels y [n] on standardised z [n, p].

    Raises:
        UserError: a single class, hardly any rows for each, a class without weight, no convergence, or no penalty
            although the classes are separable.
    """
    classes = np.unique(y)
    if len(classes) < 2:
        raise UserError(f"every label is {classes[0]}: provide at least two classes")
    if len(classes) > max(2, len(y) // 2):
        raise UserError(f"{len(classes)} different labels in {len(y)} rows are not classes: use ridge for numbers")
    if weightless := [c for c in classes if not w[y == c].any()]:
        raise UserError(f"the rows of class {weightless[0]} all have weight zero: drop the class")
    advice = f"the classes may be separable; raise alpha {alpha:g}"
    model = LogisticRegression(C=1 / alpha if alpha else np.inf, fit_intercept=intercept, max_iter=2000)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            model.fit(z, y, sample_weight=w)
        except ConvergenceWarning as error:
            raise UserError(f"logistic regression did not converge: {advice}") from error
    if not alpha and (model.predict(z) == y)[w > 0].all():
        raise UserError(f"logistic regression separates all rows, so its coefficients are unbounded: {advice}")
    return model


@dataclass(frozen=True)
class Evaluation:
    """Errors by environment: root mean square error for ridge, % misclassified for logistic.

    Attributes:
        errors: the error in each environment. rows: its number of rows.
        average: mean of the errors, environments weighted equally. deviation: their standard deviation, with divisor
            the number of environments: the stability error of Kuang et al. (2020).
        worst: the largest error.
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
        X: covariates or a frame with the columns of the model, or an array, [n, p].
        Y: [n].
        environment: the environment of each row, [n], any values; None for a single one.

    Raises:
        UserError: see :meth:`Linear.predict`; or lengths that differ, missing environments, or labels that are not
            numbers (ridge) or not classes of the model (logistic).
    """
    predicted = model.predict(X)
    n = len(predicted)
    where = np.zeros(n) if environment is None else np.asarray(environment).reshape(-1)
    if len(where) != n:
        raise UserError(f"{len(where)} environments for {n} rows")
    check_present(where, "the environment")
    if where.dtype.kind == "O":  # values of several types may have no order
        where = where.astype(str)
    if model.kind == "logistic":
        y = _text(Y, n)
        if unknown := sorted(set(y) - set(model.classes)):
            raise UserError(f"the label {unknown[0]} is not a class of the model ({', '.join(model.classes)})")
        losses = 100.0 * (predicted != y)
    else:
        losses = (predicted - _numbers(Y, n)) ** 2
    environments = np.unique(where)
    means = np.array([losses[where == value].mean() for value in environments])
    errors = means if model.kind == "logistic" else np.sqrt(means)
    names = ["all"] if environment is None else [str(value) for value in environments]
    return Evaluation(
        model.kind,
        dict(zip(names, errors.tolist(), strict=True)),
        dict(zip(names, [int((where == value).sum()) for value in environments], strict=True)),
        float(errors.mean()),
        float(errors.std()),
        float(errors.max()),
    )


def _features(X: Any) -> Covariates:
    """Numeric covariates of moderate size. Text is refused: its indicators would depend on the values in these data."""
    covariates = Covariates.of(X)
    check_magnitude(covariates.x, covariates.names)
    for name, origin in zip(covariates.names, covariates.origins, strict=True):
        if name != origin:
            raise UserError(f"{origin} contains text: encode it as numbers, an indicator for each value but one")
    return covariates


def _numbers(Y: ArrayLike, n: int) -> Floats:
    y = np.asarray(Y).reshape(-1)
    if len(y) != n:
        raise UserError(f"{len(y)} labels for {n} rows")
    if y.dtype.kind in "OUS" and any(isinstance(value, str) for value in y):
        raise UserError("the label is text: use logistic for classes; ridge predicts numbers")
    y = as_column(y, "the label")
    check_magnitude(y[:, None], ("the label",))
    return y


def _text(Y: ArrayLike, n: int) -> NDArray[np.str_]:
    """Labels as text, whole numbers without a decimal point: 1.0 is "1"."""
    y = np.asarray(Y).reshape(-1)
    if len(y) != n:
        raise UserError(f"{len(y)} labels for {n} rows")
    check_present(y, "the label")
    if y.dtype.kind == "f":
        y = as_column(y, "the label")
        y = y.astype(np.int64) if (y == np.round(y)).all() else y
    return y.astype(str)
