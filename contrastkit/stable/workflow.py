"""From a table to a stable predictor: reweight its rows, fit a model, evaluate it in each environment."""

import inspect
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrastkit.directories import given_path
from contrastkit.errors import UserError, check_choice
from contrastkit.stable import predict
from contrastkit.stable.components import to_reweight
from contrastkit.stable.names import Decorrelation, Kind
from contrastkit.stable.predict import Evaluation, Linear
from contrastkit.stable.reweight import METHODS, Reweighting
from contrastkit.stable.table import Table
from contrastkit.tables.checks import effective_sample_size
from contrastkit.tables.identity import read_weights


@dataclass(frozen=True)
class TableReweighting:
    """Weights for the rows of a table.

    Attributes:
        components: number of principal components the weights were computed from; 0 for the features themselves.
    """

    features: tuple[str, ...]
    components: int
    reweighting: Reweighting

    def as_json(self) -> dict[str, Any]:
        report = {name: value for name, value in asdict(self.reweighting).items() if name != "weights"}
        shape = {"rows": len(self.reweighting.weights), "features": self.features, "components": self.components}
        return {**shape, **report, "remarks": self.reweighting.notices}


def reweight(
    table: Table,
    by: Decorrelation = "rff",
    *,
    cosines: int | None = None,
    penalty: float | None = None,
    clip: float | None = None,
    components: int | None = None,
    seed: int = 0,
) -> TableReweighting:
    """Weight the rows of a table so that its features become independent.

    Args:
        by: a method of :mod:`contrastkit.stable.reweight`; ``cosines``, ``penalty`` and ``clip`` are its parameters,
            None for the default.
        components: see :func:`contrastkit.stable.components.to_reweight`.

    Raises:
        UserError: unknown method, the method has no such parameter, or cannot reweight these features.
    """
    check_choice("method", by, METHODS)
    X = to_reweight(table, components)
    method = METHODS[by]
    known = inspect.signature(method).parameters
    given = {"cosines": cosines, "penalty": penalty, "clip": clip}
    given = {name: value for name, value in given.items() if value is not None}
    for name in given:
        if name not in known:
            raise UserError(f"--{name} does not apply to {by}: leave it out")
    random = {"seed": seed} if "seed" in known else {}  # the others are deterministic
    return TableReweighting(table.X.names, 0 if X is table.X else X.shape[1], method(X, **given, **random))


@dataclass(frozen=True)
class TableFit:
    """A model fitted to a table.

    Attributes:
        ess: effective sample size under the weights.
        error: unweighted error on the table itself: root mean square error for ridge, % wrong for logistic.
        reweighting: set if weights were computed for the fit.
        remark: on the weights of a file, if any.
    """

    model: Linear
    rows: int
    ess: float
    error: float
    alpha: float
    reweighting: Reweighting | None = None
    remark: str = ""

    def as_json(self) -> dict[str, Any]:
        model = {"kind": self.model.kind, "alpha": self.alpha, "rows": self.rows, "features": len(self.model.names)}
        return model | {"ess": self.ess, "error": self.error} | ({"remark": self.remark} if self.remark else {})


def fit(
    table: Table,
    *,
    kind: Kind = "ridge",
    weights: Path | None = None,
    by: Decorrelation | None = None,
    components: int | None = None,
    alpha: float = 1.0,
    intercept: bool = True,
    seed: int = 0,
) -> TableFit:
    """Fit a weighted linear model to a table (:func:`contrastkit.stable.predict.fit`).

    Args:
        weights: file with a weight for each row. by: method to compute them instead; neither for equal weights.
        components, seed: for ``by``, see :func:`reweight`.

    Raises:
        UserError: the table has no label, arguments exclude one another, or the model cannot be fitted.
    """
    y = labels(table)
    if weights is not None and by is not None:
        raise UserError("give --weights or --by, not both")
    if components is not None and by is None:
        raise UserError("--components applies to --by: give that too")
    w, reweighting, remark = None, None, ""
    if weights is not None:
        w, remark = read_weights(given_path(weights), len(y), table.row_ids())
    elif by is not None:
        reweighting = reweight(table, by, components=components, seed=seed).reweighting
        w = reweighting.weights
    model = predict.fit(table.X, y, w, kind=kind, alpha=alpha, intercept=intercept)
    return TableFit(
        model=model,
        rows=len(y),
        ess=len(y) if w is None else effective_sample_size(w / w.max()),
        error=predict.evaluate(model, table.X, y).average,
        alpha=alpha,
        reweighting=reweighting,
        remark=remark,
    )


def evaluate(model: Linear, table: Table) -> Evaluation:
    """The errors of a model in each environment of a table (:func:`contrastkit.stable.predict.evaluate`).

    Raises:
        UserError: the table has no label, or lacks a feature of the model.
    """
    return predict.evaluate(model, table.X, labels(table), table.environment)


def labels(table: Table) -> NDArray[Any]:
    """The label of each row, [n].

    Raises:
        UserError: the table has no label.
    """
    if table.label is None:
        reason = "some images have none" if table.embedded else "the table does not say which column it is"
        raise UserError(f"no label, {reason}: name the column to predict with --label")
    return np.asarray(table.label)
