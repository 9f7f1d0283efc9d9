"""The treatment column of a table: which rows are compared, and which of them were treated."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from contrastkit.errors import UserError, listed, suggest
from contrastkit.tables.checks import LARGEST, Floats, as_column
from contrastkit.tables.files import equal_to
from contrastkit.tables.words import MANY, is_number

SHOWN = 8  # values in a message
MOST = 20  # arms
FEWEST = 10  # different doses
SEVERAL = "use causal arms, or causal dose for amounts"  # where all confounders are observed


def of_two_arms(column: Any, treated: str | None, untreated: str | None, *, otherwise: str = SEVERAL) -> Any:
    """Which rows of a pandas column without missing values are in the two arms that are compared, bool [n].

    Args:
        treated: the value that counts as treated, as text; None for a column of 0 and 1, or of truth values.
        untreated: the value to compare with; None if the column has no third value.
        otherwise: what else a message advises for more than two values.

    Raises:
        UserError: a value is not in the column, both are the same, or the column does not tell the arms without them.
    """
    values = column.unique()
    if treated is None:
        if untreated is not None:
            raise UserError(f"--untreated {untreated}: name the treated value too, with --treated")
        if not all(_is_zero_or_one(value) for value in values):
            how = "name the treated value with --treated"
            if len(values) > 2:
                how = f"name two of its values to compare with --treated and --untreated, or {otherwise}"
            raise UserError(f"the treatment must be 0 or 1, not {shown(column)}: {how}")
        return np.ones(len(column), bool)
    one = having(column, treated, "--treated")
    if untreated is not None:
        other = having(column, untreated, "--untreated")
        if (one & other).any():
            raise UserError(f"--treated and --untreated are both {treated}: name two values of {column.name}")
        return one | other
    if len(values) > 2:
        raise UserError(
            f"{column.name} has {len(values):,} values ({shown(column)}): name the one to compare {treated} with by "
            "--untreated"
        )
    return np.ones(len(column), bool)


def as_several_arms(T: ArrayLike, n: int) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The labels of the arms, sorted, by number if all are numbers, and the arm of each unit as its place in them,
    int64 [n].

    Raises:
        UserError: T is not of length n, or there is one arm, more than twenty, or one with a single unit.
    """
    values = np.asarray(T).reshape(-1)
    if len(values) != n:
        raise UserError(f"{len(values)} treatments for {n} rows")
    texts = np.array([f"{value:g}" if isinstance(value, float) else str(value) for value in values.tolist()])
    labels, codes, counts = np.unique(texts, return_inverse=True, return_counts=True)
    if len(labels) > MOST:
        raise UserError(f"the treatment has {len(labels):,} values, more than {MOST} arms: put them in classes")
    if len(labels) < 2:
        raise UserError("all units are in one arm: there is nothing to compare with")
    if counts.min() < 2:
        raise UserError(f"arm {labels[counts.argmin()]} has one unit: leave it out, for example by --rows")
    order = np.arange(len(labels))
    if all(map(is_number, labels)):
        order = np.argsort(labels.astype(np.float64), kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return tuple(str(label) for label in labels[order]), place[codes.reshape(-1)].astype(np.int64)


def as_dose(T: ArrayLike, n: int) -> Floats:
    """Amounts of a treatment, float64 [n].

    Raises:
        UserError: T is not of length n, contains anything but finite numbers, or has fewer than ten different ones.
    """
    values = np.asarray(T).reshape(-1)
    if len(values) != n:
        raise UserError(f"{len(values)} treatments for {n} rows")
    if all(isinstance(value, str) and not is_number(value) for value in values):
        some = listed(sorted({str(value) for value in values}), SHOWN)
        raise UserError(
            f"the treatment has words ({some}), not amounts: compare them by 'contrastkit causal arms', or recode them "
            "as numbers"
        )
    t = as_column(values, "the treatment")
    if (different := len(np.unique(t))) < FEWEST:
        raise UserError(
            f"the treatment has {different} different values, too few for a curve: compare them by 'contrastkit causal "
            "arms'"
        )
    if np.abs(t).max() > LARGEST:
        raise UserError("the treatment exceeds 1e150, whose square overflows: change its units")
    return t


def having(column: Any, value: str, option: str) -> Any:
    """Which entries of a pandas column are the value of an option, bool [n].

    Raises:
        UserError: none is.
    """
    found = equal_to(column, value).to_numpy()
    if not found.any():
        near = suggest(value, [str(known) for known in column.unique()])
        raise UserError(f"{option} {value}: {column.name} has no such value{near} (its values: {shown(column)})")
    return found


def check_no_words(values: NDArray[Any], what: str, counts: str) -> None:
    """Raise a UserError if values [n] are a few words, of which the user should name the one that counts as something,
    as in ``1 with --outcome-value``."""
    texts = values if values.dtype.kind not in "biuf" else ()
    words = sorted({text for text in texts if isinstance(text, str) and not is_number(text)})
    if 0 < len(words) <= MANY:
        some = listed(words, SHOWN)
        raise UserError(f"{what} contains values that are not numbers ({some}): name the one that counts as {counts}")


def shown(column: Any) -> str:
    """The different values of a pandas column, sorted, for a message."""
    values = column.unique()
    numbers = column.dtype.kind in "iuf"
    return listed(
        [f"{value:g}" if numbers else str(value) for value in sorted(values, key=None if numbers else str)], SHOWN
    )


def _is_zero_or_one(value: Any) -> bool:
    return isinstance(value, bool | np.bool_) or (is_number(str(value)) and float(value) in (0, 1))
