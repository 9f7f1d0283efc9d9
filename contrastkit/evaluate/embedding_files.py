"""The files of embeddings: .npz, .npy mapped into memory, and tables for other programs."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrastkit.checkpoint import write_with
from contrastkit.data.source import digest
from contrastkit.directories import require_file
from contrastkit.errors import UserError
from contrastkit.npz import read_npz, write_npz

Arrays = Mapping[str, NDArray[Any]]

MAPPED, TABLES = ".npy", (".csv", ".parquet")
WRITTEN = "a file written by 'contrastkit embed'"
SAMPLE = 64  # rows of an .npy file that the file beside it knows


def require_format(path: Path, *, tokens: bool) -> None:
    """Check that an embedding can be written in the format of this file.

    Raises:
        UserError: it cannot.
    """
    if path.suffix in TABLES and tokens:
        raise UserError(f"a {path.suffix} has one row an image, which has several tokens: write an .npz or .npy file")
    if path.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise UserError("writing .parquet files needs pyarrow: pip install pyarrow")


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Write the arrays of an embedding, atomically: as a table to a .csv or .parquet, else as an .npz. Of an .npy,
    whose features are there already, write the others to :func:`rows_file`."""
    if path.suffix == MAPPED:
        rest = {name: array for name, array in arrays.items() if name != "features"}
        write_npz(rows_file(path), rest | {"sample": np.array(_sampled(arrays["features"]))})
    elif path.suffix == ".csv":
        write_with(path, lambda file: _table(arrays).to_csv(file, index=False))
    elif path.suffix == ".parquet":
        write_with(path, lambda file: _table(arrays).to_parquet(file, index=False))
    else:
        write_npz(path, arrays)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays that :func:`write_arrays` wrote to an .npz or .npy file; the features of an .npy stay in the file,
    mapped into memory.

    Raises:
        UserError: there is no such file, it is a table or damaged, or files of two embeddings were mixed.
    """
    require_file(path)
    if path.suffix in TABLES:
        raise UserError(f"{path} is a table for other programs: give an .npz or .npy file of 'contrastkit embed'")
    if path.suffix != MAPPED:
        return read_npz(path, WRITTEN)
    require_file(rows := rows_file(path), f", which 'contrastkit embed' writes beside {path.name}")
    arrays = read_npz(rows, WRITTEN)
    try:
        features = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise UserError(f"{path} cannot be read as an .npy file: {error}") from error
    if str(arrays.pop("sample", "")) != _sampled(features):
        raise UserError(f"{path} and {rows} belong to different embeddings: embed again")
    return arrays | {"features": features}


def rows_file(path: Path) -> Path:
    """The file beside an .npy of features that has everything else."""
    return path.with_suffix(".rows.npz")


def _sampled(features: NDArray[Any]) -> str:
    """A digest of the shape and of some rows."""
    rows = np.linspace(0, len(features) - 1, min(SAMPLE, len(features))).astype(np.int64)
    return digest(repr((features.shape, features.dtype)).encode(), np.ascontiguousarray(features[rows]).tobytes())


def _table(arrays: Arrays) -> Any:
    """A pandas frame with a row for each image: path, label (by name if it has one), split, and features f0, f1, ...;
    empty where there is no label, and no features where the image could not be read. Bytes of names that are no text
    are escaped."""
    import pandas as pd  # slow to import

    labels, classes = arrays["labels"], _escaped(arrays["classes"])
    named = pd.Series(classes[labels]) if len(classes) else pd.Series(labels, dtype="Int64")  # which may be missing
    columns = {"path": _escaped(arrays["paths"]), "label": named.where(labels >= 0, None), "split": arrays["split"]}
    if "environment" in arrays:
        columns["environment"] = _escaped(arrays["environment"])
    features = arrays["features"]
    frame = pd.DataFrame(features, columns=[f"f{j}" for j in range(features.shape[1])])
    return pd.concat([pd.DataFrame(columns), frame], axis=1)


def _escaped(texts: NDArray[Any]) -> NDArray[Any]:
    """As :func:`contrastkit.explore.columns.write_columns` escapes them: pandas cannot for a .parquet."""
    if texts.dtype.kind != "U":
        return texts
    return np.char.decode(np.char.encode(texts, "utf-8", "backslashreplace"), "utf-8")
