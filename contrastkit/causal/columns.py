"""A table whose columns have other roles than those of a :class:`contrastkit.causal.study.Study`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrastkit.directories import given_path
from contrastkit.errors import UserError
from contrastkit.tables.checks import Floats, as_clusters, as_numbers, check_present
from contrastkit.tables.covariates import Covariates, check_independent
from contrastkit.tables.files import AS_FOUND, check_columns, read_table, select_rows
from contrastkit.tables.text import Reading


@dataclass(frozen=True, eq=False)
class Columns:
    """A pandas frame [n, columns] and the name of its file."""

    frame: Any
    source: str

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def names(self) -> list[str]:
        return [str(name) for name in self.frame.columns]

    def require(self, names: Sequence[str], roles: str) -> None:
        """Check that these columns, used as ``roles``, are there, each once.

        Raises:
            UserError: one is missing, or used twice.
        """
        check_columns(self.frame, self.source, names, roles)

    def require_roles(
        self,
        treatment: str | None,
        outcome: str | None,
        others: Sequence[str],
        what: str,
        *more: str,
        roles: str,
    ) -> tuple[str, str]:
        """Treatment and outcome, once it is clear that they, ``others`` (``what`` they are) and ``more`` are columns.

        Raises:
            UserError: one is not named, missing, or used twice.
        """
        if treatment is None or outcome is None:
            option = "outcome" if treatment is not None else "treatment"
            raise UserError(f"no {option}: name the column with --{option}")
        if not others:
            raise UserError(f"no {what}: name their columns with --{what}, or give a --graph")
        self.require([treatment, outcome, *others, *more], roles)
        return treatment, outcome

    def numbers(self, name: str) -> Floats:
        """A column of finite numbers that vary, float64 [n].

        Raises:
            UserError: it is not.
        """
        check_present(self.frame[name], name)
        values = as_numbers(self.frame[name].to_numpy()[:, None], (name,))[:, 0]
        if (values == values[0]).all():
            raise UserError(f"{name} is the same in all rows: choose a column that varies")
        return values

    def covariates(self, names: Sequence[str]) -> Covariates | None:
        """Columns as covariates, none of which others determine; None for none.

        Raises:
            UserError: see :class:`Covariates` and :func:`check_independent`.
        """
        if not names:
            return None
        X = Covariates.of(self.frame[list(names)])
        check_independent(X)
        return X

    def clusters(self, name: str) -> NDArray[np.int64]:
        """The clusters in a column, int64 [n], numbered from 0.

        Raises:
            UserError: values are missing, or all the same.
        """
        check_present(self.frame[name], name)
        return as_clusters(self.frame[name].to_numpy(), len(self))


def open_columns(source: str, *, reading: Reading = AS_FOUND, rows: Sequence[str] = ()) -> Columns:
    """Read a file; see :func:`contrastkit.causal.study.read_units` for the arguments.

    Raises:
        UserError: no such file, an unreadable file, no rows, or none for which the conditions hold.
    """
    frame, _ = select_rows(read_table(given_path(source), reading), source, rows)
    if not len(frame):
        raise UserError(f"{source} has no rows")
    return Columns(frame, source)
