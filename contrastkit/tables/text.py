"""Tables as text: comma-separated values and their kin, compressed or not."""

import codecs
import csv
import gzip
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal

from contrastkit.errors import UserError
from contrastkit.tables.words import is_number

SEPARATORS = (",", ";", "\t")
SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a table is read; all but ``missing`` is of tables that are text.

    Attributes:
        missing: words that stand for missing values; otherwise only empty fields do.
        header: names of the columns of a file without a header line.
        separator: of the fields; None is the tab in .tsv files, else whichever of commas, semicolons and tabs divides
            the first line into most fields.
        encoding: of the text, as Python names it; a mark at the start of UTF-8 is no part of the text.
        decimal: the mark before decimals.

    Raises:
        UserError: the separator is no single character, the encoding is unknown, or one mark has two meanings.
    """

    missing: Sequence[str] = ()
    header: Sequence[str] = ()
    separator: str | None = None
    encoding: str = "utf-8"
    decimal: Literal[".", ","] = "."

    def __post_init__(self) -> None:
        if self.separator is not None and (len(self.separator) != 1 or self.separator in '"\r\n'):
            raise UserError(f"--separator {self.separator!r}: give one character, or tab")
        if self.separator == self.decimal:
            raise UserError(f"--separator and --decimal are both '{self.decimal}': give two different marks")
        try:
            "".encode(self.encoding)
        except LookupError as error:
            raise UserError(f"unknown encoding '{self.encoding}': try cp1252, latin-1 or utf-16") from error

    @property
    def of_text(self) -> bool:
        """Whether anything departs from the defaults that a table which is no text has no use for."""
        return self != Reading(missing=self.missing)


def is_text(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES)


def read_text(path: Path, how: Reading) -> Any:
    """The pandas frame of a text; blanks around names and before values are not part of them.

    Raises:
        UserError, ValueError, OSError, EOFError, csv.Error: it cannot be read as a table.
    """
    import pandas as pd  # slow to import

    with _opened(path, how) as file:
        first = next((line for line in file if line.strip()), "")
        separator = how.separator or _separator(path, first, how.decimal)
        file.seek(0)
        top = list(islice(_records(file, separator), 2))
    if not top:
        raise UserError(f"cannot read {path}: it is empty")
    columns = _column_names(path, top[0][1], how)
    _check_fields(top[not how.header :], len(columns))
    with _opened(path, how) as file:
        frame = pd.read_csv(
            file, sep=separator, skipinitialspace=True, names=columns, header=None if how.header else 0,
            index_col=False, keep_default_na=False, na_values=["", *how.missing], decimal=how.decimal,
        )  # fmt: skip
    if len(frame) and frame[columns[-1]].isna().any():  # pandas fills a short line up
        with _opened(path, how) as file:
            _check_fields(_records(file, separator), len(columns))
    return frame


def plainly(error: Exception) -> str:
    """What pandas' parser says, by lines instead of rows."""
    text = " ".join(str(error).split())
    if found := re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", text):
        columns, line, fields = map(int, found.groups())
        return _mismatch(line, fields, columns)
    if found := re.search(r"EOF inside string starting at row (\d+)", text):
        return f"the quotes opened in line {int(found[1]) + 1} are never closed"
    return text


def _opened(path: Path, how: Reading) -> IO[str]:
    encoding = "utf-8-sig" if codecs.lookup(how.encoding).name == "utf-8" else how.encoding
    opener: Any = gzip.open if path.name.lower().endswith(".gz") else open
    opened: IO[str] = opener(path, "rt", encoding=encoding, newline="")
    return opened


def _separator(path: Path, first: str, decimal: str) -> str:
    if path.name.lower().endswith((".tsv", ".tsv.gz")):
        return "\t"
    marks = [mark for mark in SEPARATORS if mark != decimal]
    return max(marks, key=lambda mark: len(next(csv.reader([first], delimiter=mark), [])))


def _records(file: IO[str], separator: str) -> Iterator[tuple[int, list[str]]]:
    """The number of the last line and the fields of each record that is not blank."""
    lines = csv.reader(file, delimiter=separator, skipinitialspace=True)
    return ((lines.line_num, record) for record in lines if record)


def _column_names(path: Path, first: list[str], how: Reading) -> list[str]:
    """The names of the columns: the header's, or those of the first record."""
    if how.header:
        names = list(how.header)
    else:
        names = [name.strip() or f"Unnamed: {j}" for j, name in enumerate(first)]  # as pandas calls row numbers
        numbers = all(is_number(name.replace(how.decimal, ".")) for name in names)
        if numbers and not (len({*names}) == len(names) and all(map(str.isdecimal, names))):
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
