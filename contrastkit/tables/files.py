"""Reading tables from files."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from contrastkit.directories import require_file
from contrastkit.errors import UserError, listed, suggest
from contrastkit.tables.checks import Floats, as_column


def read_table(path: Path, *, names: Iterable[str] = ()) -> Any:
    """The pandas frame of a .csv or .parquet file.

    Args:
        names: alternatives to a path, suggested if there is no such file.

    Raises:
        UserError: there is no such file, or it cannot be read.
    """
    import pandas as pd  # slow to import

    require_file(path, suggest(str(path), names))
    if path.suffix not in (".csv", ".parquet"):
        raise UserError(f"cannot read {path}: give a .csv or .parquet file")
    try:
        return pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    except ImportError as error:
        raise UserError(f"{path}: reading .parquet files needs pyarrow: pip install pyarrow") from error
    except (ValueError, OSError) as error:
        raise UserError(f"cannot read {path}: {error}") from error


def check_columns(frame: Any, source: str, names: Sequence[str], roles: str) -> None:
    """Check that a frame has these columns and that none is used twice.

    Args:
        source: name of the table.
        roles: what the columns are used as, such as ``label, environment and features``.
    """
    known = [str(column) for column in frame.columns]
    for name in names:
        if name not in frame.columns:
            raise UserError(f"{source} has no column '{name}'{suggest(name, known)} (it has {listed(known, 12)})")
        if names.count(name) > 1:
            raise UserError(f"'{name}' is used twice: {roles} must be different columns")


def read_weights(path: Path, n: int) -> Floats:
    """The weights [n] in the column ``weight`` of a .csv or .parquet file.

    Raises:
        UserError: no such file or column, values that are not finite numbers, or not n rows.
    """
    frame = read_table(path)
    check_columns(frame, path.name, ["weight"], "columns")
    weights = as_column(frame["weight"], "weight")
    if len(weights) != n:
        raise UserError(f"{path} has {len(weights):,} weights for {n:,} rows: compute weights for the same rows")
    return weights
