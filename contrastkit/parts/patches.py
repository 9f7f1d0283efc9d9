"""Images as rows of patches (He et al. 2021, arXiv:2111.06377)."""

import torch
from torch import Tensor

EPS = 1e-6  # beside the variance of a patch (models_mae.py)


def patches(images: Tensor, side: int) -> Tensor:
    """Images [N, C, H, W] -> patches row by row, in each the pixels row by row, channels last: [N, L, side^2 C]."""
    grid = images.unflatten(3, (-1, side)).unflatten(2, (-1, side))  # [N, C, rows, side, columns, side]
    return grid.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def assembled(parts: Tensor, side: int, columns: int) -> Tensor:
    """The inverse of :func:`patches`: [N, rows * columns, side^2 C] -> [N, C, H, W]."""
    pixels = parts.unflatten(2, (side, side, -1)).unflatten(1, (-1, columns))  # [N, rows, columns, side, side, C]
    return pixels.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)


def taken(parts: Tensor, numbers: Tensor) -> Tensor:
    """The rows ``numbers``, int64 [N, K], of each image: [N, L, D] -> [N, K, D]."""
    return parts.gather(1, numbers[..., None].expand(-1, -1, parts.shape[2]))


def put(parts: Tensor, numbers: Tensor, values: Tensor) -> Tensor:
    """A copy of [N, L, D] with ``values`` [N, K, D] in the rows ``numbers``, int64 [N, K], of each image."""
    return parts.scatter(1, numbers[..., None].expand_as(values), values)


def moments(parts: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each patch, the root of its unbiased variance plus 1e-6: [..., P] -> [..., 1]."""
    variance, mean = torch.var_mean(parts, dim=-1, keepdim=True, correction=1)
    return mean, (variance + EPS).sqrt()
