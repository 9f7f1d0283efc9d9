"""Features of images, encoded once for all evaluations."""

import contextlib
import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from contrastkit.data import Source, plain_batches
from contrastkit.data.loader import MAX_BAD
from contrastkit.errors import UserError
from contrastkit.parts.encoder import Encoder
from contrastkit.parts.mode import evaluating
from contrastkit.precision import Autocast
from contrastkit.types import Batch

PIXELS = 32  # largest side of images used as features
# Called once with the number of images and the shape of one image's features: the tensor that takes them.
Storage = Callable[[int, Sequence[int]], Tensor]


@dataclass(frozen=True, slots=True)
class Features:
    """Features of N images, in the order of their source."""

    # [N, D] float32, the encoder's output, not normalised; of tokens [N, h, w, C]; NaN for images that cannot be read
    x: Tensor
    y: Tensor  # [N] int64, -1 for unlabelled images
    group_ids: Tensor | None = None  # [N] int64, see Source: a split keeps images of one group together
    readable: Tensor | None = None  # [N] bool; None if all are
    weights: Tensor | None = None  # [N] float, see Source
    environment: NDArray[Any] | None = None  # [N], see Source

    def read(self) -> "Features":
        """Those of the images that could be read."""
        return self if self.readable is None else self.subset(self.readable.nonzero()[:, 0])

    def labelled(self, purpose: str) -> "Features":
        """Those of the images that could be read and have a label.

        Raises:
            UserError: there are none.
        """
        rows = self.labelled_rows(purpose)
        return self if len(rows) == len(self.y) else self.subset(rows)

    def labelled_rows(self, purpose: str) -> Tensor:
        """The positions, int64 [n], of the images of :meth:`labelled`, which raises the same."""
        return _labelled(self.y if self.readable is None else self.y.where(self.readable, -1), purpose)

    def standardised_by(self, train: "Features") -> "Features":
        """Each feature minus its mean over the readable images of ``train``, over the root of its variance (/ N) plus
        1e-6: a batch norm without scale and shift whose batch is the whole set."""
        variance, mean = torch.var_mean(train.read().x, dim=0, correction=0)
        return replace(self, x=(self.x - mean) / (variance + 1e-6).sqrt())

    def subset(self, rows: Tensor) -> "Features":
        known = self.group_ids, self.readable, self.weights
        group_ids, readable, weights = (None if each is None else each[rows] for each in known)
        environment = None if self.environment is None else self.environment[rows.numpy()]
        return Features(self.x[rows], self.y[rows], group_ids, readable, weights, environment)


def in_memory(n: int, shape: Sequence[int]) -> Tensor:
    """The storage of features that fit in memory."""
    return torch.empty(n, *shape)


@torch.no_grad()
def encode(
    encoder: nn.Module,
    source: Source,
    *,
    size: int,
    batch: int = 512,
    workers: int = 0,
    device: str | torch.device = "cpu",
    autocast: Autocast = contextlib.nullcontext,
    max_bad: float = MAX_BAD,
    on_batch: Callable[[int], None] | None = None,
    tokens: bool = False,
    storage: Storage = in_memory,
) -> Features:
    """Encode every image of a source under its plain evaluation view.

    The encoder runs in eval mode, in float32 unless under ``autocast``; its mode is restored afterwards. The features
    are on the CPU.

    Args:
        encoder: images [N, C, H, W] in [0, 1] -> features [N, D]. An :class:`Encoder` gets the number of
            channels it takes, any other module that of the source.
        size: side of the encoder's input images, in pixels.
        max_bad: share of unreadable images above which this raises a UserError.
        on_batch: called after each batch with the number of images in it.
        tokens: the features of the positions of :meth:`Encoder.maps` instead of the pooled ones: [N, h, w, C].
    """
    encoder.to(device)
    channels = encoder.channels if isinstance(encoder, Encoder) else None
    batches = plain_batches(source, size=size, channels=channels, batch=batch, workers=workers, max_bad=max_bad)

    def features(images: Tensor) -> Tensor:
        images = images.to(device, memory_format=torch.channels_last)
        with autocast():
            x = encoder.maps(images).permute(0, 2, 3, 1) if isinstance(encoder, Encoder) and tokens else encoder(images)
        return x.float().cpu()

    with evaluating(encoder):
        return _collect(source, batches, features, on_batch, storage)


def raw_pixels(
    source: Source,
    *,
    size: int,
    workers: int = 0,
    max_bad: float = MAX_BAD,
    on_batch: Callable[[int], None] | None = None,
    storage: Storage = in_memory,
) -> Features:
    """The images themselves as features [N, channels * side * side]: the baseline for every encoder.

    Pixels are shifted by mid-gray to [-1/2, 1/2]: all-positive vectors have similar directions, which costs cosine kNN
    nine points on CIFAR-10. Images larger than ``PIXELS`` are shrunk to that side: more pixels add little.

    Args: see :func:`encode`.
    """
    batches = plain_batches(source, size=min(size, PIXELS), workers=workers, max_bad=max_bad)
    return _collect(source, batches, lambda images: images.flatten(1) - 0.5, on_batch, storage)


def _collect(
    source: Source,
    batches: Generator[Batch],
    features: Callable[[Tensor], Tensor],
    on_batch: Callable[[int], None] | None,
    storage: Storage,
) -> Features:
    """The features of each batch, in the rows of its images."""
    n = len(source)
    x: Tensor | None = None
    with contextlib.closing(batches):
        for batch in batches:
            found = features(batch.views[0])
            if x is None:
                x = storage(n, found.shape[1:])
            x[batch.index] = found
            if on_batch is not None:
                on_batch(len(found))
    if x is None:
        raise UserError(f"no image of {source.name} can be read")
    readable = None
    if source.unreadable:
        readable = torch.ones(n, dtype=torch.bool)
        readable[list(source.unreadable)] = False
        x[~readable] = math.nan
    return Features(x, source.label(torch.arange(n)), source.group_ids, readable, source.weights, source.environment)


def labelled(source: Source, purpose: str) -> Source:
    """The labelled images.

    Raises:
        UserError: there are none.
    """
    rows = _labelled(torch.empty(0) if source.labels is None else source.labels, purpose)
    return source if len(rows) == len(source) else source.subset(rows)


def _labelled(y: Tensor, purpose: str) -> Tensor:
    rows = (y >= 0).nonzero()[:, 0]
    if not len(rows):
        raise UserError(f"{purpose} needs labels, and these images have none: put them in one folder per class")
    return rows
