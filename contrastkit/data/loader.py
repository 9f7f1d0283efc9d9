"""Batches: of augmented views for training, of plain images for evaluation."""

import itertools
import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from contrastkit import dist
from contrastkit.data.source import ArraySource, Source
from contrastkit.errors import UserError
from contrastkit.rng import permutation
from contrastkit.types import Batch
from contrastkit.views import View, Window, augment, luma, middle, windows

CPU = torch.device("cpu")
MAX_BAD = 0.01  # share of unreadable images that is tolerated


class Loader:
    """Batches of views. Their order and augmentations are a function of (seed, epoch, index, view): the same for any
    number of workers, after a resume in mid-epoch, and over one process or many.

    An image that cannot be read is replaced by the next readable one of the set, so batches keep their shape; ``index``
    and ``label`` of the batch are those of the image that is really there.

    Attributes:
        steps_per_epoch: the last, partial batch is dropped.
        bad: unreadable files met so far, path -> reason.
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
    ) -> None:
        """
        Args:
            batch: images per step over all processes; this one gets the ``rank``-th of ``world`` contiguous slices.
            workers: processes that decode and augment; 0 does it in the caller's.
            device: where the views go. Without workers, images that lie in memory are augmented there; otherwise views
                are on the CPU, pinned for a CUDA device.
            max_bad: share of unreadable images above which :meth:`epoch` stops.

        Raises:
            UserError: the batch is larger than the set, or is no multiple of ``world``.
        """
        if batch < 1:
            raise UserError(f"the batch must hold at least one image, not {batch}")
        if batch > len(source):
            raise UserError(
                f"the batch ({batch}) is larger than {source.name}, which has {len(source)} images: lower --batch"
            )
        if batch % world:
            raise UserError(f"the batch ({batch}) must be a multiple of the number of processes ({world})")
        self.source, self.seed, self.max_bad = source, seed, max_bad
        self.batch, self.rank, self.world = batch, rank, world
        self.steps_per_epoch = len(source) // batch
        self._told: set[int] = set()  # positions of the unreadable images that share_bad has handed out
        self._steps: list[tuple[int, Tensor]] = []  # the rest of this epoch; the pool's sampler
        work = _Augmented(source, tuple(views), seed, CPU if workers else device)
        self._pool = _pool(work, self._steps, workers, pin=workers > 0 and device.type == "cuda")

    @property
    def bad(self) -> dict[str, str]:
        return dict(self.source.bad.values())

    @property
    def has_news(self) -> bool:
        """Whether unreadable files were met that :meth:`share_bad` has not handed out."""
        return self.source.bad.keys() != self._told

    def share_bad(self) -> list[tuple[str, str]]:
        """The (path, reason) of what became known to be unreadable since the last call, on any process.

        All processes call it together, and count the same files from then on.
        """
        for theirs in dist.gather_objects(self.source.bad):
            self.source.bad.update(theirs)
        news = sorted(self.source.bad.keys() - self._told)
        self._told.update(news)
        return [self.source.bad[i] for i in news]

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """This process's batches of an epoch, from step ``start`` on.

        Raises:
            UserError: more than ``max_bad`` of the set cannot be read.
        """
        order = permutation(self.seed, epoch, len(self.source))
        share = self.batch // self.world
        first = range(start * self.batch + self.rank * share, self.steps_per_epoch * self.batch, self.batch)
        self._steps[:] = [(epoch, order[i : i + share]) for i in first]
        yield from _checked(self._pool, self.source, self.max_bad)

    def batches(self, start: int, end: int) -> Iterator[Batch]:
        """This process's batches of steps [start, end) of the schedule, across epochs; raises as :meth:`epoch`."""
        while start < end:
            epoch, first = divmod(start, self.steps_per_epoch)
            stop = min(end, (epoch + 1) * self.steps_per_epoch)
            yield from itertools.islice(self.epoch(epoch, first), stop - start)
            start = stop


