"""What made a report in a run folder: with which command, and of which weights."""

import hashlib
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from contrastkit import schema
from contrastkit.directories import current_folder
from contrastkit.evaluate.origin import encoder_hash
from contrastkit.version import __version__


@dataclass(frozen=True, kw_only=True)
class Made:
    """The entry ``made`` of a report.

    Attributes:
        command: the program and its arguments.
        folder: in which it was called; None if that is not known.
        contrastkit: the version.
        weights: of the first encoder, see :func:`contrastkit.evaluate.origin.encoder_hash`.
        pictures: of each picture that was drawn with the report, its name and :func:`file_hash`.
    """

    command: list[str]
    folder: str | None
    contrastkit: str
    weights: str
    pictures: dict[str, str]

    @classmethod
    def from_json(cls, values: Any) -> "Made":
        """
        Raises:
            UserError: it is damaged.
        """
        if isinstance(values, dict):
            values = {"folder": None} | values  # earlier versions did not record it
        return schema.instance(cls, values, "made")


def made(encoder: nn.Module | None, pictures: Iterable[Path | None] = ()) -> dict[str, Any]:
    """The entry ``made`` of what this process reports of an encoder; None among the pictures are those not drawn."""
    drawn = {picture.name: file_hash(picture) for picture in pictures if picture is not None and picture.is_file()}
    weights = encoder_hash(encoder)
    values = Made(command=sys.argv, folder=current_folder(), contrastkit=__version__, weights=weights, pictures=drawn)
    return {"made": asdict(values)}


def file_hash(file: Path) -> str:
    """16 hexadecimal digits of the SHA-256 of a file."""
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()[:16]
