"""Features of images, encoded once for all evaluations."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from contrastkit.data import Source, plain_batches
from contrastkit.data.loader import MAX_BAD
from contrastkit.errors import UserError
from contrastkit.parts.encoder import Encoder
from contrastkit.parts.mode import evaluating
from contrastkit.precision import Autocast

PIXELS = 32  # largest side of images used as features


@dataclass(frozen=True, slots=True)
class Features:
    """Features of N images, in the order of their source."""

    x: Tensor  # [N, D] float32, the encoder's output, not normalised
    y: Tensor  # [N] int64, -1 for unlabelled images
    group_ids: Tensor | None = None  # [N] int64, see Source: a split keeps images of one group together

    def labelled(self, purpose: str) -> "Features":
        """The labelled ones.

        Raises:
            UserError: there are none.
        """
        rows = _labelled(self.y, purpose)
        return self if len(rows) == len(self.y) else self.subset(rows)

    def subset(self, rows: Tensor) -> "Features":
        return Features(self.x[rows], self.y[rows], None if self.group_ids is None else self.group_ids[rows])


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
    """
    encoder.to(device)
    channels = encoder.channels if isinstance(encoder, Encoder) else None
    x, y = [], []
    batches = plain_batches(source, size=size, channels=channels, batch=batch, workers=workers, max_bad=max_bad)
    with evaluating(encoder), contextlib.closing(batches):
        for plain in batches:
            images = plain.views[0].to(device, memory_format=torch.channels_last)
            with autocast():
                x.append(encoder(images).float().cpu())
            y.append(plain.label)
            if on_batch is not None:
                on_batch(len(images))
    return Features(torch.cat(x), torch.cat(y), source.group_ids)


def raw_pixels(
    source: Source, *, size: int, workers: int = 0, on_batch: Callable[[int], None] | None = None
) -> Features:
    """The images themselves as features [N, channels * side * side]: the baseline for every encoder.

    Pixels are shifted by mid-gray to [-1/2, 1/2]: all-positive vectors have similar directions, which costs cosine kNN
    nine points on CIFAR-10. Images larger than ``PIXELS`` are shrunk to that side: more pixels add little.

    Args: see :func:`encode`.
    """
    side = min(size, PIXELS)
    x = torch.empty(len(source), source.channels * side * side)
    y = torch.empty(len(source), dtype=torch.int64)
    start = 0
    for plain in plain_batches(source, size=side, workers=workers):
        rows = slice(start, start + len(plain.label))
        x[rows], y[rows] = plain.views[0].flatten(1) - 0.5, plain.label
        start = rows.stop
        if on_batch is not None:
            on_batch(len(plain.label))
    return Features(x, y, source.group_ids)


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
