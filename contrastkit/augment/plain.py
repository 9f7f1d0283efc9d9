"""The view of an image for evaluation: nothing random, the whole image or its centre."""

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastkit.ops.augment_colour import luma
from contrastkit.types import Images


def plain_view(images: Images, size: int, channels: int) -> Tensor:
    """Resized and cropped at the centre: float32 [n, channels, size, size] in [0, 1].

    Images of ``size`` pixels are untouched. Others are resized so that the shorter side is 8/7 of ``size`` when there
    are that many pixels (ImageNet's 256 for 224), else ``size``, and cropped. Gray is repeated, RGB averaged to luma.
    """
    if isinstance(images, Tensor):
        x = _centred(images, size).float()
    else:
        x = torch.cat([_centred(image[None], size) for image in images]).float()
    if channels < x.shape[1]:
        x = luma(x)
    return x.expand(-1, channels, -1, -1) / 255


def _centred(images: Tensor, size: int) -> Tensor:
    """uint8 [n, C, H, W] -> uint8 [n, C, size, size]."""
    h, w = images.shape[-2:]
    if min(h, w) != size:
        short = round(size * 8 / 7) if min(h, w) * 7 >= size * 8 else size
        h, w = int(h * short / min(h, w)), int(w * short / min(h, w))
        images = F.interpolate(images, (h, w), mode="bilinear", antialias=True)
    top, left = round((h - size) / 2), round((w - size) / 2)
    return images[..., top : top + size, left : left + size]
