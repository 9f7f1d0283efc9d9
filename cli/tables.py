"""Tables on the command line: lists of columns, .csv files, numbers as text."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def column_names(text: str) -> list[str]:
    """Comma-separated names; a name that contains a comma is quoted."""
    import csv

    return [name.strip() for name in next(csv.reader([text], skipinitialspace=True), []) if name.strip()]


def write_csv(path: Path, columns: dict[str, Any]) -> None:
    """Write columns of equal length, atomically."""
    import pandas as pd

    from contrastkit.checkpoint import write_text

    write_text(path.expanduser(), pd.DataFrame(columns).to_csv(index=False))


def abridged(names: Sequence[str]) -> str:
    """Names with commas; the middle of a long list is left out."""
    return ", ".join(names if len(names) <= 12 else [*names[:6], "...", names[-1]])


def number(value: float, digits: int) -> str:
    """A number with thousands separators; empty for NaN."""
    return "" if math.isnan(value) else f"{round(value, digits) + 0.0:,.{digits}f}"  # avoids -0.00


def precise(value: float) -> str:
    """Two decimals, or three significant digits of a number below 0.01."""
    return f"{value:.3g}" if 0 < abs(value) < 0.01 else number(value, 2)


def short(value: float) -> str:
    """Two decimals; none from 100 upwards."""
    return number(value, 0 if abs(value) >= 100 else 2)
