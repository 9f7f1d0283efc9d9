"""Which row is which: identifiers of the rows of a table, and weights in a file that names them."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrastkit.errors import UserError
from contrastkit.tables.checks import Floats, as_column
from contrastkit.tables.files import check_columns, read_table

DIGEST = "digest"  # the column of identifiers that are made from the contents of a row
_IDENTIFIER = re.compile(r"(?i:(^|[\W_])(id|uuid|guid)([\W_]|$))|[a-z]I[Dd]$|(?i:^(index|row|rownames|unnamed: 0)$)")
FEW = 20  # rows; in fewer, consecutive integers may be a measurement


@dataclass(frozen=True, eq=False)
class RowIds:
    """Identifiers of the n rows of a table.

    Attributes:
        name: the column of the table that they come from, or :data:`DIGEST`.
        ids: text [n]: the column's values, or a digest of each row's contents, which only equal rows share.
        numbers: int64 [n], the number of each row in the file of the table, from 0.
    """

    name: str
    ids: NDArray[Any]
    numbers: NDArray[np.int64]

    @classmethod
    def of(cls, frame: Any) -> "RowIds":
        """The identifiers of a pandas frame whose index numbers its rows: its first column that is named as an
        identifier, if its values differ, else digests."""
        numbers = frame.index.to_numpy()
        for name in frame.columns:
            if is_identifier(frame[name]) and frame[name].is_unique and frame[name].notna().all():
                return cls(str(name), frame[name].astype(str).to_numpy(), numbers)
        return cls(DIGEST, _digests(frame), numbers)

    def columns(self) -> dict[str, Any]:
        """What names the rows in a file: their identifiers, beside digests also their numbers."""
        return ({"row": self.numbers} if self.name == DIGEST else {}) | {self.name: self.ids}


def is_identifier(column: Any) -> bool:
    """Whether a pandas column of integers or text is named as an identifier (id, patient_id, index), or of consecutive
    integers in any order, each once."""
    if column.dtype.kind not in "iuOTUS":
        return False
    if _IDENTIFIER.search(str(column.name)):
        return True
    consecutive = column.dtype.kind in "iu" and len(column) > FEW and column.max() - column.min() == len(column) - 1
    return bool(consecutive and column.is_unique)


def _digests(frame: Any) -> NDArray[Any]:
    """64 bits of each row's values, whatever the types in which a file stores them."""
    from pandas.util import hash_pandas_object  # slow to import

    plain = {
        j: frame[name].astype(float if frame[name].dtype.kind in "biuf" else str)
        for j, name in enumerate(frame.columns)
    }
    hashes = hash_pandas_object(type(frame)(plain), index=False).tolist()
    return np.array([f"x{value:016x}" for value in hashes], dtype=object)


def read_weights(path: Path, n: int, rows: RowIds | None = None) -> tuple[Floats, str]:
    """The weights [n] in the column ``weight`` of a .csv or .parquet file, in the order of the table, and a remark
    if their rows could not be compared, or were in another order.

    Args:
        rows: of the table; None takes the weights in the order of the file.

    Raises:
        UserError: no such file or column, values that are not finite numbers, not n rows, or those of another table.
    """
    frame = read_table(path)
    check_columns(frame, path.name, ["weight"], "columns")
    weights = as_column(frame["weight"], "weight")
    if len(weights) != n:
        raise UserError(f"{path} has {len(weights):,} weights for {n:,} rows: compute weights for the same rows")
    if rows is None:
        return weights, ""
    if rows.name not in frame:
        return weights, f"{path.name} has no column {rows.name}: its weights are taken in the order of the rows"
    given, known = (_canonical(ids) for ids in (frame[rows.name].astype(str).to_numpy(), rows.ids))
    if (given == known).all():
        return weights, ""
    theirs, ours = (np.argsort(ids, kind="stable") for ids in (given, known))
    if (given[theirs] != known[ours]).any():
        strange = int((~np.isin(known, given)).sum())
        raise UserError(
            f"{path} is not of these rows: {strange or 'some'} of {n:,} are not in it, according to its column "
            f"{rows.name}: compute weights for this table"
        )
    ordered = np.empty_like(weights)
    ordered[ours] = weights[theirs]  # rows of the same digest are equal: it does not matter which is which
    return ordered, f"{path.name} has the rows in another order: its weights are assigned by {rows.name}"


def _canonical(ids: NDArray[Any]) -> NDArray[Any]:
    """Without leading zeros, which a .csv file of numbers does not keep."""
    return np.array([text.lstrip("0") or "0" if text.isdecimal() else text for text in ids.tolist()], dtype=object)
