"""Covariates: the columns that estimators, weightings and predictors read, converted and checked once."""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from contrastkit.errors import UserError
from contrastkit.tables.checks import LARGEST, SMALLEST, Floats, as_numbers


@dataclass(frozen=True, eq=False)
class Covariates:
    """Columns of finite numbers, and what they are called.

    Attributes:
        x: float64 [n, p]; never written to.
        names: of the p columns.
        origins: the column of the table that each comes from. The columns of a factor, ``name=value`` of 0 and 1 for
            each of its values, share one; any other column is its own origin.
    """

    x: Floats
    names: tuple[str, ...]
    origins: tuple[str, ...]

    @classmethod
    def of(cls, X: Any) -> Self:
        """Covariates of an array [n, p], whose columns are called x0, x1, ..., or of a pandas frame; ``X`` itself where
        it is one already. A frame's columns of strings or categories become factors, with all their values: distances
        need every one.

        Raises:
            UserError: no rows or columns, missing or infinite values, strings in an array, two columns of one name.
        """
        if isinstance(X, cls):
            return X
        if hasattr(X, "columns"):
            return cls._of_frame(X)
        x = np.asarray(X)
        x = x[:, None] if x.ndim == 1 else x
        if x.ndim != 2 or 0 in x.shape:
            raise UserError(f"covariates are rows and columns, not an array of shape {x.shape}")
        names = tuple(f"x{j}" for j in range(x.shape[1]))
        return cls(as_numbers(x, names), names, names)

    @classmethod
    def _of_frame(cls, frame: Any) -> Self:
        labels: list[Hashable] = list(frame.columns)
        if not labels or not len(frame):
            raise UserError(f"covariates are rows and columns, not a frame of shape {frame.shape}")
        _check_distinct([str(label) for label in labels])
        return cls.joined([cls._of_column(frame[label]) for label in labels])

    @classmethod
    def _of_column(cls, column: Any) -> Self:
        """One pandas column: itself where it is of numbers, a factor's columns where it is of words."""
        name = str(column.name)
        if missing := int(column.isna().sum()):
            raise UserError(f"{name}: {missing} of {len(column)} values are missing: drop or fill them")
        if column.dtype.kind in "Mm":
            raise UserError(f"{name} holds dates: make numbers of them, days since the first for one")
        if column.dtype.kind not in "biuf":
            text = column.astype(str).to_numpy()
            values = sorted(set(text))
            words = values if column.dtype == "category" else [value for value in values if not _is_number(value)]
            if 0 < len(words) < len(values):
                raise UserError(f"{name}: '{words[0]}' is no number, and others are: mend it, or make words of all")
            if words:
                dummies = [(text == value)[:, None].astype(np.float64) for value in values]
                levels = tuple(f"{name}={value}" for value in values)
                return cls(np.concatenate(dummies, axis=1), levels, (name,) * len(values))
        return cls(as_numbers(column.to_numpy()[:, None], (name,)), (name,), (name,))

    @classmethod
    def joined(cls, parts: Sequence["Covariates"]) -> Self:
        """Parts of as many rows side by side.

        Raises:
            UserError: two of them have a column of one name.
        """
        _check_distinct([name for part in parts for name in dict.fromkeys(part.origins)])
        names = tuple(name for part in parts for name in part.names)
        origins = tuple(name for part in parts for name in part.origins)
        return cls(np.concatenate([part.x for part in parts], axis=1), names, origins)

    def __len__(self) -> int:
        return len(self.x)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.x.shape

    def select(self, columns: Sequence[int]) -> "Covariates":
        """Those columns alone."""
        names, origins = (tuple(of[j] for j in columns) for of in (self.names, self.origins))
        return Covariates(self.x[:, columns], names, origins)

    def take(self, rows: NDArray[Any]) -> "Covariates":
        """Those rows alone."""
        return Covariates(self.x[rows], self.names, self.origins)

    def with_column(self, values: Floats, name: str) -> "Covariates":
        """One column more, ``values`` [n]."""
        return Covariates(np.column_stack([self.x, values]), (*self.names, name), (*self.origins, name))

    def without_reference_levels(self) -> list[int]:
        """The columns but the first of each factor, whose dummies sum to one."""
        sizes = Counter(self.origins)
        first = {name: j for j, name in reversed(list(enumerate(self.origins)))}
        return [j for j, name in enumerate(self.origins) if sizes[name] == 1 or first[name] != j]


def scales(x: Floats) -> Floats:
    """The standard deviation [p] of each column of x [n, p], 1 for a constant one: what to divide by."""
    sd = x.std(0)
    return np.where(sd > 1e-13 * np.abs(x).max(0), sd, 1.0)


def check_independent(X: Covariates) -> None:
    """Refuse covariates of which one says nothing, or nothing new. The dummies of a factor may sum to one.

    Raises:
        UserError: a column is constant, the same as another, or a weighted sum of others.
    """
    x = X.x
    for j, name in enumerate(X.names):
        if (x[:, j] == x[0, j]).all():
            raise UserError(f"{X.origins[j]} is the same in all rows: leave it out")
        if not SMALLEST < np.abs(x[:, j]).max() < LARGEST:
            raise UserError(f"{name} is beyond 1e150 or below 1e-150: choose other units")
    columns = X.without_reference_levels()
    if len(x) <= len(columns):
        return  # with so few rows, any column follows from the others
    z = (x[:, columns] - x[:, columns].mean(0)) / scales(x[:, columns])
    R: Any = np.linalg.qr(z, mode="r")
    for j, column in enumerate(columns):
        if abs(R[j, j]) < 1e-7 * np.linalg.norm(R[:, j]):
            weights = np.linalg.solve(R[:j, :j], R[:j, j])
            others = [X.names[k] for k, weight in zip(columns, weights, strict=False) if abs(weight) > 1e-5]
            how = "says the same as" if len(others) == 1 else "is a weighted sum of"
            raise UserError(f"{X.names[column]} {how} {', '.join(others)}: leave one out")


def _check_distinct(names: Sequence[str]) -> None:
    if twins := [name for name, count in Counter(names).items() if count > 1]:
        raise UserError(f"two columns are called {twins[0]}: rename one")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
