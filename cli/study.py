"""What the commands of ``contrastkit causal`` share: how a study is given, how numbers are shown."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from contrastkit.cli.options import where

if TYPE_CHECKING:
    from contrastkit.causal.study import Study

Table = Annotated[
    str,
    typer.Option(
        "--data",
        help="A table, .csv or .parquet, or a named set that knows its columns: lalonde, lalonde-trial.",
        metavar="FILE|NAME",
    ),
]
Treatment = Annotated[
    str | None, typer.Option(help="The column of 0 and 1 that says who was treated.", metavar="COLUMN")
]
Outcome = Annotated[str | None, typer.Option(help="The column of what came of it.", metavar="COLUMN")]
Covariates = Annotated[
    str,
    typer.Option(
        help="The columns to adjust for, with commas; words become 0 and 1. An .npz of features that embed wrote, "
        "a row for each of the table's, is one too.",
        metavar="COLUMN,...",
    ),
]
Components = Annotated[
    int, typer.Option(help="Principal components of an .npz of features; 0: the features as they are.", min=0)
]


def read(
    data: str,
    treatment: str | None,
    covariates: str,
    data_dir: Path | None,
    components: int,
    *,
    outcome: str | None = None,
    with_outcome: bool = False,
) -> "Study":
    """The study that the options describe; ``with_outcome``: one that has an outcome."""
    from contrastkit.causal.sets import NAMED
    from contrastkit.causal.study import read
    from contrastkit.errors import UserError

    if with_outcome and outcome is None:
        if data not in NAMED:
            raise UserError("name the column of what came of it with --outcome")
        outcome = NAMED[data].outcome
    return read(
        data, treatment=treatment, outcome=outcome, covariates=names(covariates), data_dir=where(data_dir),
        components=components,
    )  # fmt: skip


def names(columns: str) -> list[str]:
    """Of columns with commas between them; a name with a comma in it stands in quotes."""
    import csv

    return [name.strip() for name in next(csv.reader([columns], skipinitialspace=True), []) if name.strip()]


def write(path: Path, columns: dict[str, Any]) -> None:
    """A .csv of these columns, atomically."""
    import pandas as pd

    from contrastkit.checkpoint import write_text

    write_text(path.expanduser(), pd.DataFrame(columns).to_csv(index=False))


def number(value: float, digits: int) -> str:
    return "" if math.isnan(value) else f"{round(value, digits) + 0.0:,.{digits}f}"  # no minus before a zero


def precise(value: float) -> str:
    """Two decimals, or three digits of what is smaller."""
    return f"{value:.3g}" if 0 < abs(value) < 0.01 else number(value, 2)


def short(value: float) -> str:
    return number(value, 0 if abs(value) >= 100 else 2)
