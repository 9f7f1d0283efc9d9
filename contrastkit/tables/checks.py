"""Validation of arrays: each function returns its input in the expected type and never writes to it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from contrastkit.errors import UserError, listed
from contrastkit.tables.words import among_numbers, is_number

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

SMALLEST, LARGEST = 1e-150, 1e150  # beyond these, squares underflow or overflow
LARGEST_FEATURE = 1e100  # beyond it, sums of products overflow


def as_numbers(x: NDArray[Any], names: Sequence[str], *, cure: str = "encode it, or leave it out") -> Floats:
    """The columns of x [n, p] as float64; x itself if it already is.

    Args:
        cure: what to do with a column of words.

    Raises:
        UserError: a column, named in the message, contains anything but finite numbers.
    """
    if x.dtype.kind in "biuf" and np.isfinite(x).all():
        return x.astype(np.float64, copy=False)
    for j, name in enumerate(names):
        check_present(x[:, j], name)
        try:
            column = x[:, j].astype(np.float64)
        except (TypeError, ValueError) as error:
            words = [str(value) for value in x[:, j] if not is_number(str(value))]
            if 0 < len(words) < len(x):
                raise UserError(among_numbers(name, words[0])) from error
            raise UserError(f"{name} contains values that are not numbers: {cure}") from error
        except OverflowError as error:  # an integer of hundreds of digits
            raise UserError(f"{name} has values beyond 1e308: change its units") from error
        check_present(column, name)  # again: the text "nan" becomes a number
        if infinite := int(np.isinf(column).sum()):
            raise UserError(f"{name}: {infinite} of {len(column)} values are infinite: drop or fill them")
    return x.astype(np.float64)


def as_column(values: ArrayLike, name: str) -> Floats:
    """Values [n] as float64.

    Raises:
        UserError: as :func:`as_numbers`.
    """
    return as_numbers(np.asarray(values).reshape(-1, 1), (name,), cure="encode it as numbers")[:, 0]


def check_present(values: Any, name: str, *, droppable: bool = False) -> None:
    """Raise a UserError if any of the values [n], an array or a pandas column, is missing: None, NaN, NaT or NA; if
    ``droppable``, --incomplete drop is offered.
    """
    import pandas as pd  # slow to import

    if missing := int(pd.isna(values).sum()):
        drop = "--incomplete drop or " if droppable else ""
        how = f" ({drop}--rows '{values.name}!=' drops them)" if isinstance(values, pd.Series) else ""
        raise UserError(f"{name}: {missing} of {len(values)} values are missing: drop or fill them{how}")


def as_treatment(T: ArrayLike, n: int) -> Bools:
    """T as bool [n]: which units were treated.

    Raises:
        UserError: T is not of length n, has values other than 0 and 1, or leaves an arm empty.
    """
    t = np.asarray(T).reshape(-1)
    if len(t) != n:
        raise UserError(f"{len(t)} treatments for {n} rows")
    t = as_column(t, "the treatment")
    values = np.unique(t)
    if not set(values) <= {0.0, 1.0}:
        examples = listed([f"{value:g}" for value in values], 4)
        raise UserError(f"the treatment must be 0 or 1, not {examples}: recode it, for example with a threshold")
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
        raise UserError("an arm of one unit has no variance: provide at least two units in each arm")
    return t


def as_outcome(Y: ArrayLike, n: int) -> Floats:
    """Y as float64 [n].

    Raises:
        UserError: Y is not of length n, contains anything but finite numbers, or is constant.
    """
    y = np.asarray(Y).reshape(-1)
    if len(y) != n:
        raise UserError(f"{len(y)} outcomes for {n} rows")
    if y.dtype.kind in "Mm":
        raise UserError("the outcome contains dates: convert them to numbers, such as days since the first")
    y = as_column(y, "the outcome")
    if (y == y[0]).all():
        raise UserError("the outcome is the same for all units: choose one that varies")
    if np.abs(y).max() > LARGEST:
        raise UserError("the outcome exceeds 1e150, whose square overflows: change its units")
    return y


def as_clusters(labels: ArrayLike, n: int) -> NDArray[np.int64]:
    """Labels [n] of clusters as numbers from 0, int64 [n].

    Raises:
        UserError: they are not n, some are missing, or all are the same.
    """
    import pandas as pd  # slow to import

    values = np.asarray(labels).reshape(-1)
    if len(values) != n:
        raise UserError(f"{len(values)} clusters for {n} rows")
    check_present(values, "the cluster")
    groups = pd.factorize(values)[0].astype(np.int64)
    if not groups.any():
        raise UserError("all units are in one cluster: name a column with two clusters or more")
    return groups


def as_sample_weights(w: ArrayLike, n: int) -> Floats:
    """The weights of units in a survey [n], scaled to mean 1.

    Raises:
        UserError: as :func:`as_weights`, or a weight is zero.
    """
    weights = as_weights(w, n)
    if not weights.all():
        raise UserError(f"{int((weights == 0).sum())} sample weights are zero: leave out these rows")
    return weights


def as_weights(w: ArrayLike, n: int) -> Floats:
    """Weights [n], scaled to mean 1.

    Raises:
        UserError: w is not of length n, or not finite, or negative, or zero throughout.
    """
    weights = as_column(w, "the weight")
    if len(weights) != n:
        raise UserError(f"{len(weights)} weights for {n} rows")
    if (weights < 0).any():
        raise UserError(f"{int((weights < 0).sum())} weights are negative: weights must be 0 or more")
    if not weights.any():
        raise UserError("the weights sum to zero: give at least one row a positive weight")
    weights = weights / weights.max()  # first: the sum of very large weights would overflow
    return weights * (n / weights.sum())


def check_at_least(name: str, value: float, least: float) -> None:
    """Raise a UserError if a parameter is below ``least`` or not finite."""
    if not least <= value < np.inf:
        raise UserError(f"{name} {value:g}: give a finite number, {least:g} or more")


def check_magnitude(x: Floats, names: Sequence[str]) -> None:
    """Raise a UserError if a column of x [n, p] has values beyond 1e100."""
    if len(huge := np.flatnonzero(np.abs(x).max(0) > LARGEST_FEATURE)):
        raise UserError(f"{names[huge[0]]} has values beyond 1e100: change its units")


def effective_sample_size(w: Floats) -> float:
    """(sum w)^2 / sum w^2 (Kish 1965): the size of an unweighted sample whose means are equally precise."""
    return float(w.sum() ** 2 / (w**2).sum())
