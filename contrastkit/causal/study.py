"""A study: covariates X, a treatment T and an outcome Y, read from a table.

X and T are validated here; Y is left as it is in the table, for the estimators to validate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrastkit.causal.adjustment import adjustment
from contrastkit.causal.sets import NAMED, load
from contrastkit.directories import given_path
from contrastkit.errors import UserError
from contrastkit.tables.checks import (
    Bools,
    Floats,
    as_arms,
    as_clusters,
    as_numbers,
    as_sample_weights,
    check_present,
)
from contrastkit.tables.covariates import Covariates, check_independent
from contrastkit.tables.embeddings import principal_components, read_embeddings
from contrastkit.tables.files import check_columns, read_table, select_rows
from contrastkit.tables.identity import RowIds

ROLES = "treatment, outcome and covariates"  # of the columns of a table


@dataclass(frozen=True, eq=False)
class Study:
    """Covariates, treatment and outcome of a table, and the true effect if known."""

    X: Covariates  # [n, p]
    T: Bools  # [n]
    Y: NDArray[Any] | None  # [n]
    treatment: str  # name of the column, like outcome
    outcome: str | None
    covariates: Mapping[str, tuple[str, ...]]  # column or .npz file -> its origins in X
    frame: Any  # the table, with the columns that have no role
    source: str  # name of the table
    truth: float | None = None
    adjustment: str = ""  # why these covariates, if a graph says so

    def row_ids(self) -> RowIds:
        """Identifiers of the n rows, for files of weights and pairs."""
        return RowIds.of(self.frame)

    def outcomes(self) -> NDArray[Any]:
        """The outcomes Y, [n].

        Raises:
            UserError: the study was read without an outcome.
        """
        if self.Y is None:
            raise UserError("no outcome: name the column with --outcome")
        return self.Y

    def sample_weights(self, column: str) -> Floats:
        """The weights of the units in a survey, in a column of the table, float64 [n] with mean 1.

        Raises:
            UserError: no such column, it is the treatment or the outcome, or values are missing or not positive.
        """
        self._check_other(column, "sample weight")
        return as_sample_weights(self.frame[column].to_numpy(), len(self.T))

    def clusters(self, column: str) -> NDArray[np.int64]:
        """The clusters in a column of the table, int64 [n], numbered from 0.

        Raises:
            UserError: no such column, it is the treatment or the outcome, or values are missing or all the same.
        """
        self._check_other(column, "cluster")
        return as_clusters(self.frame[column].to_numpy(), len(self.T))

    def _check_other(self, column: str, role: str) -> None:
        """Check that a column is in the table and complete, and neither the treatment nor the outcome."""
        roles = [self.treatment, *([] if self.outcome is None else [self.outcome])]
        check_columns(self.frame, self.source, [column, *roles], f"{role}, treatment and outcome")
        check_present(self.frame[column], column)


def read(
    source: str,
    *,
    treatment: str | None = None,
    outcome: str | None = None,
    covariates: Sequence[str] = (),
    data_dir: Path | None = None,
    components: int = 10,
    missing: Sequence[str] = (),
    header: Sequence[str] = (),
    rows: Sequence[str] = (),
    graph: str | None = None,
) -> Study:
    """Read a study from a .csv or .parquet file, or a named set with known columns (:mod:`contrastkit.causal.sets`).

    Args:
        treatment, outcome: columns; those of a named set by default. A table may lack an outcome.
        covariates: columns, and .npz files of ``contrastkit embed`` with a row of features for each row of the table.
        components: number of principal components of such features; 0 for the features themselves.
        missing, header: how a file is read, see :func:`contrastkit.tables.files.read_table`.
        rows: use only the rows for which these conditions hold (:func:`contrastkit.tables.files.select_rows`).
        graph: a causal graph that chooses the covariates, or checks them (:mod:`contrastkit.causal.adjustment`).

    Raises:
        UserError: no such file or column, no rows for which the conditions hold, an unreadable file, a column with two
            roles, or a covariate that is constant or determined by others.
    """
    truth = None
    if source in NAMED:
        if missing or header:
            raise UserError("--missing and --header apply to files: leave them out for a named study")
        frame, truth = load(source, data_dir)
        known = NAMED[source]
        treatment, outcome = treatment or known.treatment, outcome or known.outcome
        covariates = covariates or (known.covariates if graph is None else ())
        truth = truth if (treatment, outcome) == (known.treatment, known.outcome) and not rows else None
    else:
        frame = read_table(given_path(source), names=NAMED, missing=missing, header=header)
    treatment, outcome, covariates, said = adjustment(graph, frame.columns, treatment, outcome, covariates)
    roles = [treatment, *([outcome] if outcome is not None else [])]
    check_columns(frame, source, [*roles, *(name for name in covariates if not _is_file(name))], ROLES)
    n = len(frame)
    frame, _ = select_rows(frame, source, rows)
    for role in roles:
        check_present(frame[role], role)
    X, origins = _covariates(frame, covariates, n, components)
    return Study(
        X=X,
        T=as_arms(frame[treatment].to_numpy(), len(frame)),
        Y=None if outcome is None else frame[outcome].to_numpy(),
        treatment=treatment,
        outcome=outcome,
        covariates=origins,
        frame=frame,
        source=source,
        truth=truth,
        adjustment=said,
    )


def _is_file(covariate: str) -> bool:
    return covariate.endswith(".npz")


def _covariates(
    frame: Any, names: Sequence[str], n: int, components: int
) -> tuple[Covariates, Mapping[str, tuple[str, ...]]]:
    """The covariates of these rows of a table of n, columns before files, and the origins that each name has."""
    columns, files = ([name for name in names if _is_file(name) == is_file] for is_file in (False, True))
    parts = [Covariates.of(frame[columns])] if columns else []
    features = [embedded(given_path(name), n, components, frame.index.to_numpy()) for name in files]
    X = Covariates.joined([*parts, *features])
    check_independent(X)
    origins = {name: (name,) for name in columns}
    return X, origins | {name: part.origins for name, part in zip(files, features, strict=True)}


def embedded(path: Path, n: int, components: int, rows: Any = slice(None)) -> Covariates:
    """The features in an .npz file of n rows of ``contrastkit embed`` as covariates, of these rows or all: this number
    of principal components, or the features themselves (0).

    Raises:
        UserError: no such file, no features in it, not n rows, or fewer features than components.
    """
    features = read_embeddings(path).features
    if len(features) != n:
        raise UserError(f"{path} has features of {len(features)} units, but the table has {n} rows: use the same units")
    z = as_numbers(features[rows], [f"{path}: feature {j}" for j in range(features.shape[1])])
    if components > min(z.shape):
        raise UserError(f"{path} has {z.shape[1]} features of {len(z)} units: use fewer than {components} --components")
    if components:
        z = principal_components(z, components)
    names = tuple(f"{path.stem}.{j}" for j in range(z.shape[1]))
    return Covariates(z, names, names)
