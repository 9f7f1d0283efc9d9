"""Named arrays in .npz files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrastkit.checkpoint import atomic
from contrastkit.errors import UserError


def read_npz(path: Path, what: str = "an .npz file") -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file by name.

    Args:
        what: what the file should be, for the message.

    Raises:
        UserError: the file is damaged, no .npz file, or contains Python objects.
    """
    try:
        with open(path, "rb") as file:
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise ValueError("it holds a single array, as an .npy file does")
            arrays = {key: archive[key] for key in archive.files}
    except Exception as error:  # damaged files raise almost anything (BadZipFile, zlib.error, TokenError, ...)
        raise UserError(
            f"{path} cannot be read as {what} (damaged, truncated, or containing Python objects): {error}"
        ) from error
    if stray := [key for key, value in arrays.items() if not isinstance(value, np.ndarray)]:
        raise UserError(f"{path} cannot be read as {what}: {stray[0]!r} is not an array")
    return arrays


def write_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays to an .npz file, atomically.

    Raises:
        UserError: no space left.
    """
    with atomic(path) as temporary, open(temporary, "wb") as file:  # a file object: numpy would add a suffix to a name
        np.savez(file, **arrays)
