"""Weights in a file: a column ``weight`` with a row for each of the table's."""

from pathlib import Path

from contrastkit.causal.study import Floats
from contrastkit.errors import UserError
from contrastkit.stable.table import read


def read_weights(path: Path, n: int) -> Floats:
    """The weights [n] in the column ``weight`` of a .csv or .parquet file.

    Raises:
        UserError: no such file or column, values that are not finite numbers, or not n rows.
    """
    weights: Floats = read(path.expanduser(), features=("weight",)).X["weight"].to_numpy()
    if len(weights) != n:
        raise UserError(f"{path} has {len(weights):,} weights for {n:,} rows: compute the weights of the same rows")
    return weights
