"""A few of the labelled images: the same ones for every encoder, whatever the order of the set."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor

from contrastkit.bounds import COUNT, Interval, check_fields
from contrastkit.data import Source
from contrastkit.errors import UserError, listed
from contrastkit.evaluate.features import labelled
from contrastkit.evaluate.identity import identities

FOLDS = 5  # one in this many labelled images of a class is held out to choose a learning rate


@dataclass(frozen=True, kw_only=True)
class FewLabels:
    """Which of the labelled training images are used; at most one of the fields, by default all images.

    Attributes:
        labels_per_class: this many of each class.
        label_fraction: this share of each class.
        label_list: a text file that names them, one in a line, by path or file name, as SimCLR's for ImageNet do
            (google-research/simclr, imagenet_subsets/1percent.txt).
    """

    labels_per_class: Annotated[int | None, COUNT] = None
    label_fraction: Annotated[float | None, Interval(0, 1, above=True)] = None
    label_list: Path | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        given = [name for name, value in vars(self).items() if value is not None]
        if len(given) > 1:
            first, second, *_ = (f"--{name.replace('_', '-')}" for name in given)
            raise UserError(f"{first} and {second} exclude each other: give one of them")


def choose(source: Source, few: FewLabels, seed: int) -> tuple[Source, tuple[str, ...]]:
    """The labelled images that ``few`` asks for, in the order of the source; and what a reader should know.

    Drawn images are those with the smallest hash of (seed, identity) in their class, so the choice depends neither on
    the order of the set nor on its other images, and that of fewer labels is part of that of more. The identity of an
    image is its path within the set; of an image in memory, its pixels.

    Raises:
        UserError: no labels, too few images of a class, a list that cannot be read or does not fit, or images of one
            class only.
    """
    source = labelled(source, "fine-tuning")
    notices: tuple[str, ...] = ()
    assert source.labels is not None
    if few.label_list is not None:
        rows, notices = _listed(source, few.label_list)
    elif few.labels_per_class is None and few.label_fraction is None:
        rows = torch.arange(len(source))
    else:
        drawn = drawing_order(source, seed)
        rows = torch.cat([drawn[source.labels[drawn] == c][:n] for c, n in _counts(source, few).items()]).sort().values
    if len(source.labels[rows].unique()) < 2:
        raise UserError(f"the labelled images of {source.name} are of one class: give images of at least two classes")
    return source.subset(rows), notices


def folds(y: Tensor, drawn: Tensor, group_ids: Tensor | None = None) -> list[tuple[Tensor, Tensor]]:
    """Positions (rest, held out) of the splits on which a learning rate can be chosen: :data:`FOLDS` of them, each
    holding out one in so many images of every class; fewer where no class has as many images, none where none has two.
    Each image is held out once at most. Images of one group stay together.

    Args:
        y: int64 [N], the classes.
        drawn: int64 [N], all positions, in the order in which they are dealt out to the splits.
        group_ids: int64 [N], see :class:`Source`.
    """
    unit = torch.arange(len(y)) if group_ids is None else group_ids.unique(return_inverse=True)[1]
    fold = torch.empty(len(y), dtype=torch.int64)
    of_unit: dict[int, int] = {}
    for c in y.unique():
        place = 0
        for i in drawn[y[drawn] == c].tolist():
            key = int(unit[i])
            if key not in of_unit:
                of_unit[key], place = place % FOLDS, place + 1
            fold[i] = of_unit[key]
    splits = [((fold != k).nonzero()[:, 0], (fold == k).nonzero()[:, 0]) for k in reversed(range(FOLDS))]
    classes = len(y.unique())
    return [(rest, held) for rest, held in splits if len(held) and len(y[rest].unique()) == classes]


def drawing_order(source: Source, seed: int) -> Tensor:
    """All positions, int64 [N], in the order of a hash of the seed and the image's identity; equal ones by position."""
    keys = [hashlib.sha256(f"{seed}\n".encode() + identity).digest() for identity in identities(source)]
    return torch.tensor(sorted(range(len(source)), key=keys.__getitem__), dtype=torch.int64)


def _counts(source: Source, few: FewLabels) -> dict[int, int]:
    """The number of images to draw of each class.

    Raises:
        UserError: a class has too few.
    """
    assert source.labels is not None
    classes, sizes = source.labels.unique(return_counts=True)
    size = dict(zip(classes.tolist(), sizes.tolist(), strict=True))
    if few.labels_per_class is not None:
        n = few.labels_per_class
        if short := {c: have for c, have in size.items() if have < n}:
            worst = min(short.values())
            names = listed([f"{class_name(source, c)} has {have}" for c, have in short.items()], 4)
            raise UserError(
                f"--labels-per-class {n} is more than a class of {source.name} has: {names}; at most {worst}"
            )
        return dict.fromkeys(size, n)
    assert few.label_fraction is not None
    counts = {c: round(few.label_fraction * have) for c, have in size.items()}
    if none := [f"{class_name(source, c)} with {size[c]} images" for c, n in counts.items() if not n]:
        smallest = min(size.values())
        raise UserError(
            f"--label-fraction {few.label_fraction:g} leaves no image of {listed(none, 3)}: give at least "
            f"{1 / smallest:.2g}, or --labels-per-class 1"
        )
    return counts


def class_name(source: Source, label: int) -> str:
    return f"class {label}" if source.classes is None else source.classes[label]


def _listed(source: Source, file: Path) -> tuple[Tensor, tuple[str, ...]]:
    """Positions of the images that a file names.

    Raises:
        UserError: it cannot be read, or names no image, or one name stands for several.
    """
    try:
        lines = file.read_text("utf-8", "surrogateescape").splitlines()
    except OSError as error:
        raise UserError(f"--label-list {file} cannot be read: {error.strerror}") from error
    names = dict.fromkeys(name for line in lines if (name := line.strip()))
    if not source.paths:
        raise UserError(f"--label-list names files, but the images of {source.name} are none: use --labels-per-class")
    of_name: dict[str, list[int]] = {}
    for i, path in enumerate(source.paths):
        for name in {path, path.rpartition("/")[2]}:
            of_name.setdefault(name, []).append(i)
    found = [name for name in names if name in of_name]
    if not found:
        example = f", for example {next(iter(names))}" if names else ""
        raise UserError(f"no labelled image of {source.name} has a name in {file}{example}: one name a line")
    if unclear := next((name for name in found if len(of_name[name]) > 1), None):
        paths = listed([source.paths[i] for i in of_name[unclear]], 3)
        raise UserError(f"{file}: {unclear} may be {paths}: give paths within the set")
    missing = len(names) - len(found)
    notices = (f"{missing:,} of {len(names):,} names in {file} are not of labelled images here",) if missing else ()
    return torch.tensor(sorted({of_name[name][0] for name in found}), dtype=torch.int64), notices
