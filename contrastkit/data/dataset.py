"""A data set: its parts, and how a validation part is held out."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from contrastkit.data.source import Source
from contrastkit.errors import UserError
from contrastkit.rng import permutation

HANDED_OVER = "python:"  # in a run's record, before the name of data that no path names


@dataclass(frozen=True)
class DataSet:
    """A set and its parts. ``pretrain`` needs no labels: the training part, and stl10's unlabelled images besides."""

    name: str
    train: Source
    test: Source | None
    pretrain: Source


@dataclass(frozen=True)
class Request:
    """What was asked to be opened."""

    data: str  # a name, or a path
    data_dir: Path | None = None  # where named sets are
    download: bool = False

    @property
    def path(self) -> Path:
        return Path(self.data).expanduser()


def with_validation(dataset: DataSet, fraction: float, seed: int) -> DataSet:
    """The set with this share of its training part as its test part, and out of its pretrain part."""
    n = len(dataset.train)
    if not 0 < round(fraction * n) < n:
        raise UserError(f"--val-fraction {fraction:g} of {n} images leaves one part empty: choose it between 0 and 1")
    rest, held_out = split(n, dataset.train.group_ids, fraction, seed)
    train, val = dataset.train.subset(rest), dataset.train.subset(held_out)
    if dataset.pretrain is dataset.train:
        return DataSet(dataset.name, train, val, train)
    # A pretrain part of its own starts with the training part (stl10's "train+unlabeled"): held-out images leave both.
    others = torch.arange(n, len(dataset.pretrain))
    return DataSet(dataset.name, train, val, dataset.pretrain.subset(torch.cat([rest, others])))


def split(n: int, group_ids: Tensor | None, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Draw ``share`` of n images, at least one: positions (the rest, held out) in ascending order.

    Images of one group stay together, or the held-out ones would have their twins among the others.
    """
    group = torch.arange(n) if group_ids is None else group_ids.unique(return_inverse=True)[1]
    order = permutation(seed, 0, int(group.max()) + 1)
    held_out = torch.isin(group, order[: max(1, round(share * len(order)))])
    return (~held_out).nonzero()[:, 0], held_out.nonzero()[:, 0]
