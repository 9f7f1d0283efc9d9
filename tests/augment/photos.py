"""Images to augment, an identity view, and a call that applies a view."""

import torch

from contrastkit.augment import View, random_views
from contrastkit.types import Images

PLAIN = View(
    size=32, crop_min=1.0, ratio=1.0, flip_p=0, jitter_p=0, brightness=0, contrast=0, saturation=0, hue=0, gray_p=0
)


def photos(n: int, channels: int = 3, height: int = 32, width: int = 32) -> torch.Tensor:
    """Smooth coloured images with flat parts, extreme values and gray pixels: the difficult cases of colour spaces."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(n, channels, 5, 5, generator=generator)
    fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic") * 1.6 - 0.3
    fine[:, :, : height // 8] = 0.5
    fine[:, :, -(height // 8) :] = torch.rand(n, channels, height // 8, width, generator=generator)
    return (fine.clamp(0, 1) * 255).round().to(torch.uint8)


def run(images: Images, view: View, **where: int) -> torch.Tensor:
    where = {"seed": 0, "time": 0, "v": 0} | where
    return random_views(images, view, index=torch.arange(len(images)), **where)
