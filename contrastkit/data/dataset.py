"""A data set, its parts, and splitting off a validation part."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import ImageColor
from torch import Tensor

from contrastkit.data.source import Source, digest
from contrastkit.directories import given_path
from contrastkit.errors import UserError
from contrastkit.rng import permutation

HANDED_OVER = "python:"  # in a run's record, before the name of data that no path names
LAYOUTS = ("NHWC", "NCHW")
COMPARED = 10_000  # files at most that are read to find equal ones


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How files become images, where the files do not say.

    Attributes:
        test_part: the folder beside ``train/`` that is the test part, or the environment that is held out to test on;
            None chooses by the names, or holds out no environment.
        layout: of arrays of four dimensions, "NHWC" or "NCHW"; None goes by their sides.
        stretch: scale images of more than 8 bits by the range of their pixels instead of by that of their type.
        background: the colour under transparent pixels, a name or #rrggbb.
    """

    test_part: str | None = None
    layout: str | None = None
    stretch: bool = False
    background: str = "white"

    def __post_init__(self) -> None:
        if self.layout not in (None, *LAYOUTS):
            raise UserError(f"--layout must be {' or '.join(LAYOUTS)}, not {self.layout}")
        try:
            ImageColor.getrgb(self.background)
        except ValueError as error:
            raise UserError(f"--background: {self.background!r} is no colour: give a name or #rrggbb") from error

    def require_no_choice(self, data: str | Path, cure: str = "") -> None:
        """
        Args:
            cure: appended to the message.

        Raises:
            UserError: a test part is asked for, but the data have no folders to choose it from.
        """
        if self.test_part is not None:
            raise UserError(
                f"--test-part and --hold-out choose among folders beside train/ or of environments, which {data} does "
                f"not have{cure}"
            )


@dataclass(frozen=True)
class DataSet:
    """A set and its parts. ``pretrain`` needs no labels: the training part, for stl10 with its unlabelled images.

    Attributes:
        notices: how the data were understood, one line each.
        whole: of what ``train`` and ``test`` are parts by :func:`with_validation`: its fingerprint.
    """

    name: str
    train: Source
    test: Source | None
    pretrain: Source
    notices: tuple[str, ...] = ()
    whole: str | None = None

    def fingerprint(self) -> str:
        """16 hexadecimal digits that identify the images of ``train`` and ``test`` and their labels, by
        :meth:`Source.fingerprint`; the same whichever of them :func:`with_validation` has drawn."""
        if self.whole is not None:
            return digest(self.whole.encode())
        parts = [part for part in (self.train, self.test) if part is not None]
        return digest(*(part.fingerprint().encode() for part in parts))


@dataclass(frozen=True)
class Request:
    """The data set to open, as the openers are asked for it."""

    data: str  # a name, or a path
    data_dir: Path | None = None  # directory of named sets
    download: bool = False
    reading: Reading = Reading()

    @property
    def path(self) -> Path:
        return given_path(self.data)


def with_validation(dataset: DataSet, fraction: float, seed: int) -> DataSet:
    """The set with a share of its training part as its test part; ``pretrain`` loses these images too."""
    n = len(dataset.train)
    if not 0 < round(fraction * n) < n:
        raise UserError(f"--val-fraction {fraction:g} of {n} images leaves a part empty: choose one between 0 and 1")
    rest, held_out = split(n, dataset.train.group_ids, fraction, seed)
    train, val = dataset.train.subset(rest), dataset.train.subset(held_out)
    dataset = replace(dataset, whole=dataset.train.fingerprint())
    if dataset.test is not None:
        unused = f"the test part is {len(val):,} images of the training part (--val-fraction), not the set's own"
        dataset = replace(dataset, notices=(*dataset.notices, unused))
    if dataset.pretrain is dataset.train:
        return replace(dataset, train=train, test=val, pretrain=train)
    # A separate pretrain part starts with the training part (stl10's "train+unlabeled"): held-out images leave both.
    others = torch.arange(n, len(dataset.pretrain))
    return replace(dataset, train=train, test=val, pretrain=dataset.pretrain.subset(torch.cat([rest, others])))


def with_labelled(dataset: DataSet, labelled: DataSet) -> DataSet:
    """The set to train on, with the parts of a labelled one to evaluate on; no label is trained on.

    Raises:
        UserError: it has no labels, or is of another kind than the images to train on.
    """
    source, train = dataset.pretrain, labelled.train
    if train.labels is None or not (train.labels >= 0).any():
        raise UserError(f"--labelled {labelled.name} has no labels: put its images in one folder per class")
    kinds = [
        f"{s.modality.plural}{f' at {s.sample_rate:,} Hz' if s.sample_rate else ''} of {s.channels} channel(s)"
        + (f" ({', '.join(s.modalities)})" if s.modalities else "")
        for s in (train, source)
    ]
    if kinds[0] != kinds[1] and not (
        train.modality is source.modality and train.channels == 1 and source.channels == 3
    ):
        raise UserError(f"--labelled {labelled.name} has {kinds[0]}, but {dataset.name} has {kinds[1]}")
    counts = f"{len(train):,} training" + (f" and {len(labelled.test):,} test" if labelled.test else "")
    notices = [f"labels for the monitor, knn and probe: {labelled.name}, {counts} {train.modality.plural}"]
    if labelled.test is None:
        notices.append(f"{labelled.name} has no test part for knn and probe: hold one out with --val-fraction 0.2")
    for name, part in {"training": train, "test": labelled.test}.items():
        found = None if part is None else part.found_in(source, COMPARED)
        if part is not None and found is not None and (n := int(found.sum())):
            notices.append(f"{n:,} of the {name} {part.modality.plural} of {labelled.name} are in {dataset.name}, too")
    notices = [*dataset.notices, *labelled.notices, *notices]
    return replace(dataset, train=train, test=labelled.test, whole=labelled.whole, notices=tuple(notices))


def split(n: int, group_ids: Tensor | None, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Hold out ``share`` of n images at random, at least one: positions (rest, held out) in ascending order.

    Images of one group stay together; otherwise near-duplicates of held-out images would remain in the rest.
    """
    group = torch.arange(n) if group_ids is None else group_ids.unique(return_inverse=True)[1]
    order = permutation(seed, 0, int(group.max()) + 1)
    held_out = torch.isin(group, order[: max(1, round(share * len(order)))])
    return (~held_out).nonzero()[:, 0], held_out.nonzero()[:, 0]
