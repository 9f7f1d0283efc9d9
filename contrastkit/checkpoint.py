"""Atomic file writes, and checkpoints that load without executing code."""

import contextlib
import errno
import json
import math
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contrastkit.errors import RESUME, UserError, explain

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1


@contextlib.contextmanager
def atomic(path: Path, *, new: bool = False) -> Iterator[Path]:
    """A temporary path beside ``path`` that replaces it when the block has ended and the data are on disk.

    A crash at any time leaves either the old file or the new one, never a part; an error removes the temporary file.
    A symbolic link stays, and the file to which it leads is replaced. What must not be replaced, a device, a pipe or
    the file to which standard output goes, is written through: it gets the data when the block has ended.

    Args:
        new: never replace a file: of several processes that write the same one, only the first succeeds.

    Raises:
        UserError: no space left.
        FileExistsError: with ``new``, the file exists.
    """
    stream = _stream(path)
    target = Path(os.path.realpath(path))
    folder = target.parent if stream is None else tempfile.gettempdir()
    handle, name = tempfile.mkstemp(prefix=f".{target.name[:50]}.", suffix=".tmp", dir=folder)
    os.close(handle)
    temporary = Path(name)
    try:
        with _no_space_is_told(path):
            yield temporary
            if stream is None:
                _put(temporary, target, new=new)
            else:
                with open(temporary, "rb") as source, open(stream, "ab", closefd=isinstance(stream, Path)) as through:
                    shutil.copyfileobj(source, through)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _no_space_is_told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise UserError(f"no space left to write {path}: free some{RESUME}") from error
        raise


def _put(temporary: Path, target: Path, *, new: bool) -> None:
    """Give the data of a temporary file, once they are on disk, their name."""
    with open(temporary, "rb+") as file:
        os.fsync(file.fileno())
    os.chmod(temporary, 0o666 & ~_umask())
    if new:
        _link(temporary, target)
    else:
        os.replace(temporary, target)
    _sync_folder(target.parent)


def _link(temporary: Path, target: Path) -> None:
    """Rename a file, unless the new name exists."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if target.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        os.replace(temporary, target)


def _stream(path: Path) -> Path | int | None:
    """What to write through: a device, a pipe or a socket, or this process's own standard output or error, by number.
    None for a file, which is replaced."""
    try:
        status = path.stat()
    except OSError:
        return None
    for handle in (1, 2):
        with contextlib.suppress(OSError):  # closed
            if os.path.samestat(status, os.fstat(handle)):
                return handle
    return None if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode) else path


def write_text(path: Path, text: str, *, new: bool = False) -> None:
    """Write a text file atomically, in UTF-8; what it cannot encode, such as bytes of a file name, is escaped.

    ``new`` is that of :func:`atomic`.
    """
    with atomic(path, new=new) as temporary:
        temporary.write_text(text, "utf-8", "backslashreplace")


def write_json(path: Path, value: Any) -> None:
    """Write a report atomically; NaN and infinity become null."""
    write_text(path, json.dumps(_finite(value), indent=2, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def append_text(path: Path, text: str) -> None:
    """Append to a text file, encoded as by :func:`write_text`. A crash may leave a part of the text.

    Raises:
        UserError: no space left.
    """
    with _no_space_is_told(path), open(path, "a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)


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


def save_tensors(path: Path, tensors: Mapping[str, "Tensor"], metadata: Mapping[str, str]) -> None:
    """Write a .safetensors file, atomically. Equal contents make equal files: the metadata keep their order, which the
    library itself writes differently in each process."""
    from safetensors.torch import save as serialized

    stored = serialized({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    end = 8 + int.from_bytes(stored[:8], "little")  # the length of the header, the header as JSON, the tensors
    header = json.dumps({"__metadata__": dict(metadata), **json.loads(stored[8:end])}).encode()
    header += b" " * (-len(header) % 8)  # the tensors are aligned

    def fill(temporary: Path) -> None:
        with open(temporary, "wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            file.write(memoryview(stored)[end:])

    write_with(path, fill)


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint.

    Raises:
        UserError: missing, truncated, of another program, or of a newer format.
        OSError: it cannot be read, as without permission.
    """
    import torch

    try:
        require_stored(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist: the run has saved no checkpoint yet") from error
    except Exception as error:  # damaged bytes make the unpickler raise almost anything
        if explain(error) is not None:  # it cannot be read, or there is no memory for it
            raise
        raise UserError(f"{path} is not a readable checkpoint (truncated, or of another program)") from error
    if not isinstance(state, dict) or not isinstance(state.get("format"), int):
        raise UserError(f"{path} is not a checkpoint of contrastkit")
    if state["format"] != FORMAT:
        raise UserError(
            f"{path} has format {state['format']}, this version reads format {FORMAT}: "
            "use the contrastkit that wrote it"
        )
    return state


def require_stored(path: Path) -> None:
    """Check that the entries of a checkpoint are stored as they are, as torch writes them, and together fit into the
    file: a small file of compressed or overlapping entries could fill the memory.

    Raises:
        BadZipFile: they do not, or it is no zip file.
    """
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
    if not stored or sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise zipfile.BadZipFile("entries that are larger than the file")


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
