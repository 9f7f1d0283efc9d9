"""Paths that users give, and the directory of named data sets, of images and of tables. Imports nothing heavy."""

import os
import re
import stat
from pathlib import Path

from contrastkit.errors import UserError


def given_path(path: str | Path) -> Path:
    """A path as a user gives it, with ~ expanded.

    Raises:
        UserError: it is empty, or of a user who does not exist.
    """
    if not str(path):
        raise UserError("a path is empty: name a file or a folder")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{path}: no such user, whose home folder ~ could be") from error


def local_path(path: str | Path) -> Path:
    """:func:`given_path` of what is read or written on this machine alone.

    Raises:
        UserError: it is the URL of a place elsewhere, which would be taken for a folder named "s3:"; or see there.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(path)):
        raise UserError(f"{path} is a URL, but must be a path on this machine: mount or copy what lies elsewhere")
    return given_path(path)


def require_file(path: Path, hint: str = "") -> None:
    """Check that a path is a file that can be read.

    Args:
        hint: appended to the message if there is none.

    Raises:
        UserError: there is no such file, it is a folder or a device, or there is no permission to read it.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            os.close(os.open(path, os.O_RDONLY))
            return
    except FileNotFoundError as error:
        raise UserError(f"no such file: {path}{hint}") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    raise UserError(f"{path} is {'a folder' if stat.S_ISDIR(mode) else 'no regular file'}: give a file")


def current_folder() -> str | None:
    """The absolute path of the folder in which this process runs; None if it is no longer there."""
    try:
        return os.getcwd()
    except OSError:
        return None


def data_directory(explicit: Path | None = None, recorded: Path | None = None) -> Path | None:
    """The absolute path of the directory of named data sets, or None.

    The order of precedence: ``explicit``; ``recorded`` by a run, if it still exists; $CONTRASTKIT_DATA; ``recorded``.
    """
    if explicit is None and (recorded is None or not recorded.is_dir()):
        explicit = Path(os.environ["CONTRASTKIT_DATA"]) if os.environ.get("CONTRASTKIT_DATA") else None
    directory = explicit or recorded
    return None if directory is None else given_path(directory).resolve()
