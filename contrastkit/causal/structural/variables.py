"""Columns as variables of a structural model."""

from dataclasses import dataclass

import numpy as np

from contrastkit.causal.columns import Columns
from contrastkit.errors import UserError, listed
from contrastkit.tables.checks import Floats
from contrastkit.tables.covariates import Covariates
from contrastkit.tables.words import is_number

MANY = 20  # levels


@dataclass(frozen=True, eq=False)
class Variable:
    """A variable and its values.

    Attributes:
        levels: of a discrete one, words, or a number that has two values; empty for a number.
        values: float64 [n]: a number, or the place of a level.
    """

    name: str
    levels: tuple[str, ...]
    values: Floats

    @property
    def discrete(self) -> bool:
        return bool(self.levels)

    def encoded(self, values: Floats) -> Floats:
        """Values [m] as features [m, k]: a number as it is, levels but for the first as indicators."""
        if not self.discrete:
            return values[:, None]
        return (values[:, None] == np.arange(1, len(self.levels))).astype(np.float64)

    def columns(self) -> list[str]:
        """What the features are called: the mean of each is what reports show."""
        return [f"{self.name}={level}" for level in self.levels[1:]] if self.discrete else [self.name]

    def parsed(self, text: str) -> float:
        """A value that the user gives.

        Raises:
            UserError: it is no number, or no level.
        """
        if not self.discrete:
            if not is_number(text):
                raise UserError(f"--do {self.name}={text}: give a number")
            return float(text)
        alike = [k for k, level in enumerate(self.levels) if level == text or _equal_numbers(level, text)]
        if not alike:
            raise UserError(f"--do {self.name}={text}: its values are {listed(self.levels, 8)}")
        return float(alike[0])


def _equal_numbers(a: str, b: str) -> bool:
    return is_number(a) and is_number(b) and float(a) == float(b)


def variable(columns: Columns, name: str) -> Variable:
    """A column as a variable.

    Raises:
        UserError: it has missing or infinite values, a single one, or too many levels.
    """
    X = Covariates.of(columns.frame[[name]])
    if X.shape[1] > 1:
        levels = tuple(label.removeprefix(f"{name}=") for label in X.names)
        if len(levels) > MANY:
            raise UserError(f"{name} has {len(levels):,} levels: join some, {MANY} at most")
        return Variable(name, levels, X.x.argmax(1).astype(np.float64))
    x = X.x[:, 0]
    found, place = np.unique(x, return_inverse=True)
    if len(found) < 2:
        raise UserError(f"{name} is the same in all rows: leave it out of the graph")
    if len(found) == 2:
        return Variable(name, tuple(f"{value:.6g}" for value in found), place.astype(np.float64))
    return Variable(name, (), x)
