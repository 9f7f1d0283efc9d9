"""Atomic file writes, and checkpoints that load without executing code."""

import contextlib
import errno
import os
import pickle
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from contrastkit.errors import UserError

FORMAT = 1


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that replaces it when the block has ended and the data are on disk.

    A crash at any time leaves either the old file or the new one, never a part; an error removes the temporary file.

    Raises:
        UserError: no space left.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise UserError(
                f"no space left to write {path}: free some, then --resume; the previous file is intact"
            ) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8; what it cannot encode, such as bytes of a file name, is escaped."""
    with atomic(path) as temporary:
        temporary.write_text(text, "utf-8", "backslashreplace")


def write_with(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file with ``write``, atomically."""
    with atomic(path) as temporary:
        write(temporary)


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint of tensors and plain values, atomically."""
    import torch  # takes seconds, not needed to write text

    def fill(temporary: Path) -> None:
        with open(temporary, "wb") as file:
            try:
                torch.save({"format": FORMAT, **state}, file)
            except RuntimeError as error:  # raised by torch's zip writer after a failed write
                raise error.__context__ if isinstance(error.__context__, OSError) else error from None

    write_with(path, fill)


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint.

    Raises:
        UserError: missing, truncated, of another program, or of a newer format.
        OSError: it cannot be read, as without permission.
    """
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist: the run has saved no checkpoint yet") from error
    except (RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise UserError(f"{path} is not a readable checkpoint (truncated, or of another program)") from error
    if not isinstance(state, dict) or "format" not in state:
        raise UserError(f"{path} is not a checkpoint of contrastkit")
    if state["format"] != FORMAT:
        raise UserError(
            f"{path} has format {state['format']}, this version reads format {FORMAT}: "
            "use the contrastkit that wrote it"
        )
    return state


def sweep(folder: Path) -> None:
    """Remove temporary files left in ``folder`` by a killed process."""
    for leftover in folder.glob(".*.tmp"):
        leftover.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
