"""Reading tables from files, and choosing their rows."""

import csv
import re
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from contrastkit.directories import require_file
from contrastkit.errors import UserError, listed, suggest
from contrastkit.tables.text import Reading, is_text, plainly, read_text
from contrastkit.tables.words import is_number

AS_FOUND = Reading()


def read_table(path: Path, how: Reading = AS_FOUND, *, names: Iterable[str] = ()) -> Any:
    """The pandas frame of a .csv, .tsv (also .gz) or .parquet file, its rows numbered from 0.

    Args:
        names: alternatives to a path, suggested if there is no such file.

    Raises:
        UserError: there is no such file, it cannot be read, two columns have the same name, the first line has numbers
            instead of names, a line has more or fewer fields than there are names, or there are no rows.
    """
    import pandas as pd  # slow to import

    require_file(path, suggest(str(path), names))
    if not is_text(path) and path.suffix != ".parquet":
        raise UserError(f"cannot read {path}: give a .csv, .tsv (also .gz) or .parquet file")
    if how.of_text and not is_text(path):
        raise UserError(f"{path} is no text: leave --header, --separator, --encoding and --decimal out")
    try:
        frame = read_text(path, how) if is_text(path) else pd.read_parquet(path)
    except ImportError as error:
        raise UserError(f"{path}: reading .parquet files needs pyarrow: pip install pyarrow") from error
    except UnicodeError as error:
        said = how.encoding.upper()
        raise UserError(
            f"cannot read {path}: it is not text in {said}: say which with --encoding, as cp1252"
        ) from error
    except (ValueError, OSError, EOFError, zlib.error, csv.Error) as error:
        raise UserError(f"cannot read {path}: {plainly(error)}") from error
    if not len(frame):
        raise UserError(f"{path} has no rows")
    if is_text(path):
        return frame
    frame = frame.reset_index(drop=frame.index.names == [None])
    words = [*how.missing, *(float(word) for word in how.missing if is_number(word))]
    return frame.mask(frame.isin(words)) if words else frame


def check_columns(frame: Any, source: str, names: Sequence[str], roles: str) -> None:
    """Check that a frame has these columns and that none is used twice.

    Args:
        source: name of the table.
        roles: what the columns are used as, such as ``label, environment and features``.
    """
    known = [str(column) for column in frame.columns]
    for name in names:
        if name not in frame.columns:
            headless = "; name the columns of a file without a header line with --header" * any(map(is_number, known))
            raise UserError(
                f"{source} has no column '{name}'{suggest(name, known)} (it has {listed(known, 12)}){headless}"
            )
        if names.count(name) > 1:
            raise UserError(f"'{name}' is used twice: {roles} must be different columns")


def check_names(what: str, names: Sequence[str]) -> None:
    """Raise a UserError if names, in Python, are a string, whose letters would be taken for them."""
    if isinstance(names, str):
        raise UserError(f"{what} must be a list of names, not {names!r}: give {names.split(',')}")


def select_rows(frame: Any, source: str, conditions: Sequence[str]) -> tuple[Any, list[str]]:
    """The rows of a frame for which all conditions hold, and the columns that are constant in them by a condition.

    Args:
        source: name of the table.
        conditions: ``column=value`` or ``column!=value``, as text; no value stands for missing values.

    Raises:
        UserError: a condition names no column, or holds for no row.
    """
    constant = []
    for condition in conditions:
        column, equal, value = _parsed(frame, source, condition)
        values = frame[column]
        chosen = values.isna() if value == "" else equal_to(values, value)
        chosen = chosen if equal else ~chosen
        if not chosen.any():
            known = listed([str(known) for known in values.unique()], 8)
            raise UserError(f"no row of {source} has {column} {'=' if equal else '!='} {value} (its values: {known})")
        constant += [column] if equal else []
        frame = frame[chosen]
    return frame, constant


def equal_to(column: Any, value: str) -> Any:
    """Which entries of a pandas column are this value, given as text: ``1`` is 1.0 too, and ``true`` True."""
    if column.dtype.kind in "iuf" and is_number(value):
        return column == float(value)
    if column.dtype.kind == "b":
        return column.astype(str) == value.capitalize()
    return column.astype(str) == value


def _parsed(frame: Any, source: str, condition: str) -> tuple[str, bool, str]:
    """The column, whether it must be equal, and the value; names of columns may contain ``=``."""
    for column in sorted(map(str, frame.columns), key=len, reverse=True):
        if found := re.fullmatch(rf"{re.escape(column)}\s*(!?)=\s*(.*)", condition, flags=re.S):
            return column, not found[1], found[2]
        if re.match(rf"{re.escape(column)}\s*[<>]", condition):
            raise UserError(
                f"--rows {condition}: only = and != are understood, as in COLUMN=VALUE: for a range, choose the rows "
                "in the file, or give it a column to name here"
            )
    name = re.split("!?=", condition)[0]
    check_columns(frame, source, [name], "rows")
    raise UserError(f"--rows {condition}: give COLUMN=VALUE or COLUMN!=VALUE")
