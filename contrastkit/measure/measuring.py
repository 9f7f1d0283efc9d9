"""All that `contrastkit measure` reports."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from contrastkit.bounds import AT_LEAST_2, SEED
from contrastkit.directories import given_path
from contrastkit.errors import UserError
from contrastkit.evaluate.fit import require_same_kind, require_size
from contrastkit.evaluate.subject import EvaluationSubject, OnProgress
from contrastkit.loading import load_encoder
from contrastkit.measure import shifting, similarity
from contrastkit.measure.elsewhere import open_other
from contrastkit.measure.numbers import VIEWED, Drawn, Numbers, draw, numbers
from contrastkit.measure.shifting import Changes, Shift
from contrastkit.measure.similarity import Cka
from contrastkit.measure.views import Pair, positive_pair
from contrastkit.parts.build import set_image_size
from contrastkit.run import Run
from contrastkit.types import Modality

IMAGES, VIEWS_PER_IMAGE = 5000, 10
Other = tuple[str, Any, int]  # name, encoder, side of its images


@dataclass(frozen=True, slots=True)
class MeasureReport:
    """Result of :func:`measure`."""

    data: str  # name of the data set
    split: str
    modality: Modality
    size: int  # side in pixels of the images; of sounds, length in samples
    seed: int
    images: int  # drawn from the split
    viewed: int  # of these, for LiDAR and alignment
    views_per_image: int
    views: Pair  # the two augmentations from which these are drawn in turn
    views_of: str  # whose they are, such as "the run's own"
    numbers: dict[str, Numbers]  # of each encoder
    cka: Cka | None
    shift: Shift | None
    notices: tuple[str, ...] = ()  # what a reader of the numbers should know, one line each

    def as_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "notices"}


def measure(
    subject: EvaluationSubject,
    *,
    split: Literal["train", "test"] = "train",
    images: Annotated[int, AT_LEAST_2] = IMAGES,
    views_per_image: Annotated[int, AT_LEAST_2] = VIEWS_PER_IMAGE,
    views: str | None = None,
    cka: str | Path | None = None,
    shift: bool = False,
    shift_data: str | None = None,
    data_dir: Path | None = None,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> MeasureReport:
    """Numbers of each encoder's features that need no labels, and accuracy under shift.

    Args:
        split: the part of the data set whose images are drawn.
        images: how many, drawn by the seed.
        views_per_image: for LiDAR and alignment, of at most 1,000 of these images.
        views: a row of :data:`contrastkit.augment.VIEWS`; None is the run's own.
        cka: another run, with whose layers those of the first encoder are compared.
        shift: test kNN and linear probe on corrupted test images (:mod:`contrastkit.measure.corruptions`).
        shift_data: another set to test them on, with classes of the same names.
        data_dir: directory of named data sets, for ``shift_data``; None is the run's, else $CONTRASTKIT_DATA.

    Raises:
        UserError: no such part, fewer than two images that can be read (four for CKA), features that are not finite, no
            labels or no test part for a shift, or a run or a set that does not fit.
    """
    AT_LEAST_2.check("--images", images, whole=True)
    AT_LEAST_2.check("--views-per-image", views_per_image, whole=True)
    SEED.check("--seed", seed, whole=True)
    changes = _changes(subject, shift, shift_data, data_dir, seed)
    other = None if cka is None else _encoder(given_path(cka), subject)
    drawn = draw(subject, split, images, seed)
    pair, whose = positive_pair(subject, views)
    found, notices = numbers(drawn, pair, whose, q=views_per_image, seed=seed, on_progress=on_progress)
    alike = None if other is None else _alike(drawn, other, on_progress)
    shifted = None
    if changes is not None:
        shifted, more = shifting.shift(subject, changes, seed=seed, on_progress=on_progress)
        notices += more
    return MeasureReport(
        data=subject.data.name,
        split=split,
        modality=subject.data.train.modality,
        size=subject.size,
        seed=seed,
        images=(n := len(drawn.readable())),
        viewed=min(n, VIEWED),
        views_per_image=views_per_image,
        views=pair,
        views_of=whose,
        numbers=found,
        cka=alike,
        shift=shifted,
        notices=tuple(dict.fromkeys(notices)),
    )


def _changes(
    subject: EvaluationSubject, shift: bool, shift_data: str | None, data_dir: Path | None, seed: int
) -> Changes | None:
    """The changed test images, opened and checked; None if none are asked for."""
    if not shift and shift_data is None:
        return None
    _require_labels(subject, "--shift" if shift else "--shift-data")
    other = None if shift_data is None else open_other(subject, shift_data, data_dir)
    return shifting.prepare(subject, corrupt=shift, other=other, seed=seed)


def _require_labels(subject: EvaluationSubject, option: str) -> None:
    try:
        subject.labelled_parts()
    except UserError as error:
        raise UserError(f"{option} needs labels and a test part: {error}") from error


def _encoder(path: Path, subject: EvaluationSubject) -> Other:
    """The encoder of another run, for the subject's images.

    Raises:
        UserError: no run, one of other data, or a subject without layers.
    """
    if next(iter(subject.encoders.values())) is None:
        raise UserError("--cka compares the layers of encoders, and raw pixels have none")
    run = Run.open(path)
    record = run.record
    require_same_kind(path, record.data, subject.data)
    encoder, size = load_encoder(run, record), record.encoder["size"]
    require_size(record.encoder["name"], size)
    set_image_size(encoder, size)
    return str(path), encoder, size


def _alike(drawn: Drawn, other: Other, on_progress: OnProgress | None) -> Cka:
    subject, rows, completed = drawn.subject, drawn.readable(), 0
    name, encoder = next(iter(subject.encoders.items()))
    assert encoder is not None

    def count(n: int) -> None:
        nonlocal completed
        completed += n
        if on_progress is not None:
            on_progress(f"comparing layers of {name} and {other[0]}", completed, len(rows))

    return similarity.cka(
        [(name, encoder, subject.size), other],
        drawn.source.subset(rows),
        batch=subject.batch,
        workers=subject.workers,
        max_bad=subject.max_bad,
        device=subject.device,
        on_batch=count,
    )
