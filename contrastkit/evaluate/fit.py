"""Whether a run, its data set, a size and an evaluation fit together."""

import math
from pathlib import Path

from torch import nn

from contrastkit.bounds import SIDE
from contrastkit.data import DataSet, Source
from contrastkit.errors import UserError
from contrastkit.memory import require_room
from contrastkit.methods.labels import uses_labels
from contrastkit.parts.encoder import SplitEncoder
from contrastkit.parts.wave import WAVES
from contrastkit.record import DataRecord, Record


def require_same_kind(run: Path, trained_on: DataRecord, data: DataSet) -> None:
    """Check that a data set is of the kind that a run was trained on.

    Args:
        trained_on: the run's record of its data set.

    Raises:
        UserError: it is not.
    """
    known = trained_on.rate, trained_on.modalities
    _require_kind(f"{run} was trained on", known, data.name, data.train)


def require_kind_of(data: DataSet, name: str, other: Source) -> None:
    """Check that another source, by that name in messages, is of the kind of a data set's.

    Raises:
        UserError: it is not.
    """
    _require_kind(f"{data.name} has", (data.train.sample_rate, data.train.modalities), name, other)


def _require_kind(whose: str, known: tuple[int | None, dict[str, int] | None], name: str, source: Source) -> None:
    (rate, modalities), kinds = known, list[str]()
    if rate != source.sample_rate:
        kinds = ["images" if each is None else f"sounds at {each:,} Hz" for each in (rate, source.sample_rate)]
    elif list((modalities or {}).items()) != list((source.modalities or {}).items()):  # the order matters
        kinds = [", ".join(each or {}) or "images" for each in (modalities, source.modalities)]
    if kinds:
        raise UserError(f"{whose} {kinds[0]}, but {name} has {kinds[1]}")


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


def trained_on_these(run: Path, record: Record) -> str:
    """What to know of a run that was trained on images that it is evaluated on."""
    how = {
        None: "",
        True: ", with their labels: its accuracy says nothing about other images",
        False: ", without their labels",
    }[uses_labels(record, run)]
    return f"{run} was trained on images that it is evaluated on here{how}"


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


def applicable(encoder: nn.Module, data: DataSet, *, captions: bool = False) -> tuple[str, ...]:
    """The names of the evaluations that apply to an encoder on a data set: knn and probe need labels, retrieve needs an
    encoder for each of several views or one trained on ``captions``, all need a test part; if none applies, embed."""
    if (test := data.test) is None:
        return ("embed",)
    split = isinstance(encoder, SplitEncoder) or (captions and test.captions is not None)
    labelled = all(part.labels is not None and bool((part.labels >= 0).any()) for part in (data.train, test))
    return (("knn", "probe") if labelled else ()) + (("retrieve",) if split else ()) or ("embed",)
