"""Tables of features, from files."""

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrastkit.causal.study import numbers, table
from contrastkit.errors import UserError, suggest


@dataclass(frozen=True)
class Table:
    """Features, a pandas frame [n, p] of finite float64; label and environment [n], None where there is none."""

    X: Any
    label: NDArray[Any] | None
    environment: NDArray[Any] | None
    left: tuple[str, ...] = ()  # columns that are not of numbers, and so no features


def read(
    path: Path,
    *,
    features: Sequence[str] = (),
    label: str | None = None,
    environment: str | None = None,
    rows: str | None = None,
) -> Table:
    """A table from a .csv or .parquet file, or an .npz that ``contrastkit embed`` wrote.

    The columns of an .npz are x0, x1, ... of its array ``features``, ``label``, which is by name where classes have
    names, and each other array [n], ``split`` for one.

    Args:
        path: the file.
        features: the columns to take; none given, all of numbers that are neither label nor environment, or x0, x1, ...
        label: the column of what is predicted; of an .npz ``label`` unless another is named.
        environment: the column of where rows come from.
        rows: only those where a column has this value, ``split=train``.

    Raises:
        UserError: no such file, not to be read, no such column or row, a column that is two things at once, missing
            values, features that are not finite numbers, or, where none are named, a column of which most are.
    """
    import pandas as pd  # takes a while

    frame = _embedded(path) if path.suffix == ".npz" else table(path)
    if path.suffix == ".npz" and label is None and "label" in frame:
        label = "label"
    where, _, value = (rows or "").partition("=")
    roles = [name for name in (label, environment) if name is not None]
    for name in (*roles, *features, *([where] if rows else [])):
        if name not in frame:
            known = [str(column) for column in frame.columns]
            some = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
            raise UserError(f"{path.name} has no column '{name}'{suggest(name, known)} (it has {some})")
        if [*roles, *features].count(name) > 1:
            raise UserError(f"'{name}' is asked for twice: label, environment and features are different columns")
    if rows:
        kept = frame[where].astype(str) == value
        if not kept.any():
            some = ", ".join(map(str, frame[where].unique()[:8]))
            raise UserError(f"no row of {path.name} has {where} = {value} (it is {some})")
        frame = frame[kept]
    left: tuple[str, ...] = ()
    if not features and "p" in frame.attrs:
        features = [name for name in frame.columns[: frame.attrs["p"]] if name not in (*roles, where)]
    elif not features:
        others = [name for name in frame.columns if name not in (*roles, where)]
        features = [name for name in others if _numeric(frame[name])]
        left = tuple(str(name) for name in others if name not in features)
    if not features or not len(frame):
        raise UserError(f"{path} has no rows, or no column of numbers that could be a feature")
    for name in roles:
        if missing := int(frame[name].isna().sum()):
            raise UserError(f"{name}: {missing} of {len(frame)} values are missing: drop or fill them")
    X = pd.DataFrame({str(name): numbers(frame[[name]].to_numpy(), (name,))[:, 0] for name in features})
    outcome, place = (None if name is None else frame[name].to_numpy() for name in (label, environment))
    return Table(X, outcome, place, left)


def _numeric(column: Any) -> bool:
    """Whether a column is of numbers.

    Raises:
        UserError: most of it are: a '?' among them is not to cost the whole column.
    """
    import pandas as pd

    if column.dtype.kind in "biuf" or not len(column):
        return True
    text = column.dropna().astype(str)
    number = pd.to_numeric(text, errors="coerce").notna()
    if number.all():
        return len(text) > 0
    if number.mean() > 0.5:
        raise UserError(f"{column.name}: '{text[~number].iloc[0]}' is no number, and most others are: mend or drop it")
    return False


def _embedded(path: Path) -> Any:
    """A frame of what ``contrastkit embed`` wrote; ``attrs["p"]`` says how many columns, from the first, are features.

    Raises:
        UserError: it is something else.
    """
    import pandas as pd

    if not path.is_file():
        raise UserError(f"{path} is no file")
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            held = {key: archive[key] for key in archive.files}
    except (ValueError, OSError, EOFError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    features, labels, classes = (held.pop(key, np.empty(0)) for key in ("features", "labels", "classes"))
    if features.ndim != 2 or not len(features):
        raise UserError(f"{path} has no array 'features' of rows and columns: 'contrastkit embed' writes one")
    n, p = features.shape
    frame = pd.DataFrame(features, columns=[f"x{j}" for j in range(p)])
    if labels.shape == (n,) and not (labels.dtype.kind in "iu" and (labels < 0).any()):  # -1: an image without a label
        named = labels.dtype.kind in "iu" and classes.ndim == 1 and len(classes) > labels.max()
        frame["label"] = classes[labels] if named else labels
    for key, values in held.items():
        if values.shape == (n,):
            frame[key] = values
    frame.attrs["p"] = p
    return frame
