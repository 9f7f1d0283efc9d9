"""Named arrays in .npz files."""

import contextlib
import io
import math
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from contrastkit.checkpoint import atomic
from contrastkit.directories import require_file
from contrastkit.errors import UserError
from contrastkit.memory import available_memory

HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def npz_names(path: Path, what: str = "an .npz file") -> list[str]:
    """The names of the arrays in an .npz file, none of which is read.

    Args, raises: as of :func:`read_npz`.
    """
    with _archive(path, what) as archive:
        return list(archive.files)


def read_npz(
    path: Path | io.BytesIO, what: str = "an .npz file", *, names: Collection[str] | None = None
) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file by name.

    Args:
        path: or the bytes of a file, whose ``str`` is its name in messages.
        what: what the file should be, for the message.
        names: the arrays to read, where they are there; None reads all.

    Raises:
        UserError: the file cannot be read, is damaged, no .npz file, or contains Python objects; or the arrays do not
            fit in memory, by their headers: a small file can hold arrays of any size.
    """
    with _archive(path, what) as archive:
        wanted = [name for name in archive.files if names is None or name in names]
        total = sum(_bytes(archive, name) for name in wanted)
        if total > (free := available_memory()):
            raise UserError(
                f"{path}: {', '.join(wanted)} take {total / 1e9:,.1f} GB of memory, of which {free / 1e9:,.1f} GB are "
                "free: store fewer images, or image files in a folder"
            )
        return {name: archive[name] for name in wanted}


@contextlib.contextmanager
def _archive(path: Path | io.BytesIO, what: str) -> Iterator[Any]:
    if isinstance(path, Path):
        require_file(path)
    try:
        with open(path, "rb") if isinstance(path, Path) else path as file:
            if (start := file.read(6)) == npy.MAGIC_PREFIX:
                raise ValueError("it holds a single array, as an .npy file does")
            if not start.startswith(b"PK"):
                raise ValueError("it is no archive of arrays")  # numpy would advise to unpickle it
            file.seek(0)
            yield np.load(file, allow_pickle=False)
    except (MemoryError, UserError):
        raise
    except Exception as error:  # damaged files raise almost anything (BadZipFile, zlib.error, TokenError, ...)
        raise UserError(
            f"{path} cannot be read as {what} (damaged, truncated, or containing Python objects): {error}"
        ) from error


def _bytes(archive: Any, name: str) -> int:
    """The size of an array, from its header."""
    if f"{name}.npy" not in archive.zip.namelist():
        raise ValueError(f"{name!r} is not an array")
    with archive.zip.open(f"{name}.npy") as member:
        version = npy.read_magic(member)
        if version not in HEADERS:
            raise ValueError(f"{name!r} has a structured type")  # the only use of version 3
        shape, _, dtype = HEADERS[version](member)
    return math.prod(shape) * int(dtype.itemsize)


def write_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays to an .npz file, atomically.

    Raises:
        UserError: no space left.
    """
    with atomic(path) as temporary, open(temporary, "wb") as file:  # a file object: numpy would add a suffix to a name
        np.savez(file, **arrays)
