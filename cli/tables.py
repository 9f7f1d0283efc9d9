"""Tables on the command line: column lists, .csv files, number formats."""

import csv
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from contrastkit.errors import UserError

Decimal = Literal[".", ","]


@dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    """How a table is read."""

    missing: Annotated[
        list[str] | None,
        typer.Option(help="Word for a missing value besides the empty field, as in --missing NA.", metavar="WORD"),
    ] = None
    header: Annotated[
        str,
        typer.Option(
            help="Names of the columns of a file without a header line; x1..x9 stands for x1,x2,...,x9.",
            metavar="COLUMN,...",
        ),
    ] = ""
    separator: Annotated[
        str | None,
        typer.Option(help="Between fields: one character, or tab \\[found in the first line].", metavar="MARK"),
    ] = None
    encoding: Annotated[str, typer.Option(help="Of the text, such as cp1252 or utf-16.", metavar="NAME")] = "utf-8"
    decimal: Annotated[Decimal, typer.Option(help="Mark before decimals.")] = "."
    rows: Annotated[
        list[str] | None,
        typer.Option(
            help="Use only the rows with this value in a column, as in split=train, or without it, as in city!=Ulm; no "
            "value stands for missing ones.",
            metavar="COLUMN=VALUE",
        ),
    ] = None

    def how_to_read(self) -> dict[str, Any]:
        """The arguments of :func:`contrastkit.causal.study.read` and :func:`contrastkit.stable.table.read`."""
        from contrastkit.tables.text import Reading

        reading = Reading(
            missing=tuple(self.missing or ()),
            header=tuple(column_names(self.header)),
            separator="\t" if self.separator == "tab" else self.separator,
            encoding=self.encoding,
            decimal=self.decimal,
        )
        return {"reading": reading, "rows": self.rows or ()}


def column_names(text: str) -> list[str]:
    """Parse comma-separated names; a name that contains a comma is quoted, and x1..x9 stands for x1,x2,...,x9."""
    names = [name.strip() for name in next(csv.reader([text], skipinitialspace=True), []) if name.strip()]
    return [each for name in names for each in _range(name)]


def _range(name: str) -> Iterator[str]:
    found = re.fullmatch(r"(.*?)(\d+)\.\.\1(\d+)", name)
    if found is None:
        yield name
    else:
        for number in range(int(found[2]), int(found[3]) + 1):
            yield f"{found[1]}{number:0{len(found[2])}}"


def numbers(option: str, text: str) -> list[float]:
    """Parse distinct comma-separated numbers given to ``option``."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise UserError(f"{option} {text}: give numbers, separated by commas") from error
    if len(set(values)) < len(values):
        raise UserError(f"{option} {text}: give each number once")
    return values


def write_csv(path: Path, columns: dict[str, Any]) -> None:
    """Write columns of equal length to a .csv file, atomically."""
    import pandas as pd

    from contrastkit.checkpoint import write_text

    write_text(path, pd.DataFrame(columns).to_csv(index=False))


def number(value: float, digits: int) -> str:
    """A number with thousands separators; empty for NaN."""
    return "" if math.isnan(value) else f"{round(value, digits) + 0.0:,.{digits}f}"  # + 0.0: no minus sign before zero


def precise(value: float) -> str:
    """Two decimals, or three significant digits of a number below 1."""
    return f"{value:.3g}" if 0 < abs(value) < 1 else number(value, 2)


def short(value: float) -> str:
    """Two decimals; none from 100 upwards."""
    return number(value, 0 if abs(value) >= 100 else 2)


def probability(p: float) -> str:
    """A p-value with three decimals, which never makes it 0; a dash for NaN."""
    if math.isnan(p):
        return "-"
    return "<0.001" if p < 0.001 else f"{p:.3f}"
