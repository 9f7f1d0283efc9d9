"""Colour spaces whose channels are views of an image (CMC, Sec. 4.1), such as brightness and colour; and images whose
channels belong to several modalities.

The constants are those of the official code, which converts with scikit-image and maps each channel to about [-1, 1].
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Linear sRGB to CIE XYZ, and XYZ of white: ITU-R BT.709 primaries, D65, 2 degree observer, scikit-image's digits.
XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
WHITE = (0.95047, 1.0, 1.08883)
# ITU-R BT.601: Y in [16, 235], Cb and Cr in [16, 240].
YCBCR = ((65.481, 128.553, 24.966), (-37.797, -74.203, 112.0), (112.0, -93.786, -18.214))


@torch.no_grad()
def rgb_to_lab(rgb: Tensor) -> Tensor:
    """sRGB [N, 3, H, W] in [0, 1] -> CIE L*a*b* float32: L in [0, 100], a and b about 0 (IEC 61966-2-1; CIE 15)."""
    rgb = rgb.float()
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = torch.stack([_weighted(linear, row) / white for row, white in zip(XYZ, WHITE, strict=True)], 1)
    x, y, z = torch.where(xyz > 0.008856, xyz ** (1 / 3), 7.787 * xyz + 16 / 116).unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


@torch.no_grad()
def rgb_to_ycbcr(rgb: Tensor) -> Tensor:
    """Gamma-corrected RGB [N, 3, H, W] in [0, 1] -> Y'CbCr float32 on the scale of bytes (ITU-R BT.601)."""
    rgb = rgb.float()
    return torch.stack([_weighted(rgb, row) + first for row, first in zip(YCBCR, (16, 128, 128), strict=True)], 1)


def _weighted(x: Tensor, weights: Sequence[float]) -> Tensor:
    """The weighted sum of the channels. Not a matrix product, which autocast would round to bfloat16."""
    a, b, c = weights
    return x[:, 0] * a + x[:, 1] * b + x[:, 2] * c


@dataclass(frozen=True, kw_only=True)
class Colour:
    """How an RGB image is split into views."""

    convert: Callable[[Tensor], Tensor]  # [N, 3, H, W] in [0, 1] -> [N, channels of all views, H, W]
    views: tuple[str, ...]  # names, in order
    groups: tuple[int, ...]  # channels of each view
    mean: tuple[float, ...]  # of each channel; encoders see (x - mean) / std
    std: tuple[float, ...]


# Centre and half width of each channel's range: L 0..100, a -86.183..98.233, b -107.857..94.478 (train_CMC.py).
_LAB = Colour(
    convert=rgb_to_lab, views=("L", "ab"), groups=(1, 2), mean=(50.0, 6.025, -6.690), std=(50.0, 92.208, 101.168)
)
COLOURS = {
    "lab": _LAB,
    "lab-full": Colour(convert=rgb_to_lab, views=("L", "a", "b"), groups=(1, 1, 1), mean=_LAB.mean, std=_LAB.std),
    "ycbcr": Colour(
        convert=rgb_to_ycbcr,
        views=("Y", "CbCr"),
        groups=(1, 2),
        mean=(116.151, 121.080, 132.342),
        std=(109.5, 111.855, 111.964),
    ),
}


def aligned(groups: Sequence[int]) -> Colour:
    """Images of several modalities, with these numbers of channels in [0, 1]: each modality is a view."""
    n, names = sum(groups), tuple(f"modality {i}" for i in range(1, len(groups) + 1))
    return Colour(convert=_unchanged, views=names, groups=tuple(groups), mean=(0.5,) * n, std=(0.25,) * n)


def _unchanged(images: Tensor) -> Tensor:
    return images
