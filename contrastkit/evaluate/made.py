"""What made a report in a run folder: with which command, of which weights and on which data; whether the weights are
those of the run."""

import hashlib
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from contrastkit import schema
from contrastkit.directories import current_folder
from contrastkit.errors import UserError
from contrastkit.evaluate.origin import encoder_hash
from contrastkit.evaluate.subject import EvaluationSubject
from contrastkit.loading import load_encoder
from contrastkit.parts.build import set_image_size
from contrastkit.run import ENCODER, Run
from contrastkit.version import __version__


@dataclass(frozen=True, kw_only=True)
class Made:
    """The entry ``made`` of a report.

    Attributes:
        command: the program and its arguments.
        folder: in which it was called; None if that is not known.
        contrastkit: the version.
        weights: of the first encoder, see :func:`contrastkit.evaluate.origin.encoder_hash`.
        data: fingerprint of the data set, see :meth:`contrastkit.data.DataSet.fingerprint`; None if an earlier version
            wrote the report, which did not record it.
        pictures: of each picture that was drawn with the report, its name and :func:`file_hash`.
    """

    command: list[str]
    folder: str | None
    contrastkit: str
    weights: str
    data: str | None
    pictures: dict[str, str]


def made(subject: EvaluationSubject, pictures: Iterable[Path | None] = ()) -> dict[str, Any]:
    """The entry ``made`` of what this process reports of a subject; None among the pictures are those not drawn."""
    drawn = {picture.name: file_hash(picture) for picture in pictures if picture is not None and picture.is_file()}
    weights = encoder_hash(next(iter(subject.encoders.values())))
    values = Made(
        command=sys.argv,
        folder=current_folder(),
        contrastkit=__version__,
        weights=weights,
        data=subject.data.fingerprint(),
        pictures=drawn,
    )
    return {"made": asdict(values)}


def maker(values: Mapping[str, Any]) -> Made | None:
    """The entry ``made`` of a report; None if an earlier version wrote it, which did not record that.

    Raises:
        UserError: it is damaged.
    """
    if (entry := values.get("made")) is None:
        return None
    return schema.instance(Made, {"data": None} | entry if isinstance(entry, dict) else entry, "made")


def weights_of(run: Path, size: int | None = None) -> str | None:
    """:func:`encoder_hash` of the encoder in a run folder; None if it cannot be loaded here.

    Args:
        size: of the images that it was given, which a vision transformer's positions follow; None is as trained.

    Raises:
        UserError: no run, or its record is damaged.
    """
    opened = Run.open(run)
    record = opened.record
    try:
        encoder = load_encoder(opened, record)
        set_image_size(encoder, record.encoder["size"] if size is None else size)
    except UserError:
        return None
    return encoder_hash(encoder)


def why_stale(file: Path, made: Made | None, weights: str | None) -> str:
    """Why a report is not one of the encoder in its folder; "" if it is.

    The dates of the files decide only where the weights cannot: those of the report or of the run are not known.

    Args:
        weights: of the encoder, :func:`weights_of`.
    """
    if made is not None and weights is not None:
        return "" if made.weights == weights else f"{file.name} is of other weights than those of the run now"
    encoder = file.parent / ENCODER
    if encoder.exists() and file.stat().st_mtime < encoder.stat().st_mtime:
        return f"{file.name} is older than the run's encoder"
    return ""


def file_hash(file: Path) -> str:
    """16 hexadecimal digits of the SHA-256 of a file."""
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()[:16]
