"""A sheet of images and their views, as the network sees them."""

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from contrastkit.augment.apply import random_views
from contrastkit.augment.rows import View
from contrastkit.memory import require_room
from contrastkit.types import Images


def sheet(images: Images, views: Sequence[View], *, index: Tensor, epochs: int = 4, seed: int = 0) -> Image.Image:
    """One row per image: the original, then its views in each of ``epochs`` epochs.

    The sheet is RGB; images without three channels are shown in gray by their first channel.

    Args:
        images, index: as of :func:`contrastkit.augment.random_views`.
    """
    size = max(view.size for view in views)
    gap = max(1, size // 16)
    n = len(images) * (1 + epochs * len(views))
    require_room(3 * 4 * 3 * n * (size + 2 * gap) ** 2, f"a sheet of {n:,} views", "--images or --draws")
    columns = [torch.stack([_letterboxed(image, size) for image in images])]
    for epoch, (v, view) in itertools.product(range(epochs), enumerate(views)):
        columns.append(random_views(images, view, seed=seed, time=epoch, index=index, v=v))
    cells = [
        F.pad(c if c.shape[1] == 3 else c[:, :1].expand(-1, 3, -1, -1), _frame(c, size, gap), value=1) for c in columns
    ]
    grid = torch.stack(cells, 1).permute(0, 3, 1, 4, 2)  # rows, height, columns, width, 3
    rows, height, across, width, _ = grid.shape
    pixels = (grid.reshape(rows * height, across * width, 3) * 255).round().to(torch.uint8)
    return Image.fromarray(pixels.numpy())


def _letterboxed(image: Tensor, size: int) -> Tensor:
    """uint8 [C, H, W] -> float [C, size, size], the whole image, padded with black."""
    h, w = image.shape[-2:]
    h, w = round(h * size / max(h, w)) or 1, round(w * size / max(h, w)) or 1
    image = F.interpolate(image[None].float() / 255, (h, w), mode="bilinear", antialias=True)[0]
    return F.pad(image, ((size - w) // 2, size - w - (size - w) // 2, (size - h) // 2, size - h - (size - h) // 2))


def _frame(column: Tensor, size: int, gap: int) -> tuple[int, int, int, int]:
    """Padding that brings the cells of a column to a common size."""
    margin = size - column.shape[-1]
    return gap, margin + gap, gap, margin + gap
