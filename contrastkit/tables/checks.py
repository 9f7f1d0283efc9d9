"""Checks of arrays: each returns what it was given in the type that everything else expects, and never writes to it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from contrastkit.errors import UserError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

SMALLEST, LARGEST = 1e-150, 1e150  # beyond these, squares underflow or overflow
LARGEST_FEATURE = 1e100  # beyond it, sums of products overflow


def as_numbers(x: NDArray[Any], names: Sequence[str]) -> Floats:
    """The columns of x [n, p] as float64; x itself where it is that already.

    Raises:
        UserError: a column holds anything but numbers, or missing or infinite ones; the message names it.
    """
    if x.dtype.kind in "biuf" and np.isfinite(x).all():
        return x.astype(np.float64, copy=False)
    for j, name in enumerate(names):
        try:
            column = x[:, j].astype(np.float64)
        except (TypeError, ValueError) as error:
            raise UserError(f"{name} holds something else than numbers: encode it, or leave it out") from error
        for bad, what in ((np.isnan(column), "missing"), (np.isinf(column), "infinite")):
            if bad.any():
                raise UserError(f"{name}: {int(bad.sum())} of {len(column)} values are {what}: drop or fill them")
    return x.astype(np.float64)


def as_treatment(T: ArrayLike, n: int) -> Bools:
    """T as bool [n]: which units were treated.

    Raises:
        UserError: T has another length or other values than 0 and 1, or an arm is empty.
    """
    t = np.asarray(T).reshape(-1)
    if len(t) != n:
        raise UserError(f"{len(t)} treatments for {n} rows")
    t = as_numbers(t[:, None], ("the treatment",))[:, 0]
    values = np.unique(t)
    if not set(values) <= {0.0, 1.0}:
        some = ", ".join(f"{value:g}" for value in values[:4]) + (", ..." if len(values) > 4 else "")
        raise UserError(f"the treatment is 0 or 1, not {some}: make it so, e.g. above a threshold")
    if len(values) < 2:
        raise UserError(f"no {'untreated' if values[0] else 'treated'} units: there is nothing to compare with")
    return t == 1


def as_arms(T: ArrayLike, n: int) -> Bools:
    """:func:`as_treatment`, with at least two units in each arm.

    Raises:
        UserError: as there, or an arm has a single unit.
    """
    t = as_treatment(T, n)
    if min(t.sum(), (~t).sum()) < 2:
        raise UserError("an arm of one unit has no variance: at least two units are needed in each arm")
    return t


def as_outcome(Y: ArrayLike, n: int) -> Floats:
    """Y as float64 [n].

    Raises:
        UserError: Y has another length, holds anything but finite numbers, or is the same for all.
    """
    y = np.asarray(Y).reshape(-1)
    if len(y) != n:
        raise UserError(f"{len(y)} outcomes for {n} rows")
    if y.dtype.kind in "Mm":
        raise UserError("the outcome holds dates: make numbers of them, days since the first for one")
    y = as_numbers(y[:, None], ("the outcome",))[:, 0]
    if (y == y[0]).all():
        raise UserError("the outcome is the same for all: nothing has an effect on it")
    if np.abs(y).max() > LARGEST:
        raise UserError("the outcome is beyond 1e150, whose square overflows: choose other units")
    return y


def as_weights(w: ArrayLike, n: int) -> Floats:
    """Weights [n], scaled to mean 1.

    Raises:
        UserError: w has another length, is negative somewhere, all zero, or not finite.
    """
    weights = as_numbers(np.asarray(w).reshape(-1, 1), ("the weight",))[:, 0]
    if len(weights) != n:
        raise UserError(f"{len(weights)} weights for {n} rows")
    if (weights < 0).any():
        raise UserError(f"{int((weights < 0).sum())} weights are negative")
    if not weights.any():
        raise UserError("the weights sum to zero: nothing is left to fit")
    weights = weights / weights.max()  # first: the sum of very large ones would overflow, of very small ones vanish
    return weights * (n / weights.sum())


def check_at_least(name: str, value: float, least: float) -> None:
    """Refuse a parameter that is below ``least`` or not finite."""
    if not least <= value < np.inf:
        raise UserError(f"{name} {value:g}: a finite number, {least:g} or more")


def check_magnitude(x: Floats, names: Sequence[str]) -> None:
    """Refuse columns of x [n, p] with values beyond 1e100."""
    if len(huge := np.flatnonzero(np.abs(x).max(0) > LARGEST_FEATURE)):
        raise UserError(f"{names[huge[0]]} has values beyond 1e100: choose other units")


def effective_sample_size(w: Floats) -> float:
    """(sum w)^2 / sum w^2 (Kish 1965): the size of an unweighted sample with means as precise."""
    return float(w.sum() ** 2 / (w**2).sum())