def default_workers(source: Source) -> int:
    """0 for images in memory, which are augmented in batches; for files the cores but one, at most 8 a process."""
    if isinstance(source, ArraySource):
        return 0
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(8, max(1, (os.cpu_count() or 1) // processes - 1))


def plain_batches(
    source: Source,
    *,
    size: int,
    channels: int | None = None,
    batch: int = 512,
    workers: int = 0,
    max_bad: float = MAX_BAD,
) -> Iterator[Batch]:
    """The images as they are, in order: one view, float32 [n, channels, size, size] in [0, 1]; partial last batch.
    Of sounds the middle, float32 [n, 1, 1, size] in [-1, 1].

    Images of ``size`` pixels are untouched. Others are resized so that the shorter side is 8/7 of ``size`` when there
    are that many pixels (ImageNet's 256 for 224), else ``size``, and cropped at the centre.

    Args:
        channels: gray is repeated to 3, RGB averaged (luma) to 1; None keeps what the source has.

    Raises:
        UserError: the channels cannot be converted, or more than ``max_bad`` of the images cannot be read.
    """
    channels = channels or source.channels
    if channels != source.channels and {channels, source.channels} != {1, 3}:
        raise UserError(f"{source.name} has {source.channels} channels, the encoder takes {channels}")

    yield from _checked(
        _pool(_Plain(source, size, channels), torch.arange(len(source)).split(batch), workers), source, max_bad
    )


def _centred(images: Tensor, size: int) -> Tensor:
    """uint8 [n, C, H, W] -> uint8 [n, C, size, size]."""
    h, w = images.shape[-2:]
    if min(h, w) != size:
        short = round(size * 8 / 7) if min(h, w) * 7 >= size * 8 else size
        h, w = int(h * short / min(h, w)), int(w * short / min(h, w))
        images = F.interpolate(images, (h, w), mode="bilinear", antialias=True)
    top, left = round((h - size) / 2), round((w - size) / 2)
    return images[..., top : top + size, left : left + size]


# ------------------------------------------------------------------------------------- work: one whole batch per task


@dataclass(frozen=True)
class _Augmented(Dataset[Any]):
    source: Source
    views: tuple[View | Window, ...]
    seed: int
    device: torch.device

    def __getitem__(self, task: tuple[int, Tensor]) -> tuple[Batch, dict[int, tuple[str, str]]]:
        epoch, index = task
        images, actual = self.source.take(index)
        if isinstance(images, Tensor):
            images = images.to(self.device, non_blocking=True)
        # Draws are keyed by the position asked for: a stand-in must not be the twin of the image it stands in with.
        with _one_thread():
            views = self._augment(images, epoch, index)
        return Batch(views=views, index=actual, label=self.source.label(actual)), self.source.bad

    def _augment(self, images: Tensor | list[Tensor], epoch: int, index: Tensor) -> list[Tensor]:
        made: list[Tensor] = []
        for view, alike in itertools.groupby(self.views):  # one call in larger pieces is faster
            times = len(list(alike))
            repeated = images.repeat(times, 1, 1, 1) if isinstance(images, Tensor) else images * times
            v = torch.arange(len(made), len(made) + times).repeat_interleave(len(index))
            how: dict[str, Any] = {"seed": self.seed, "epoch": epoch, "index": index.repeat(times), "v": v}
            crops = windows(repeated, view, **how) if isinstance(view, Window) else augment(repeated, view, **how)
            made += crops.split(len(index))
        return made


@dataclass(frozen=True)
class _Plain(Dataset[Any]):
    source: Source
    size: int
    channels: int

    def __getitem__(self, task: Tensor) -> tuple[Batch, dict[int, tuple[str, str]]]:
        images, actual = self.source.take(task)
        if self.source.rate is not None:
            return Batch([middle(images, self.size)], actual, self.source.label(actual)), self.source.bad
        if isinstance(images, Tensor):
            x = _centred(images, self.size).float()
        else:
            x = torch.cat([_centred(image[None], self.size) for image in images]).float()
        if self.channels < x.shape[1]:
            x = luma(x)
        x = x.expand(-1, self.channels, -1, -1) / 255
        return Batch(views=[x], index=actual, label=self.source.label(actual)), self.source.bad


def _pool(work: Dataset[Any], tasks: Sequence[Any], workers: int, *, pin: bool = False) -> DataLoader[Any]:
    return DataLoader(
        work,
        batch_size=None,
        sampler=tasks,
        num_workers=workers,
        persistent_workers=workers > 0,
        prefetch_factor=None if not workers else 2 if workers == 1 else 1,  # batches of views are large
        pin_memory=pin,
        collate_fn=_as_it_is,
        worker_init_fn=_leave_signals,
        generator=torch.Generator(),  # else iterating would move torch's global one
    )


def _checked(answers: Iterable[Any], source: Source, max_bad: float) -> Iterator[Batch]:
    for batch, bad in answers:
        source.bad.update(bad)
        if len(source.bad) > max_bad * len(source):
            path, reason = next(iter(source.bad.values()))
            raise UserError(
                f"{len(source.bad)} images of {source.name} ({len(source)}) cannot be read, more than the share of "
                f"{max_bad:g} that is allowed (train: --max-bad); for example {path}: {reason}"
            )
        yield batch


@contextmanager
def _one_thread() -> Iterator[None]:
    """Augmentation is thousands of kernels of some ten microseconds: several threads gain nothing there, and wait for
    one another at each of them as soon as another process wants a core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _as_it_is(answer: Any) -> Any:
    return answer


def _leave_signals(worker: int) -> None:
    """Signals are for the main process: it saves and stops, and its workers end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
