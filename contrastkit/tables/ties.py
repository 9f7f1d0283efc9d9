"""Equal numbers: those that differ only by rounding, which depends on the processor, units and the order of rows."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrastkit.tables.checks import Floats

ROUNDING = 1e-13  # times the largest number of a column: smaller differences between its numbers are rounding


def rounding(values: Floats) -> float:
    """The difference up to which numbers [n], as they were given, are equal: 0.1 + 0.2 and 0.3."""
    return ROUNDING * float(np.abs(values).max(initial=0))


def levels(values: Floats, equal: float) -> NDArray[np.int64]:
    """The rank [n], from 0, of each of the values [n]; those no farther than ``equal`` from the next one share it."""
    order = np.argsort(values, kind="stable")
    rank = np.empty(len(values), np.int64)
    rank[order] = np.cumsum(np.diff(values[order], prepend=values[order[:1]]) > equal)
    return rank


def settled(values: Floats, equal: float) -> Floats:
    """The values [n], each replaced by the first in the data of those that share its level."""
    rank = levels(values, equal)
    return values[np.unique(rank, return_index=True)[1]][rank]


def cells(values: Floats, cuts: Any, equal: float) -> NDArray[np.int64]:
    """The number [n] of cuts, sorted, at or below each of the values [n]; what is above it by ``equal`` is at it."""
    return np.searchsorted(np.asarray(cuts) - equal, values, side="right").astype(np.int64)
