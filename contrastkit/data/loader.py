"""Batches of augmented views for training, and of plain images for evaluation."""

import functools
import itertools
import math
import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import torch
from torch import Tensor
from torch.utils.data import Dataset

from contrastkit import dist
from contrastkit.augment import HANDLING, View, Window
from contrastkit.augment.apply import Packed, packed
from contrastkit.data.encoded import EncodedSource
from contrastkit.data.making import Drawing, Drawn, Making, Unreadable
from contrastkit.data.slots import ALIGNED
from contrastkit.data.source import Source
from contrastkit.data.workers import Workers
from contrastkit.errors import UserError
from contrastkit.types import Batch, Modality

CPU = torch.device("cpu")
MAX_BAD = 0.01  # share of unreadable images that is tolerated

B = TypeVar("B", Batch, Drawn)


class Loader:
    """Batches of views. Their order and augmentations are a function of (seed, epoch, index, view): the same for any
    number of workers, after a resume in mid-epoch, and for one process or many.

    The next readable image of the set is substituted for one that cannot be read, so batches keep their shape;
    ``index`` and ``label`` of the batch are those of the substitute.

    Attributes:
        steps_per_epoch: the last, partial batch is dropped. workers: processes that load the data, 0 for the caller.
        on_device: whether this process makes the views, on the device, out of images that travel as they are, in 8
            bits; otherwise they are made on the CPU, by the processes that read the images.
        notices: what to tell the user, one line each.
    """

    def __init__(
        self,
        source: Source,
        views: Sequence[View | Window],
        *,
        batch: int,
        seed: int,
        workers: int = 0,
        rank: int = 0,
        world: int = 1,
        max_bad: float = MAX_BAD,
        device: torch.device = CPU,
        on_device: bool | None = None,
        scaled: bool = False,
    ) -> None:
        """
        Args:
            batch: images per step over all processes; this one gets the ``rank``-th of ``world`` contiguous slices.
            workers: processes that read images and, on a CPU, make views; 0 uses the caller's process.
            device: where the views are used. Those that are made on the CPU stay there, in pinned memory for a CUDA
                device.
            on_device: see above; by default, views are made on a CUDA device of images that take no more memory than
                their views, typically, or that are in memory anyway.
            scaled: decode JPEGs at a half or a quarter of their sides where all crops are larger than two or four times
                their views (:mod:`contrastkit.augment.shrink`).
            max_bad: share of unreadable images above which :meth:`batches` stops.

        Raises:
            UserError: the batch is larger than the set, or not a multiple of ``world``.
        """
        if batch < 1:
            raise UserError(f"the batch must have at least one image, not {batch}")
        if batch > len(source):
            raise UserError(
                f"the batch ({batch}) is larger than {source.name}, which has {len(source)} images: lower --batch"
            )
        if batch % world:
            raise UserError(f"the batch ({batch}) must be a multiple of the number of processes ({world})")
        self.source, self.seed, self.max_bad = source, seed, max_bad
        self.batch, self.rank, self.world = batch, rank, world
        self.steps_per_epoch = len(source) // batch
        self._reported: set[int] = set()  # positions of the unreadable images that share_unreadable has returned
        self.views, self.device, self.workers = tuple(views), device, workers
        of_images = source.modality is Modality.IMAGE
        floats = sum(math.prod(view.shape(source.channels)) for view in views)
        small = source.images is not None or source.channels * source.size**2 <= 4 * floats
        self.on_device = of_images and small and device.type == "cuda" if on_device is None else on_device
        self.notices: tuple[str, ...] = ()
        self._whole: Packed | None = None  # the images of the set, where they lie on the device
        work = Drawing if self.on_device else Making
        scaled = scaled and of_images and isinstance(source, EncodedSource)
        self._workers = self._loading(work(source, self.views, seed, scaled=scaled))

    def _loading(self, work: Dataset[Any]) -> Workers:
        shapes = [view.shape(self.source.channels) for view in self.views]
        room = 0 if self.on_device else _room(shapes, self.batch // self.world)  # images are of any size
        return Workers(work, workers=self.workers, pin=self.device.type == "cuda", room=room)

    def keep_on_device(self, room: int) -> None:
        """Before the first batch: where views are made on the device, move the images of a set that lies in memory
        there, once for all batches, if they take at most ``room`` bytes."""
        if self.source.images is None or not self.on_device:
            return
        images = packed(self.source.images)
        size = f"{self.source.name}: {len(images.pixels) / 1e6:,.1f} MB of images"
        if len(images.pixels) > room:
            much = f"more than the {room / 1e6:,.1f} MB that they may take"
            self.notices = (f"{size} are copied to {self.device} batch by batch: {much}",)
            return
        self.notices = (f"{size} lie on {self.device}",)
        self._whole = images.to(self.device)
        self._workers = self._loading(Drawing(self.source, self.views, self.seed, images.places))

    @property
    def ahead(self) -> int:
        """How many batches the processes that load the data make in advance."""
        return self._workers.ahead

    @property
    def unreadable(self) -> dict[str, str]:
        """Files that could not be read so far, path -> reason."""
        return dict(self.source.unreadable.values())

    @property
    def advice(self) -> str:
        """What to do where training waits for the data."""
        look = "`contrastkit bench-input` shows what takes the time"
        if self.workers < (most := _cores() - 1):
            return f"try --workers {most} instead of {self.workers}; {look}"
        return f"smaller image files, smaller or fewer views, or more cores would help; {look}"

    @property
    def has_news(self) -> bool:
        """Whether there are unreadable files that :meth:`share_unreadable` has not returned yet."""
        return self.source.unreadable.keys() != self._reported

    def share_unreadable(self) -> list[tuple[str, str]]:
        """(path, reason) of each file that turned out to be unreadable since the last call, on any process.

        Collective: all processes call it together, and share the same record afterwards.
        """
        for theirs in dist.gather_objects(self.source.unreadable):
            self.source.unreadable.update(theirs)
        news = sorted(self.source.unreadable.keys() - self._reported)
        self._reported.update(news)
        return [self.source.unreadable[i] for i in news]

    def batches(self, start: int, end: int) -> Iterator[Batch]:
        """This process's batches of training steps [start, end), across epochs.

        Raises:
            UserError: more than ``max_bad`` of the set cannot be read.
        """
        tasks = _addresses(
            self.source, range(start, end), seed=self.seed, batch=self.batch, rank=self.rank, world=self.world
        )
        batches = _checked(self._workers.map(tasks), self.source, self.max_bad)
        if not self.on_device:
            return batches
        return map(functools.partial(Drawn.made, views=self.views, device=self.device, whole=self._whole), batches)

    def close(self) -> None:
        """End the data-loading processes at once."""
        self._workers.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def default_workers(source: Source) -> int:
    """0 for images in memory, which are augmented in batches; for files all cores but one, at most 8 per process."""
    if source.images is not None:
        return 0
    return min(8, max(1, _cores() - 1))


def _cores() -> int:
    """Of this process, where the machine's are shared evenly."""
    return (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def plain_batches(
    source: Source,
    *,
    size: int,
    channels: int | None = None,
    batch: int = 512,
    workers: int = 0,
    max_bad: float = MAX_BAD,
) -> Generator[Batch]:
    """Each example in its plain view (:data:`contrastkit.augment.HANDLING`), in order; partial last batch.

    An image that cannot be read is left out: its position is missing from the batch's ``index``.

    Close the generator if you leave it early: that ends its processes.

    Args:
        channels: gray is repeated to 3, RGB averaged (luma) to 1; None keeps the source's.

    Raises:
        UserError: the channels cannot be converted, or more than ``max_bad`` of the images cannot be read.
    """
    channels = channels or source.channels
    if channels != source.channels and {channels, source.channels} != {1, 3}:
        raise UserError(f"{source.name} has {source.channels} channels, the encoder takes {channels}")

    height = 1 if source.modality is Modality.SOUND else size
    room = _room([(channels, height, size)], min(batch, len(source)))
    with Workers(_Plain(source, size, channels), workers=workers, room=room) as pool:
        batches = _checked(pool.map(torch.arange(len(source)).split(batch)), source, max_bad)
        yield from (batch for batch in batches if batch.views)


# ------------------------------------------------------------------------------------- work: one whole batch per task


@dataclass(frozen=True)
class _Plain(Dataset[Any]):
    source: Source
    size: int
    channels: int

    def __getitem__(self, index: Tensor) -> tuple[Batch, Unreadable]:
        images, actual = self.source.take_readable(index)
        if not len(actual):
            return Batch(views=[], index=actual, label=actual), self.source.unreadable
        view = HANDLING[self.source.modality].plain(images, self.size, self.channels)
        return Batch(views=[view], index=actual, label=self.source.label(actual)), self.source.unreadable


def _room(views: Sequence[tuple[int, int, int]], n: int) -> int:
    """Bytes of a batch of n examples with views of these shapes."""
    numbers = 4 * sum(map(math.prod, views)) + 2 * 8  # float32, and index and label
    return n * numbers + (len(views) + 2) * ALIGNED


def _addresses(
    source: Source, steps: range, *, seed: int, batch: int, rank: int, world: int
) -> Iterator[tuple[int, Tensor]]:
    """The epoch and this process's positions, int64 [batch / world], of each step.

    No method: left half-way, it would hold its loader in a cycle, and workers that the garbage collector finds there
    never hear that they are to end.
    """
    share = batch // world
    places = (divmod(step, len(source) // batch) for step in steps)
    for epoch, within in itertools.groupby(places, key=lambda place: place[0]):
        order = source.order(seed, epoch)
        for _, k in within:
            first = k * batch + rank * share
            yield epoch, order[first : first + share]


def _checked(results: Iterable[tuple[B, Unreadable]], source: Source, max_bad: float) -> Iterator[B]:
    for batch, unreadable in results:
        source.unreadable.update(unreadable)
        if len(source.unreadable) > max_bad * len(source):
            path, reason = next(iter(source.unreadable.values()))
            raise UserError(
                f"{len(source.unreadable)} of {len(source)} images of {source.name} cannot be read, more than the "
                f"tolerated share {max_bad:g} (--max-bad); for example {path}: {reason}"
            )
        yield batch
