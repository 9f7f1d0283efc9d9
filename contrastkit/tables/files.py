"""Reading tables from files, and choosing their rows."""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any

from contrastkit.directories import require_file
from contrastkit.errors import UserError, listed, suggest
from contrastkit.tables.words import is_number

SEPARATORS = (",", ";", "\t")


def read_table(
    path: Path, *, names: Iterable[str] = (), missing: Sequence[str] = (), header: Sequence[str] = ()
) -> Any:
    """The pandas frame of a .csv or .parquet file, its rows numbered from 0.

    The fields of a .csv file are separated by whichever of commas, semicolons and tabs divides its first line into most
    of them. Blanks around names and before values are not part of them.

    Args:
        names: alternatives to a path, suggested if there is no such file.
        missing: words that stand for missing values; otherwise only empty fields do.
        header: names of the columns of a .csv file without a header line.

    Raises:
        UserError: there is no such file, it cannot be read, two columns have the same name, the first line has numbers
            instead of names, or a line has more or fewer fields than there are names.
    """
    import pandas as pd  # slow to import

    require_file(path, suggest(str(path), names))
    if path.suffix not in (".csv", ".parquet"):
        raise UserError(f"cannot read {path}: give a .csv or .parquet file")
    if header and path.suffix != ".csv":
        raise UserError(f"{path} has names for its columns: leave --header out")
    try:
        if path.suffix == ".csv":
            return _read_csv(path, missing, header)
        frame = pd.read_parquet(path)
    except ImportError as error:
        raise UserError(f"{path}: reading .parquet files needs pyarrow: pip install pyarrow") from error
    except UnicodeDecodeError as error:
        raise UserError(f"cannot read {path}: it is not text in UTF-8: save it as 'CSV UTF-8'") from error
    except (ValueError, OSError, csv.Error) as error:
        raise UserError(f"cannot read {path}: {_plainly(error)}") from error
    frame = frame.reset_index(drop=frame.index.names == [None])
    words = [*missing, *(float(word) for word in missing if is_number(word))]
    return frame.mask(frame.isin(words)) if words else frame


def _read_csv(path: Path, missing: Sequence[str], header: Sequence[str]) -> Any:
    import pandas as pd

    with path.open(encoding="utf-8-sig", newline="") as file:
        first = next((line for line in file if line.strip()), "")
        separator = max(SEPARATORS, key=lambda mark: len(next(csv.reader([first], delimiter=mark), [])))
        file.seek(0)
        top = list(islice(_records(file, separator), 2))
    if not top:
        raise UserError(f"cannot read {path}: it is empty")
    columns = _column_names(path, top[0][1], header)
    _check_fields(top[not header :], len(columns))
    frame = pd.read_csv(
        path, sep=separator, skipinitialspace=True, names=columns, header=None if header else 0, index_col=False,
        keep_default_na=False, na_values=["", *missing],
    )  # fmt: skip
    if len(frame) and frame[columns[-1]].isna().any():  # pandas fills a short line up
        with path.open(encoding="utf-8-sig", newline="") as file:
            _check_fields(_records(file, separator), len(columns))
    return frame


def _records(file: IO[str], separator: str) -> Iterator[tuple[int, list[str]]]:
    """The number of the last line and the fields of each record that is not blank."""
    lines = csv.reader(file, delimiter=separator, skipinitialspace=True)
    return ((lines.line_num, record) for record in lines if record)


def _column_names(path: Path, first: list[str], header: Sequence[str]) -> list[str]:
    """The names of the columns of a .csv file: ``header``, or those of its first record."""
    if header:
        names = list(header)
    else:
        names = [name.strip() or f"Unnamed: {j}" for j, name in enumerate(first)]  # as pandas calls row numbers
        if all(map(is_number, names)) and not (len({*names}) == len(names) and all(map(str.isdecimal, names))):
            raise UserError(f"the first line of {path} has numbers instead of names: name its columns with --header")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise UserError(f"{path} has two columns named '{twice[0]}': rename one of them")
    return names


def _check_fields(records: Iterable[tuple[int, list[str]]], columns: int) -> None:
    for line, record in records:
        if len(record) != columns:
            raise ValueError(_mismatch(line, len(record), columns))


def _mismatch(line: int, fields: int, columns: int) -> str:
    advice = "quote fields that contain a separator" if fields > columns else "write its empty fields, too"
    return f"line {line:,} has {fields:,} fields for {columns:,} columns: {advice}"


def _plainly(error: Exception) -> str:
    """What pandas' parser says, by lines instead of rows."""
    text = " ".join(str(error).split())
    if found := re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", text):
        columns, line, fields = map(int, found.groups())
        return _mismatch(line, fields, columns)
    if found := re.search(r"EOF inside string starting at row (\d+)", text):
        return f"the quotes opened in line {int(found[1]) + 1} are never closed"
    return text


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
    name = re.split("!?=", condition)[0]
    check_columns(frame, source, [name], "rows")
    raise UserError(f"--rows {condition}: give COLUMN=VALUE or COLUMN!=VALUE")
