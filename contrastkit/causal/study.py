"""A study: covariates X, a treatment T and an outcome Y, read from a table.

X and T are validated here; Y is left as it is in the table, for the estimators to validate.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from contrastkit.causal.adjustment import adjustment
from contrastkit.causal.form import Form, is_file
from contrastkit.causal.sets import NAMED, Named, load
from contrastkit.causal.treatment import check_no_words, having, of_two_arms
from contrastkit.directories import given_path
from contrastkit.errors import UserError, listed, suggest
from contrastkit.tables.checks import (
    Bools,
    Floats,
    as_arms,
    as_clusters,
    as_sample_weights,
    check_present,
)
from contrastkit.tables.covariates import Covariates
from contrastkit.tables.files import AS_FOUND, check_columns, check_names, equal_to, read_table, select_rows
from contrastkit.tables.identity import RowIds
from contrastkit.tables.text import Reading

AS_COLUMNS = Form()
ROLES = "treatment, outcome and covariates"  # of the columns of a table
TIMED = "treatment, event, time and covariates"


@dataclass(frozen=True, eq=False, kw_only=True)
class Units:
    """The units of a table: their covariates and outcomes, and the column of their treatment."""

    X: Covariates  # [n, p]
    Y: NDArray[Any] | None  # [n], as in the table, or which are ``outcome_value``
    treatment: str  # name of the column, like outcome
    outcome: str | None
    outcome_value: str | None = None  # what counts as 1
    time: str | None = None  # name of the column of the times until an outcome that is an event
    covariates: Mapping[str, tuple[str, ...]]  # column or .npz file -> its origins in X
    frame: Any  # the table, with the columns that have no role
    source: str  # name of the table
    truth: float | None = None  # the effect of 1 against 0, if an experiment has measured it
    notices: tuple[str, ...] = ()  # what was chosen, filled or left out, one line each

    @property
    def outcome_label(self) -> str:
        """The outcome as readers know it: ``income``, or ``cured=yes``."""
        return str(self.outcome) if self.outcome_value is None else f"{self.outcome}={self.outcome_value}"

    def row_ids(self) -> RowIds:
        """Identifiers of the n rows, for files of weights and pairs."""
        return RowIds.of(self.frame)

    def outcomes(self) -> NDArray[Any]:
        """The outcomes Y, [n].

        Raises:
            UserError: the units were read without an outcome, or it is a few words.
        """
        if self.Y is None:
            raise UserError("no outcome: name the column with --outcome")
        check_no_words(self.Y, "the outcome", "1 with --outcome-value")
        return self.Y

    def sample_weights(self, column: str) -> Floats:
        """The weights of the units in a survey, in a column of the table, float64 [n] with mean 1.

        Raises:
            UserError: no such column, it is the treatment or the outcome, or values are missing or not positive.
        """
        self._check_other(column, "sample weight")
        return as_sample_weights(self.frame[column].to_numpy(), len(self.X))

    def clusters(self, column: str) -> NDArray[np.int64]:
        """The clusters in a column of the table, int64 [n], numbered from 0.

        Raises:
            UserError: no such column, it is the treatment or the outcome, or values are missing or all the same.
        """
        self._check_other(column, "cluster")
        return as_clusters(self.frame[column].to_numpy(), len(self.X))

    def check_covariate(self, option: str, name: str, known: Collection[str], cure: str = "") -> None:
        """Check that the column that an option names is one of the ``known`` covariates.

        Args:
            cure: appended to the message if the table has the column.

        Raises:
            UserError: it is not, or the table has no such column.
        """
        if name in known:
            return
        if name in self.frame:
            raise UserError(f"{option} {name}: not one of the covariates{cure}")
        among = listed(list(dict.fromkeys(known)), 12)
        raise UserError(
            f"{option}: {self.source} has no column '{name}'{suggest(name, known)} (the covariates: {among})"
        )

    def _check_other(self, column: str, role: str) -> None:
        """Check that a column is in the table and complete, and neither the treatment nor the outcome."""
        roles = [self.treatment, *([] if self.outcome is None else [self.outcome])]
        check_columns(self.frame, self.source, [column, *roles], f"{role}, treatment and outcome")
        check_present(self.frame[column], column)


@dataclass(frozen=True, eq=False, kw_only=True)
class Study(Units):
    """Units of two arms."""

    T: Bools  # [n], which were treated
    arms: tuple[str, str] | None = None  # the values that say so, treated and untreated; None for 1 and 0

    @property
    def treatment_label(self) -> str:
        """Its column, and the values that are compared, if they have names."""
        return self.treatment if self.arms is None else f"{self.treatment} ({' against '.join(self.arms)})"


class Columns(TypedDict, total=False):
    """The arguments of :func:`read_units` that say how the table is read and what its columns are."""

    treatment: str | None
    outcome: str | None
    outcome_value: str | None
    covariates: Sequence[str]
    form: Form
    graph: str | None
    time: str | None
    data_dir: Path | None
    reading: Reading
    rows: Sequence[str]


def read(source: str, *, treated: str | None = None, untreated: str | None = None, **how: Unpack[Columns]) -> Study:
    """Read a study of two arms, by :func:`read_units`.

    Args:
        treated: the value of the treatment that counts as treated; None for a column of 0 and 1.
        untreated: the value to compare with; rows with neither are left out. None if there is no third value.

    Raises:
        UserError: as there, or the treatment does not tell the arms
            (:func:`contrastkit.causal.treatment.of_two_arms`), or an arm has fewer than two units.
    """
    units = read_units(source, chosen=lambda column: of_two_arms(column, treated, untreated), **how)
    column = units.frame[units.treatment]
    if treated is None:
        return Study(**vars(units), T=as_arms(column.to_numpy(), len(column)))
    t = equal_to(column, treated).to_numpy()
    others = sorted({str(value) for value in column[~t]})
    arms = (treated, untreated or ", ".join(others))
    return Study(**vars(units) | {"truth": None}, T=as_arms(t, len(t)), arms=arms)


def read_units(
    source: str,
    *,
    treatment: str | None = None,
    outcome: str | None = None,
    outcome_value: str | None = None,
    covariates: Sequence[str] = (),
    form: Form = AS_COLUMNS,
    graph: str | None = None,
    time: str | None = None,
    data_dir: Path | None = None,
    reading: Reading = AS_FOUND,
    rows: Sequence[str] = (),
    chosen: Callable[[Any], Any] | None = None,
) -> Units:
    """Read units from a file, or a named set with known columns (:mod:`contrastkit.causal.sets`).

    Args:
        treatment, outcome: columns; those of a named set by default. A table may lack an outcome.
        outcome_value: the outcome is whether the column has this value.
        covariates: columns, and .npz files of ``contrastkit embed`` with a row of features for each row of the table.
        form: what becomes of them.
        graph: a causal graph that chooses the covariates, or checks them (:mod:`contrastkit.causal.adjustment`).
        time: where the outcome is an event, the column of the times until it or until follow-up ended; that of a named
            set by default.
        reading: how a file is read (:func:`contrastkit.tables.files.read_table`).
        rows: use only the rows for which these conditions hold (:func:`contrastkit.tables.files.select_rows`).
        chosen: of these, use those that this function chooses, bool [n], by the column of the treatment.

    Raises:
        UserError: no such file, column or value, no rows for which the conditions hold, an unreadable file, a column
            with two roles, or a covariate that is constant or determined by others.
    """
    check_names("rows", rows)
    names: Sequence[str] = form.names(covariates)
    frame, truth, known = open_table(source, reading, data_dir)
    if known is not None:
        treatment, outcome = treatment or known.treatment, outcome or known.outcome
        names = names or (form.names(known.covariates) if graph is None else [])
        whole = (treatment, outcome, outcome_value) == (known.treatment, known.outcome, None) and not rows
        truth = truth if whole else None
        time = time or (known.time if outcome == known.outcome else None)
    treatment, outcome, names, said = adjustment(graph, frame.columns, treatment, outcome, names)
    roles = [treatment, *([outcome] if outcome is not None else []), *([time] if time is not None else [])]
    used = [*roles, *(name for name in names if not is_file(name))]
    check_columns(frame, source, used, ROLES if time is None else TIMED)
    n = len(frame)
    frame, _ = select_rows(frame, source, rows)
    frame, dropped = form.complete(frame, roles, names)
    units = frame if chosen is None else frame[chosen(frame[treatment])]
    others = len(frame) - len(units)
    left_out = [f"{others:,} rows with other values of {treatment} are left out"] if others else []
    X, origins, formed = form.of(units, names, n)
    return Units(
        X=X, Y=outcomes_of(units, outcome, outcome_value), treatment=treatment, outcome=outcome,
        outcome_value=outcome_value, time=time, covariates=origins, frame=units, source=source, truth=truth,
        notices=(*([said] if said else []), *dropped, *left_out, *formed),
    )  # fmt: skip


def open_table(source: str, reading: Reading, data_dir: Path | None) -> tuple[Any, float | None, Named | None]:
    """The frame of a file or of a named set, with the true effect and the known columns of the latter."""
    if source not in NAMED:
        return read_table(given_path(source), reading, names=NAMED), None, None
    if reading != AS_FOUND:
        raise UserError("--missing, --header and the like apply to files: leave them out for a named study")
    return *load(source, data_dir), NAMED[source]


def outcomes_of(frame: Any, outcome: str | None, value: str | None) -> NDArray[Any] | None:
    """The outcomes of these rows, or which of them have this value; None without a column."""
    if outcome is None:
        if value is not None:
            raise UserError(f"--outcome-value {value}: name the column with --outcome")
        return None
    values: NDArray[Any] = (
        frame[outcome].to_numpy() if value is None else having(frame[outcome], value, "--outcome-value")
    )
    return values
