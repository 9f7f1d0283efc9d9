"""Who may be a partner of whom: agreement on columns, and calipers of covariates."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrastkit.tables.checks import Bools, Floats
from contrastkit.tables.ties import levels, rounding


def agreeing(x: Floats, exact: Sequence[int]) -> list[NDArray[Any]]:
    """The rows of x [n, p] in groups that agree on these columns, up to rounding; one group for no columns."""
    if not exact:
        return [np.arange(len(x))]
    values = np.column_stack([levels(x[:, j], rounding(x[:, j])) for j in exact])
    group = np.unique(values, axis=0, return_inverse=True)[1].reshape(-1)
    order = np.argsort(group, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(group[order])) + 1)


def no_partner(exact: Sequence[int], caliper: float | None, calipers: "Calipers") -> str:
    """Why no unit has a partner, and what to do."""
    agreement = " that agrees on the columns of exact" if exact else ""
    within = "" if caliper is None else f" within the caliper {caliper:g}"
    within, widen = (" within the calipers", "widen them") if calipers else (within, "widen it")
    advice = " or ".join(["match on fewer of them"] * bool(agreement) + [widen] * bool(within))
    return f"no unit has a partner{agreement}{within}: {advice}"


class Calipers:
    """Differences of covariates beyond which two units are no partners.

    Args:
        x: covariates [n, p].
        widths: column of x -> the largest difference, in its units; one that exceeds it by rounding is within.
    """

    def __init__(self, x: Floats, widths: Mapping[int, float]) -> None:
        self._x = x[:, list(widths)]
        self._widths = np.array([width + rounding(x[:, j]) for j, width in widths.items()])

    def __bool__(self) -> bool:
        return len(self._widths) > 0

    def inside(self, a: NDArray[Any], b: NDArray[Any]) -> Bools:
        """Whether each unit of rows a [m] and each of rows b [k] are within all calipers, bool [m, k]."""
        within = np.ones((len(a), len(b)), bool)
        for column, width in zip(self._x.T, self._widths, strict=True):
            within &= np.abs(np.subtract.outer(column[a], column[b])) <= width
        return within

    def window(self, b: NDArray[Any]) -> "Window":
        """The units of rows b, to be searched."""
        return Window(self._x, self._widths, b)


class Window:
    """Finds the units of rows b within the calipers of a unit: those in a window of the narrowest caliper, which are
    adjacent once b is sorted by its column, masked by the other calipers. Time and memory for a unit are those of its
    window."""

    def __init__(self, x: Floats, widths: Floats, b: NDArray[Any]) -> None:
        self._x, self._widths = x, widths
        sizes = []
        for column, width in zip(x[b].T, widths, strict=True):
            line = np.sort(column)
            low, high = np.searchsorted(line, column - width), np.searchsorted(line, column + width, side="right")
            sizes.append(int((high - low).sum()))
        self._narrowest = int(np.argmin(sizes))
        self._order = np.argsort(x[b, self._narrowest], kind="stable")
        self._sorted = x[b[self._order]]
        self._line = self._sorted[:, self._narrowest].copy()

    def around(self, unit: int) -> NDArray[Any]:
        """The places in b of the units within the calipers of this row, ascending."""
        own, j = self._x[unit], self._narrowest
        low = np.searchsorted(self._line, own[j] - self._widths[j])
        high = np.searchsorted(self._line, own[j] + self._widths[j], side="right")
        within = (np.abs(self._sorted[low:high] - own) <= self._widths).all(1)
        return np.sort(self._order[low:high][within])
