"""Covariates: the columns that estimators, weightings and predictors read, converted and validated once."""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from contrastkit.errors import UserError
from contrastkit.tables.checks import LARGEST, SMALLEST, Floats, as_numbers, check_present
from contrastkit.tables.words import among_numbers, is_number, no_factor


@dataclass(frozen=True, eq=False)
class Covariates:
    """Columns of finite numbers and their names.

    Attributes:
        x: float64 [n, p]; never written to.
        names: the names of the p columns.
        origins: the table column that each column comes from. A factor becomes one indicator ``name=value`` for each
            of its values, all with the same origin; any other column is its own origin.
    """

    x: Floats
    names: tuple[str, ...]
    origins: tuple[str, ...]

    @classmethod
    def of(cls, X: Any) -> Self:
        """Covariates from an array [n, p], with columns named x0, x1, ..., or from a pandas frame; covariates are
        returned as they are. Columns of strings or categories become factors with indicators for all their values, as
        distances require.

        Raises:
            UserError: no rows or columns, missing or infinite values, strings in an array, duplicate column names.
        """
        if isinstance(X, cls):
            return X
        if hasattr(X, "columns"):
            return cls._of_frame(X)
        x = np.asarray(X)
        x = x[:, None] if x.ndim == 1 else x
        if x.ndim != 2 or 0 in x.shape:
            raise UserError(f"covariates must be a table of rows and columns, not an array of shape {x.shape}")
        names = tuple(f"x{j}" for j in range(x.shape[1]))
        return cls(as_numbers(x, names), names, names)

    @classmethod
    def _of_frame(cls, frame: Any) -> Self:
        labels: list[Hashable] = list(frame.columns)
        if not labels or not len(frame):
            raise UserError(f"covariates must be a table of rows and columns, not a frame of shape {frame.shape}")
        _check_distinct([str(label) for label in labels])
        return cls.joined([cls._of_column(frame[label]) for label in labels])

    @classmethod
    def _of_column(cls, column: Any) -> Self:
        """One pandas column: as it is if numeric, else the indicators of a factor."""
        name = str(column.name)
        check_present(column, name)
        if column.dtype.kind in "Mm":
            raise UserError(f"{name} contains dates: convert them to numbers, such as days since the first")
        if column.dtype.kind not in "biuf":
            text = column.astype(str).to_numpy()
            values = sorted(set(text))
            words = values if column.dtype == "category" else [value for value in values if not is_number(value)]
            if 0 < len(words) < len(values):
                raise UserError(among_numbers(name, words[0]))
            if words:
                if column.dtype != "category" and (error := no_factor(name, values, len(text))):
                    raise UserError(error)
                dummies = [(text == value)[:, None].astype(np.float64) for value in values]
                levels = tuple(f"{name}={value}" for value in values)
                return cls(np.concatenate(dummies, axis=1), levels, (name,) * len(values))
        return cls(as_numbers(column.to_numpy()[:, None], (name,)), (name,), (name,))

    @classmethod
    def joined(cls, parts: Sequence["Covariates"]) -> Self:
        """Parts with the same rows, side by side.

        Raises:
            UserError: two parts have a column of the same name.
        """
        _check_distinct([name for part in parts for name in dict.fromkeys(part.origins)])
        names = tuple(name for part in parts for name in part.names)
        origins = tuple(name for part in parts for name in part.origins)
        return cls(np.concatenate([part.x for part in parts], axis=1), names, origins)

    def __len__(self) -> int:
        return len(self.x)

    @property
    def shape(self) -> tuple[int, int]:
        """The numbers of rows and columns."""
        return self.x.shape

    def select(self, columns: Sequence[int]) -> "Covariates":
        """Only these columns."""
        names, origins = (tuple(labels[j] for j in columns) for labels in (self.names, self.origins))
        return Covariates(self.x[:, columns], names, origins)

    def take(self, rows: NDArray[Any]) -> "Covariates":
        """Only these rows."""
        return Covariates(self.x[rows], self.names, self.origins)

    def with_column(self, values: Floats, name: str) -> "Covariates":
        """With ``values`` [n] as an additional column."""
        return Covariates(np.column_stack([self.x, values]), (*self.names, name), (*self.origins, name))

    def without_reference_levels(self) -> list[int]:
        """All columns but the first of each factor, whose indicators sum to one."""
        sizes = Counter(self.origins)
        first = {name: j for j, name in reversed(list(enumerate(self.origins)))}
        return [j for j, name in enumerate(self.origins) if sizes[name] == 1 or first[name] != j]


def scales(x: Floats) -> Floats:
    """The standard deviation [p] of each column of x [n, p], or 1 for a constant column."""
    sd = x.std(0)
    return np.where(sd > 1e-13 * np.abs(x).max(0), sd, 1.0)


def standardised(x: Floats) -> Floats:
    """The columns of x [n, p] with mean 0 and standard deviation 1; constant columns become 0."""
    return (x - x.mean(0)) / scales(x)


def design(x: Floats) -> Floats:
    """The design matrix [n, 1 + p] of a regression: ones, and the standardised columns of x [n, p]."""
    return np.column_stack([np.ones(len(x)), standardised(x)])


def orthogonal(A: Floats) -> Floats:
    """Columns with the span of those of A [n, k], orthogonal and of mean square 1: [n, rank]."""
    values, vectors = np.linalg.eigh(A.T @ A / len(A))
    kept = values > 1e-10 * values[-1]
    columns: Floats = A @ (vectors[:, kept] / np.sqrt(values[kept]))
    return columns


def check_independent(X: Covariates) -> None:
    """Check that no covariate is constant or redundant. The indicators of a factor may sum to one.

    Raises:
        UserError: a column is constant, equivalent to another, or a linear combination of others.
    """
    x = X.x
    for j, name in enumerate(X.names):
        if (x[:, j] == x[0, j]).all():
            raise UserError(f"{X.origins[j]} is the same in all rows: leave it out")
        if not SMALLEST < np.abs(x[:, j]).max() < LARGEST:
            raise UserError(f"{name} has values beyond 1e150 or none above 1e-150: change its units")
    columns = X.without_reference_levels()
    if len(x) <= len(columns):
        return  # with so few rows, any column is determined by the others
    R: Any = np.linalg.qr(standardised(x[:, columns]), mode="r")
    for j, column in enumerate(columns):
        if abs(R[j, j]) < 1e-7 * np.linalg.norm(R[:, j]):
            weights = np.linalg.solve(R[:j, :j], R[:j, j])
            others = [X.names[k] for k, weight in zip(columns, weights, strict=False) if abs(weight) > 1e-5]
            relation = "is equivalent to" if len(others) == 1 else "is a linear combination of"
            raise UserError(f"{X.names[column]} {relation} {', '.join(others)}: leave one out")


def _check_distinct(names: Sequence[str]) -> None:
    if duplicates := [name for name, count in Counter(names).items() if count > 1]:
        raise UserError(f"two columns are named {duplicates[0]}: rename one of them")
