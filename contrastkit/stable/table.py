"""Tables of features from files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrastkit.errors import UserError
from contrastkit.tables.checks import as_numbers, check_present
from contrastkit.tables.covariates import Covariates
from contrastkit.tables.embeddings import read_embeddings
from contrastkit.tables.files import AS_FOUND, check_columns, check_names, read_table, select_rows
from contrastkit.tables.identity import RowIds, is_identifier
from contrastkit.tables.text import Reading
from contrastkit.tables.words import among_numbers, is_number

ENVIRONMENT, IDENTIFIER, WORDS = "they name environments", "they name rows", "they are not numeric"  # reasons


@dataclass(frozen=True)
class Table:
    """Features [n, p]; label and environment [n], None if absent."""

    X: Covariates
    label: NDArray[Any] | None
    environment: NDArray[Any] | None
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # reason -> columns that are no features
    embedded: bool = False  # whether the features come from a file of ``contrastkit embed``
    frame: Any = None  # the table, with the columns that have no role

    def row_ids(self) -> RowIds | None:
        """Identifiers of the n rows, for files of weights; None without a frame."""
        return None if self.frame is None else RowIds.of(self.frame)


def read(
    path: Path,
    *,
    features: Sequence[str] = (),
    label: str | None = None,
    environment: str | None = None,
    reading: Reading = AS_FOUND,
    rows: Sequence[str] = (),
) -> Table:
    """Read a table from a file (:func:`contrastkit.tables.files.read_table`), or an .npz file of ``contrastkit embed``.

    The columns of an .npz file are x0, x1, ... of its array ``features``, ``label`` (class names if there are any), and
    every other array [n], such as ``split``.

    Args:
        path: the file.
        features: feature columns; by default x0, x1, ..., or all numeric columns other than label and environment that
            are not named as environments or identifiers.
        label: column to predict; by default ``label`` of an .npz file.
        environment: column that names the environment of each row.
        reading: how a table is read.
        rows: use only the rows for which these conditions hold, such as ``split=train``
            (:func:`contrastkit.tables.files.select_rows`).

    Raises:
        UserError: no such file, column or row, an unreadable file, a column with two roles, missing values, features
            that are not finite numbers, or, if no features are named, a column that is mostly numeric.
    """
    check_names("features", features)
    check_names("rows", rows)
    is_embedded = path.suffix == ".npz"
    if is_embedded and reading != AS_FOUND:
        raise UserError("--missing, --header and the like apply to tables: leave them out for an .npz file")
    frame, embedded = _embedded(path) if is_embedded else (read_table(path, reading), [])
    if is_embedded and label is None and "label" in frame:
        label = "label"
    roles = [name for name in (label, environment) if name is not None]
    check_columns(frame, path.name, [*roles, *features], "label, environment and features")
    frame, constant = select_rows(frame, path.name, rows)
    left_out: dict[str, tuple[str, ...]] = {}
    if not features and is_embedded:
        features = [name for name in embedded if name not in (*roles, *constant)]
    elif not features:
        features, left_out = _features(frame, (*roles, *constant))
    if not features or not len(frame):
        raise UserError(f"{path} has no rows, or no numeric column: name the features with --features")
    for name in roles:
        check_present(frame[name], name)
    names = tuple(map(str, features))
    x = np.concatenate([as_numbers(frame[name].to_numpy()[:, None], (str(name),)) for name in features], axis=1)
    y, environments = (None if name is None else frame[name].to_numpy() for name in (label, environment))
    return Table(Covariates(x, names, names), y, environments, left_out, is_embedded, frame)


def _features(frame: Any, others: Sequence[str]) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """The columns that can be features, and those that cannot by the reason; ``others`` are neither."""
    features: list[str] = []
    left_out: dict[str, list[str]] = {ENVIRONMENT: [], IDENTIFIER: [], WORDS: []}
    for name in (name for name in frame.columns if name not in others):
        if not _is_numeric(frame[name]):
            left_out[WORDS].append(str(name))
        elif str(name).lower() in ("env", "environment"):
            left_out[ENVIRONMENT].append(str(name))
        elif is_identifier(frame[name]):
            left_out[IDENTIFIER].append(str(name))
        else:
            features.append(name)
    return features, {reason: tuple(names) for reason, names in left_out.items() if names}


def _is_numeric(column: Any) -> bool:
    """Whether a column is numeric.

    Raises:
        UserError: it is mostly numeric: a stray '?' must not silently drop the column.
    """
    if column.dtype.kind in "biuf" or not len(column):
        return True
    text = column.dropna().astype(str)
    number = text.map(is_number).astype(bool)
    if number.all():
        return len(text) > 0
    if number.mean() > 0.5:
        raise UserError(among_numbers(column.name, text[~number].iloc[0]))
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
