"""Tables from files."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from contrastkit.errors import UserError, suggest
from contrastkit.tables.checks import Floats, as_numbers


def read_table(path: Path, *, names: Iterable[str] = ()) -> Any:
    """The pandas frame of a .csv or .parquet file.

    Args:
        names: what else could have stood in the place of the path, to suggest where there is no such file.

    Raises:
        UserError: there is no such file, or it cannot be read.
    """
    import pandas as pd  # takes a while

    if not path.is_file():
        raise UserError(f"{path} is no file{suggest(str(path), names)}")
    if path.suffix not in (".csv", ".parquet"):
        raise UserError(f"{path} is neither .csv nor .parquet")
    try:
        return pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    except ImportError as error:
        raise UserError(f"{path}: reading .parquet takes pyarrow: pip install pyarrow") from error
    except (ValueError, OSError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def check_columns(frame: Any, source: str, asked: Sequence[str], roles: str) -> None:
    """Refuse columns that a frame lacks, or that are asked for twice.

    Args:
        source: the name of the table.
        roles: what the columns are asked for as: ``label, environment and features``.
    """
    known = [str(column) for column in frame.columns]
    for name in asked:
        if name not in frame.columns:
            some = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
            raise UserError(f"{source} has no column '{name}'{suggest(name, known)} (it has {some})")
        if asked.count(name) > 1:
            raise UserError(f"'{name}' is asked for twice: {roles} are different columns")


def read_weights(path: Path, n: int) -> Floats:
    """The weights [n] in the column ``weight`` of a .csv or .parquet file.

    Raises:
        UserError: no such file or column, values that are not finite numbers, or not n rows.
    """
    frame = read_table(path)
    check_columns(frame, path.name, ["weight"], "columns")
    weights = as_numbers(frame[["weight"]].to_numpy(), ("weight",))[:, 0]
    if len(weights) != n:
        raise UserError(f"{path} has {len(weights):,} weights for {n:,} rows: compute the weights of the same rows")
    return weights
