"""Tables of features from files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrastkit.errors import UserError, listed
from contrastkit.tables.checks import as_numbers, check_present
from contrastkit.tables.covariates import Covariates
from contrastkit.tables.embeddings import read_embeddings
from contrastkit.tables.files import check_columns, read_table


@dataclass(frozen=True)
class Table:
    """Features [n, p]; label and environment [n], None if absent."""

    X: Covariates
    label: NDArray[Any] | None
    environment: NDArray[Any] | None
    left_out: tuple[str, ...] = ()  # columns that are no features because they are not numeric
    embedded: bool = False  # whether the features come from a file of ``contrastkit embed``


def read(
    path: Path,
    *,
    features: Sequence[str] = (),
    label: str | None = None,
    environment: str | None = None,
    rows: str | None = None,
) -> Table:
    """Read a table from a .csv or .parquet file, or an .npz file of ``contrastkit embed``.

    The columns of an .npz file are x0, x1, ... of its array ``features``, ``label`` (class names if there are any), and
    every other array [n], such as ``split``.

    Args:
        path: the file.
        features: feature columns; by default all numeric columns other than label and environment, or x0, x1, ...
        label: column to predict; by default ``label`` of an .npz file.
        environment: column that names the environment of each row.
        rows: use only the rows with this value in a column, such as ``split=train``.

    Raises:
        UserError: no such file, column or row, an unreadable file, a column with two roles, missing values, features
            that are not finite numbers, or, if no features are named, a column that is mostly numeric.
    """
    is_embedded = path.suffix == ".npz"
    frame, embedded = _embedded(path) if is_embedded else (read_table(path), [])
    if is_embedded and label is None and "label" in frame:
        label = "label"
    where, _, value = (rows or "").partition("=")
    roles = [name for name in (label, environment) if name is not None]
    check_columns(frame, path.name, [*roles, *features], "label, environment and features")
    if rows:
        check_columns(frame, path.name, [where], "rows")
        frame = _selected(frame, path.name, where, value)
    left_out: tuple[str, ...] = ()
    if not features and is_embedded:
        features = [name for name in embedded if name not in (*roles, where)]
    elif not features:
        features, left_out = _numeric_columns(frame, (*roles, where))
    if not features or not len(frame):
        raise UserError(f"{path} has no rows, or no numeric column: name the features with --features")
    for name in roles:
        check_present(frame[name], name)
    names = tuple(map(str, features))
    x = np.concatenate([as_numbers(frame[name].to_numpy()[:, None], (str(name),)) for name in features], axis=1)
    y, environments = (None if name is None else frame[name].to_numpy() for name in (label, environment))
    return Table(Covariates(x, names, names), y, environments, left_out, is_embedded)


def _selected(frame: Any, source: str, where: str, value: str) -> Any:
    """The rows with this value, as text, in the column ``where``."""
    matching = frame[where].astype(str) == value
    if not matching.any():
        values = listed([str(known) for known in frame[where].unique()], 8)
        raise UserError(f"no row of {source} has {where} = {value} (its values: {values})")
    return frame[matching]


def _numeric_columns(frame: Any, others: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """The columns that can be features, and those that cannot; ``others`` are neither."""
    candidates = [name for name in frame.columns if name not in others]
    numeric = [name for name in candidates if _is_numeric(frame[name])]
    return numeric, tuple(str(name) for name in candidates if name not in numeric)


def _is_numeric(column: Any) -> bool:
    """Whether a column is numeric.

    Raises:
        UserError: it is mostly numeric: a stray '?' must not silently drop the column.
    """
    import pandas as pd  # slow to import

    if column.dtype.kind in "biuf" or not len(column):
        return True
    text = column.dropna().astype(str)
    number = pd.to_numeric(text, errors="coerce").notna()
    if number.all():
        return len(text) > 0
    if number.mean() > 0.5:
        raise UserError(f"{column.name}: '{text[~number].iloc[0]}' is not a number, but most values are: correct it")
    return False


def _embedded(path: Path) -> tuple[Any, list[str]]:
    """The frame of an .npz file, and the names of those of its columns that are the features."""
    import pandas as pd

    embeddings = read_embeddings(path)
    features = [f"x{j}" for j in range(embeddings.features.shape[1])]
    frame = pd.DataFrame(embeddings.features, columns=features)
    if embeddings.labels is not None:
        frame["label"] = embeddings.labels
    for name, values in embeddings.columns.items():
        frame[name] = values
    return frame, features
