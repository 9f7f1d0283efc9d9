"""What files a command may write: none that cannot be written, that it reads, or that another option writes."""

import inspect
import os
import stat
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from typer.models import ParameterInfo

from contrastkit.errors import UserError


def writable(path: Path | None) -> Path | None:
    """The path of an output file; one that cannot be written is refused before the work starts."""
    if path is not None and (reason := _unwritable(path)) is not None:
        raise typer.BadParameter(f"{path} cannot be written: {reason}")
    return path


def _unwritable(path: Path) -> str | None:
    """Why a file cannot be written; None if it can."""
    try:
        if path.is_dir():
            return "it is a folder"
        place = path if path.exists() and not path.is_file() else path.parent  # a device or a pipe; a file's folder
        if place == path.parent and not stat.S_ISDIR(place.stat().st_mode):
            return f"{place} is no folder"
    except FileNotFoundError:
        return f"no such folder: {path.parent}"
    except OSError as error:
        return error.strerror
    return None if os.access(place, os.W_OK) else "no permission"


def out_file(what: str, suffix: str, *, default: str = "") -> Any:
    """The option of an output file; ``default`` names it where it is chosen later."""
    to = f"this {suffix} FILE" + (f" \\[{default}]" if default else "")
    return typer.Option(help=f"Write {what} to {to}.", metavar="FILE", callback=writable)


def is_output(parameter: inspect.Parameter) -> bool:
    """Whether an option names a file to write."""
    notes = typing.get_args(parameter.annotation)
    return any(isinstance(note, ParameterInfo) and note.callback is writable for note in notes)


def require_own_files(values: Mapping[str, Any], flags: Mapping[str, str], outputs: Sequence[str]) -> None:
    """Check that no output is a file that another option reads or writes. Devices, as ``/dev/stdout``, may be shared.

    Args:
        values: those of all options, by parameter. flags: the options as they are typed, by parameter.
        outputs: the parameters that name files to write.

    Raises:
        UserError: one is.
    """
    for name in outputs:
        path = values[name]
        if path is None or (path.exists() and not path.is_file()):
            continue
        for other, value in values.items():
            if other == name or not any(_same(path, each) for each in _paths(value)):
                continue
            if other in outputs:
                raise UserError(f"{flags[other]} and {flags[name]} are both {path}: give each a file of its own")
            raise UserError(f"{flags[name]} {path} would overwrite the file of {flags[other]}: give another file")


def _paths(value: Any) -> list[str]:
    """What may be paths in the value of an option: of a list, as of columns and files, all of them."""
    values = value if isinstance(value, list | tuple) else [value]
    return [part for each in values if isinstance(each, str | Path) for part in {str(each), *str(each).split(",")}]


def _same(path: Path, other: str) -> bool:
    """Whether two paths lead to the same file, be it there or not."""
    return bool(other) and os.path.realpath(path) == os.path.realpath(other)
