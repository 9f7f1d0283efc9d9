"""Common corruptions of images at five strengths (Hendrycks & Dietterich 2019, arXiv:1903.12261), computed here.

The constants are those of the authors' code: CIFAR-10-C's (make_cifar_c.py) for images of up to 64 pixels, ImageNet-C's
(imagenet_c/corruptions.py) for larger ones, whatever their size: made for 32 and for 224 pixels, they are not scaled.
As there, an image is corrupted as the encoder sees it, after it was resized and cropped, and cut to 8 bits again.

Where this departs: ``blur`` is their Gaussian blur, one of four extra corruptions, and not among the fifteen over which
their mean is taken; noise is drawn by address (:mod:`contrastkit.rng`), not by numpy's generator; images of one channel
stay gray. So results are not those on the published files, which have ten other corruptions, too.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from contrastkit.augment.plain import plain_view
from contrastkit.data import Source
from contrastkit.errors import UserError
from contrastkit.parts.build import SMALL
from contrastkit.rng import CORRUPTION, uniform
from contrastkit.types import Modality

STRENGTHS = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Corruption:
    """One corruption.

    Attributes:
        constant: what its number is, with its unit, as a format.
        small, large: the number at each strength, of CIFAR-10-C and of ImageNet-C.
        apply: pixels, float64 [C, H, W] in [0, 1], and the number -> the same, maybe outside [0, 1]; ``noise``, which
            has none, adds one.
    """

    constant: str
    small: tuple[float, ...]
    large: tuple[float, ...]
    apply: Callable[[NDArray[np.float64], float], NDArray[np.float64]] | None

    def numbers(self, size: int) -> tuple[float, ...]:
        """Those for images of this side in pixels."""
        return self.small if size <= SMALL else self.large


def _blur(x: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    from scipy.ndimage import gaussian_filter  # slow to import

    return gaussian_filter(x, (0, sigma, sigma), mode="nearest", truncate=4)  # skimage's defaults


def _jpeg(x: NDArray[np.float64], quality: float) -> NDArray[np.float64]:
    pixels = (x * 255).astype(np.uint8).transpose(1, 2, 0)
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(file, "JPEG", quality=int(quality))
    decoded = np.asarray(Image.open(file))
    return decoded.reshape(pixels.shape).transpose(2, 0, 1) / 255


def _brightness(x: NDArray[np.float64], addend: float) -> NDArray[np.float64]:
    """The value of HSV, which is the largest channel, plus the addend: the channels grow in proportion."""
    value = x.max(0)
    brighter = np.minimum(value + addend, 1)
    return np.where(value > 0, x / np.where(value > 0, value, 1) * brighter, brighter)


def _contrast(x: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    mean = x.mean((1, 2), keepdims=True)
    return (x - mean) * factor + mean


CORRUPTIONS = {
    "noise": Corruption("std {:g}", (0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38), None),
    "blur": Corruption("sigma {:g} px", (0.4, 0.6, 0.7, 0.8, 1), (1, 2, 3, 4, 6), _blur),
    "jpeg": Corruption("quality {:g}", (80, 65, 58, 50, 40), (25, 18, 15, 10, 7), _jpeg),
    "brightness": Corruption("HSV's V + {:g}", (0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5), _brightness),
    "contrast": Corruption("factor {:g}", (0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05), _contrast),
}


def constants_of(size: int) -> str:
    """Whose constants images of this side get, in words."""
    return "CIFAR-10-C" if size <= SMALL else "ImageNet-C"


def corrupted(images: Tensor, name: str, strength: int, *, seed: int, index: Tensor) -> Tensor:
    """Corrupt images.

    Args:
        images: uint8 [n, C, H, W], C = 1 or 3.
        name: a key of :data:`CORRUPTIONS`.
        strength: 1 to 5.
        seed, index: of the noise; int64 [n], positions in the data set.

    Returns:
        uint8 [n, C, H, W].
    """
    corruption, (_, C, H, W) = CORRUPTIONS[name], images.shape
    number = corruption.numbers(min(H, W))[strength - 1]
    made = []
    for image, i in zip(images, index, strict=True):
        x = image.numpy() / 255
        if corruption.apply is None:
            u = uniform(seed, strength, i[None], CORRUPTION, C * H * W)[0]
            x = x + number * torch.special.ndtri(u).view(C, H, W).numpy()
        else:
            x = corruption.apply(x, number)
        made.append(torch.from_numpy((x.clip(0, 1) * 255).astype(np.uint8)))  # truncated, as theirs
    return torch.stack(made)


class CorruptedSource(Source):
    """The images of another source as an encoder sees them, corrupted: uint8 [n, C, size, size]."""

    def __init__(self, source: Source, name: str, strength: int, *, size: int, seed: int) -> None:
        """
        Raises:
            UserError: no images of one or three channels.
        """
        if source.modality is not Modality.IMAGE or source.channels not in (1, 3):
            what = f"{source.modality.plural} of {source.channels} channels"
            raise UserError(f"corruptions are those of photographs, gray or RGB, but {source.name} has {what}")
        super().__init__(source.name, channels=source.channels, size=size, labels=source.labels, classes=source.classes)
        self.source, self.corruption, self.strength, self.seed = source, name, strength, seed
        self.paths, self.group_ids = source.paths, source.group_ids

    def __len__(self) -> int:
        return len(self.source)

    def fetch(self, index: Tensor) -> Tensor:
        seen = plain_view(self.source.fetch(index), self.size, self.channels)
        pixels = (seen * 255).round().byte()
        return corrupted(pixels, self.corruption, self.strength, seed=self.seed, index=index)

    def fingerprint(self) -> str:
        return f"{self.source.fingerprint()}:{self.corruption}:{self.strength}:{self.seed}"
