"""A table whose columns have other roles than those of a :class:`contrastkit.causal.study.Study`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from contrastkit.causal.form import Form, is_file, levels
from contrastkit.causal.study import open_table, outcomes_of
from contrastkit.causal.treatment import check_no_words, of_two_arms
from contrastkit.errors import UserError, suggest
from contrastkit.tables.checks import Floats, as_clusters, as_column, check_present
from contrastkit.tables.covariates import Covariates, check_independent
from contrastkit.tables.files import AS_FOUND, check_columns, check_names, equal_to, select_rows
from contrastkit.tables.text import Reading


@dataclass(frozen=True, eq=False)
class Columns:
    """A pandas frame [n, columns] and the name of its file, of whose ``whole`` rows these are some, or all: None."""

    frame: Any
    source: str
    whole: int | None = None

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def names(self) -> list[str]:
        return [str(name) for name in self.frame.columns]

    def used(
        self,
        treatment: str | None,
        outcome: str | None,
        others: Sequence[str],
        what: str,
        covariates: Sequence[str],
        cluster: str | None,
        *,
        form: Form,
        two_arms: bool = False,
        treated: str | None = None,
        untreated: str | None = None,
        outcome_value: str | None = None,
    ) -> "Used":
        """The rows that are used, and what they are used as; see :func:`contrastkit.causal.study.read`.

        Args:
            others: columns of another role, and ``what`` they are.
            covariates: columns and files, as :meth:`Form.names` has them.
            two_arms: whether the treatment must be of two values, as it is if one is named; otherwise of numbers.

        Raises:
            UserError: a column is not named, missing, or used twice; values are missing; treatment or outcome are not
                numbers that vary; or the columns cannot be used.
        """
        treatment, outcome = _named(treatment, outcome)
        if not others:
            raise UserError(f"no {what}: name their columns with --{what}, or give a --graph")
        if not covariates and (form.moments > 1 or form.interactions):
            raise UserError("--moments and --interactions are of covariates: name some with --covariates")
        given = [name for name in covariates if not is_file(name)]
        roles = [treatment, outcome, *others, *given, *([] if cluster is None else [cluster])]
        check_columns(self.frame, self.source, roles, f"treatment, outcome, {what}, covariates and cluster")
        frame, notices = form.complete(self.frame, [treatment, outcome, *others], covariates)
        if two_arms or treated is not None or untreated is not None:
            rows = of_two_arms(
                frame[treatment], treated, untreated, otherwise="recode it, for example with a threshold"
            )
            if left_out := int((~rows).sum()):
                notices.append(f"{left_out:,} rows with other values of {treatment} are left out")
            frame = frame[rows]
        d = frame[treatment] if treated is None else equal_to(frame[treatment], treated)
        y, W = outcomes_of(frame, outcome, outcome_value), None
        if covariates:
            W, _, formed = form.of(frame, covariates, len(self) if self.whole is None else self.whole)
            notices += formed
        return Used(
            treatment=_labelled(treatment, treated), d=_varying(d, treatment, "treated with --treated"),
            outcome=_labelled(outcome, outcome_value), y=_varying(y, outcome, "1 with --outcome-value"),
            others=_independent(frame[[*others]]), W=W, notices=tuple(notices),
            groups=None if cluster is None else _clusters(frame[cluster]),
        )  # fmt: skip

    def variables(self, names: Sequence[str], form: Form) -> tuple["Columns", tuple[str, ...]]:
        """The rows that have a value in each of these columns, those that are factors as such, and what was left out.

        Raises:
            UserError: a factor is none of the columns, or values are missing whose rows are not to be dropped.
        """
        if unknown := [name for name in form.categorical if name not in names]:
            raise UserError(f"--categorical {unknown[0]} is no variable of the graph{suggest(unknown[0], names)}")
        frame, notices = form.complete(self.frame, names)
        factors = {name: levels(frame[name]).astype("category") for name in form.categorical}
        return Columns(frame.assign(**factors), self.source), tuple(notices)


class Values(TypedDict, total=False):
    """The arguments of :meth:`Columns.used` that name values."""

    treated: str | None
    untreated: str | None
    outcome_value: str | None


@dataclass(frozen=True, eq=False, kw_only=True)
class Used:
    """The n rows that are used.

    Attributes:
        treatment, outcome: as readers know them: ``drug``, or ``drug=yes``.
        d, y: treatment and outcome, float64 [n].
        others: the columns of another role, such as instruments. W: the covariates, if any.
        groups: clusters of the rows, int64 [n], if any.
        notices: what was filled or left out, one line each.
    """

    treatment: str
    outcome: str
    d: Floats
    y: Floats
    others: Covariates
    W: Covariates | None
    groups: NDArray[np.int64] | None
    notices: tuple[str, ...]


def _labelled(name: str, value: str | None) -> str:
    return name if value is None else f"{name}={value}"


def _named(treatment: str | None, outcome: str | None) -> tuple[str, str]:
    if treatment is None or outcome is None:
        option = "outcome" if treatment is not None else "treatment"
        raise UserError(f"no {option}: name the column with --{option}")
    return treatment, outcome


def _varying(values: Any, name: str, counts: str) -> Floats:
    """Finite numbers that vary, float64 [n]; ``counts`` as of :func:`check_no_words`.

    Raises:
        UserError: they are not.
    """
    check_no_words(np.asarray(values), name, counts)
    numbers = as_column(values, name)
    if (numbers == numbers[0]).all():
        raise UserError(f"{name} is the same in all rows: choose a column that varies")
    return numbers


def _independent(frame: Any) -> Covariates:
    X = Covariates.of(frame)
    check_independent(X)
    return X


def _clusters(column: Any) -> NDArray[np.int64]:
    check_present(column, str(column.name))
    return as_clusters(column.to_numpy(), len(column))


def open_columns(
    source: str, *, data_dir: Path | None = None, reading: Reading = AS_FOUND, rows: Sequence[str] = ()
) -> Columns:
    """Read a file or the table of a named set; see :func:`contrastkit.causal.study.read_units` for the arguments.

    Raises:
        UserError: no such file, an unreadable file, no rows, or none for which the conditions hold.
    """
    check_names("rows", rows)
    whole, _, _ = open_table(source, reading, data_dir)
    frame, _ = select_rows(whole, source, rows)
    return Columns(frame, source, len(whole))
