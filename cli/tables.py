"""Tables on the command line: column lists, .csv files, number formats."""

import math
from pathlib import Path
from typing import Any


def column_names(text: str) -> list[str]:
    """Parse comma-separated names; a name that contains a comma is quoted."""
    import csv

    return [name.strip() for name in next(csv.reader([text], skipinitialspace=True), []) if name.strip()]


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
