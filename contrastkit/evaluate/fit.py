"""Whether a run, its data set and a size fit together."""

import math
from pathlib import Path

from contrastkit.bounds import SIDE
from contrastkit.data import DataSet, Source
from contrastkit.errors import UserError
from contrastkit.memory import require_room
from contrastkit.parts.wave import WAVES
from contrastkit.record import DataRecord


def require_same_kind(run: Path, trained_on: DataRecord, data: DataSet) -> None:
    """Check that a data set is of the kind that a run was trained on.

    Args:
        trained_on: the run's record of its data set.

    Raises:
        UserError: it is not.
    """
    source = data.train
    if trained_on.rate != source.sample_rate:
        rates = trained_on.rate, source.sample_rate
        kinds = ["images" if rate is None else f"sounds at {rate:,} Hz" for rate in rates]
        raise UserError(f"{run} was trained on {kinds[0]}, but {data.name} has {kinds[1]}")
    modalities = [list((part or {}).items()) for part in (trained_on.modalities, source.modalities)]
    if modalities[0] != modalities[1]:  # the order matters
        kinds = [", ".join(name for name, _ in part) or "images" for part in modalities]
        raise UserError(f"{run} was trained on {kinds[0]}, but {data.name} has {kinds[1]}")


def require_unchanged(run: Path, trained_on: DataRecord, data: DataSet) -> None:
    """Check that a run's own data set is still what it was trained on: split anew, its test part might hold images that
    the run has seen.

    Raises:
        UserError: it is not.
    """
    images, source = trained_on.images, data.pretrain
    if what := source.changed_since(trained_on.fingerprint):
        if len(source) != images:
            what = f"{len(source):,} {source.modality.plural}, not {images:,}"
        raise UserError(
            f"{data.name} has changed since {run} was trained on it: it has {what}, and its test part may hold some "
            "that were trained on; name the set to test on with --data"
        )


def require_size(encoder: str, size: int) -> None:
    """Check that an encoder can take images of this side, or sounds of this length.

    Raises:
        UserError: images too small or too large, or sounds shorter than one frame of their encoder.
    """
    if encoder not in WAVES:
        SIDE.check("--size", size, whole=True)
    elif size < (frame := math.prod(WAVES[encoder]["strides"])):
        raise UserError(f"{size} samples are less than a frame of {frame}: raise --size")


def require_batch(source: Source, batch: int, size: int) -> None:
    """Check that a batch of float32 images of this side, or of sounds of this length, fits into memory.

    Raises:
        UserError: it does not.
    """
    modality = source.modality
    numbers = min(batch, len(source)) * source.channels * (size**2 if modality.has_pixels else size)
    require_room(4 * numbers, f"a batch of {batch} {modality.plural} of {size:,} {modality.unit}", "--batch or --size")
