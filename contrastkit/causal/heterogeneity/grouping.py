"""Groups of units by a covariate."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from contrastkit.causal.folds import Rows
from contrastkit.errors import UserError, listed
from contrastkit.tables.checks import Bools, Floats
from contrastkit.tables.covariates import Covariates
from contrastkit.tables.incomplete import MISSING
from contrastkit.tables.ties import cells, levels, rounding, settled

FEW = 6  # different values of a number, up to which each is a group
MANY = 20  # groups, above which a table of them tells nothing


@dataclass(frozen=True, eq=False)
class Grouping:
    """The groups of n units by a column.

    Attributes:
        names: of the k groups. of: int64 [n], the group of each unit.
    """

    column: str
    names: tuple[str, ...]
    of: Rows

    def indicators(self) -> Floats:
        """Float64 [n, k]."""
        return (self.of[:, None] == np.arange(len(self.names))).astype(np.float64)


def grouped(X: Covariates, column: str, t: Bools, *, bins: int, gaps: Bools | None = None) -> Grouping:
    """The groups of the rows of X [n, p] by one of the table's columns: the levels of a factor, the values of a number
    that has few, else bins of about equally many rows, which include their lower end. Rows with ``gaps`` [n], whose
    number was missing and is filled, are a group of their own.

    Raises:
        UserError: there is only one group, more than twenty, or one without two units of each arm t [n].
    """
    columns = [j for j, origin in enumerate(X.origins) if origin == column]
    if len(columns) > 1:
        names = [X.names[j].removeprefix(f"{column}=") for j in columns]
        of = X.x[:, columns].argmax(1).astype(np.int64)
    else:
        names, of = _of_number_with_gaps(X.x[:, columns[0]], bins, np.zeros(len(X), bool) if gaps is None else gaps)
    if len(names) < 2:
        raise UserError(f"--by {column}: its bins leave one group: use more --bins")
    if len(names) > MANY:
        raise UserError(f"--by {column}: it has {len(names):,} levels: join some, {MANY} at most")
    lacking = [name for k, name in enumerate(names) if min((t & (of == k)).sum(), (~t & (of == k)).sum()) < 2]
    if lacking:
        raise UserError(
            f"--by {column}: {listed(lacking, 4)} has fewer than two treated or two untreated units, whose effects "
            "would be guessed: join it with another, leave it out with --rows, or use fewer --bins"
        )
    return Grouping(column, tuple(names), of)


def _of_number_with_gaps(x: Floats, bins: int, gaps: Bools) -> tuple[list[str], Rows]:
    names, seen = _of_number(x[~gaps], bins)
    if not gaps.any():
        return names, seen
    of = np.full(len(x), len(names))
    of[~gaps] = seen
    return [*names, MISSING], of


def _of_number(x: Floats, bins: int) -> tuple[list[str], Rows]:
    equal = rounding(x)
    rank = levels(x, equal)
    if rank.max() < FEW:
        first = np.unique(rank, return_index=True)[1]
        return [f"{value:.6g}" for value in x[first]], rank
    alike = np.sort(settled(x, equal))
    cuts = np.unique(alike[[len(x) * k // bins for k in range(1, bins)]])
    cuts = cuts[cuts > alike[0]]
    before = alike[np.searchsorted(alike, cuts) - 1]
    cuts = np.array([_shortest(low, high) for low, high in zip(before, cuts, strict=True)])
    ends = ["", *(f"{cut:.15g}" for cut in cuts), ""]
    names = [
        f"{low} to {high}" if low and high else f"{low} or more" if low else f"below {high}"
        for low, high in pairwise(ends)
    ]
    return names, cells(x, cuts, equal)


def _shortest(low: float, high: float) -> float:
    """The decimal with the fewest digits that is above ``low`` and at most ``high``, the largest of them."""
    for digits in range(-15, 16):
        value = math.floor(high * 10.0**digits) / 10.0**digits
        if low < value <= high:
            return value
    return high
