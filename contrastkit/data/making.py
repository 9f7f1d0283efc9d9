"""The views of a training's batches: made by the process that reads the images, or later, on a GPU.

    here     Making:  task -> images -> views                                    floats travel
    later    Drawing: task -> images and draws     Drawn.made: -> views          images travel as they are, in 8 bits
    later    Drawing: task -> draws                Drawn.made: -> views          of images that lie on the device

Either way the views are the same ones: draws are made on the CPU, addressed by the position that was asked for, so that
a stand-in for an unreadable image differs from the same image drawn as itself.

Where ``scaled`` is true, JPEGs are decoded at a half or a quarter of their sides if no view shows more: the draws, the
same ones, come before decoding (:mod:`contrastkit.augment.shrink`).
"""

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from contrastkit import ops
from contrastkit.augment import HANDLING, Params, View, Window, draw, sizes_of
from contrastkit.augment.apply import Packed, arguments, packed
from contrastkit.augment.shrink import factors, shrunk
from contrastkit.data.encoded import EncodedSource
from contrastkit.data.source import Source
from contrastkit.ops.library import one_thread
from contrastkit.types import Batch, Images

Unreadable = dict[int, tuple[str, str]]  # position -> (path, reason)
Task = tuple[int, Tensor]  # the epoch and the positions, int64 [n]


@dataclass(frozen=True)
class Making(Dataset[Any]):
    """Batches of views, on the CPU."""

    source: Source
    views: Sequence[View | Window]
    seed: int
    scaled: bool = False

    def __getitem__(self, task: Task) -> tuple[Batch, Unreadable]:
        if self.scaled:
            drawn, unreadable = Drawing(self.source, self.views, self.seed, scaled=True)[task]
            return drawn.made(self.views, torch.device("cpu")), unreadable
        epoch, index = task
        images, actual = self.source.take(index)
        together = packed(images) if self.source.modality.has_pixels else images
        random_views = HANDLING[self.source.modality].random
        views: list[Tensor] = []
        for view, v in runs(self.views):
            views += random_views(together, view, seed=self.seed, time=epoch, index=index, v=v).split(len(index))
        return Batch(views, actual, self.source.label(actual)), self.source.unreadable


@dataclass(frozen=True, slots=True)
class Drawn:
    """A batch whose views are still to be made."""

    images: Packed | None  # n images; None where those of the whole set lie on the device
    tables: Sequence[Tensor]  # of each run of equal views, the draws as of Params.table
    index: Tensor  # as of Batch
    label: Tensor

    def pin_memory(self) -> "Drawn":
        """Called by DataLoader, too, so that copies to a GPU are asynchronous."""
        images = self.images and self.images.pin_memory()
        return Drawn(images, [table.pin_memory() for table in self.tables], self.index.pin_memory(), self.label)

    def made(self, views: Sequence[View | Window], device: torch.device, whole: Packed | None = None) -> Batch:
        """The batch, its views made on ``device``, in channels-last format.

        Args:
            whole: the images of the whole set, on the device, where the batch has none of its own.
        """
        drawn = self.pin_memory() if device.type == "cuda" else self
        images = whole if drawn.images is None else drawn.images.to(device)
        assert images is not None
        made: list[Tensor] = []
        for (view, _), table in zip(runs(views), drawn.tables, strict=True):
            params = Params.of(view, table.to(device, non_blocking=True))
            made += ops.augment(**arguments(images, params), channels_last=True).split(len(drawn.index))
        return Batch(made, drawn.index, drawn.label)


@dataclass(frozen=True)
class Drawing(Dataset[Any]):
    """Batches of images and of the draws for their views; of the draws alone, where ``places`` says where each image of
    the set lies."""

    source: Source
    views: Sequence[View | Window]
    seed: int
    places: Tensor | None = None  # int64 [N, 6], as of Packed
    scaled: bool = False  # of an EncodedSource

    def __getitem__(self, task: Task) -> tuple[Drawn, Unreadable]:
        epoch, index = task
        if self.places is not None:  # none of these images is unreadable
            draws = self._draws(self.places[index, 1:3], epoch, index)
            tables = [replace(params, image=index[params.image]).table() for params in draws]
            return Drawn(None, tables, index, self.source.label(index)), self.source.unreadable
        read = self._smaller if self.scaled else self._whole
        (images, draws), actual = self.source.take_by(index, functools.partial(read, epoch=epoch, index=index))
        tables = [params.table() for params in draws]
        return Drawn(packed(images), tables, actual, self.source.label(actual)), self.source.unreadable

    def _whole(self, actual: Tensor, *, epoch: int, index: Tensor) -> tuple[Images, list[Params]]:
        """The images at ``actual``, and their draws, addressed by ``index``."""
        images = self.source.fetch(actual)
        return images, self._draws(sizes_of(images), epoch, index)

    def _smaller(self, actual: Tensor, *, epoch: int, index: Tensor) -> tuple[Images, list[Params]]:
        """The same, of images that may be decoded at a part of their size."""
        assert isinstance(self.source, EncodedSource)
        seen = self.source.look(actual)
        sizes = torch.tensor([(image.height, image.width) for image in seen])
        draws = self._draws(sizes, epoch, index)
        factor = factors(draws, len(seen))
        images = self.source.decode(seen, factor.tolist())
        used = factor.where((sizes_of(images) != sizes).any(1), 1)
        return images, [shrunk(params, used) for params in draws]

    @one_thread()
    def _draws(self, sizes: Tensor, epoch: int, index: Tensor) -> list[Params]:
        """Those of each run of equal views."""
        channels = self.source.channels
        return [
            draw(view, sizes, channels=channels, seed=self.seed, time=epoch, index=index, v=v)
            for view, v in runs(self.views)
        ]


def runs(views: Sequence[Any]) -> Iterator[tuple[Any, Tensor]]:
    """Runs of equal views, each of which is made by one call, as that is faster: the view, and the numbers of the
    run's views, int64 [V, 1]."""
    for view, run in itertools.groupby(enumerate(views), key=lambda pair: pair[1]):
        yield view, torch.tensor([[number] for number, _ in run])
