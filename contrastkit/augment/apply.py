"""Views of images, as a deterministic function of the images and their drawn :class:`Params`; the arithmetic is that of
:func:`contrastkit.ops.augment`.

Where this departs from the papers' code:

- Crops are torchvision's RandomResizedCrop. SimCLR's sample_distorted_bounding_box tries 100 times, not 10, and falls
  back to the whole image; BYOL draws once and clamps the sides to the image.
- SimCLR draws one sigma of the blur for a batch, here each view draws its own. It clips what bicubic weights overshoot
  after the first operation on colours, here at once, as BYOL does.
- SimCLR v1's first code (TensorFlow 1) resized by tf.image.resize_bicubic without half-pixel centres, a = -3/4, and its
  brightness was an addend (``--brightness-by addend``); here it has version 2's.
- Where PIL blurs (MoCo, SwAV, DINO), three box filters approximate the Gaussian, rounding to whole numbers after each;
  here it is a Gaussian. PIL's other operations round and clip, too; here all is float32, as in TensorFlow.
- The small rows (32 pixels) are torchvision's operations throughout, whatever the paper's ImageNet code has.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from contrastkit import ops
from contrastkit.augment.draw import COLUMNS, Params, draw
from contrastkit.augment.rows import View
from contrastkit.ops.library import one_thread
from contrastkit.types import Images


class Packed(NamedTuple):
    """Images in one piece of memory, as :func:`contrastkit.ops.augment` takes them."""

    pixels: Tensor  # uint8 [P]
    places: Tensor  # int64 [n, 6], where each image lies there
    channels: int

    @property
    def sizes(self) -> Tensor:
        """int64 [n, 2], heights and widths."""
        return self.places[:, 1:3]

    def to(self, device: torch.device) -> "Packed":
        pixels, places = (tensor.to(device, non_blocking=True) for tensor in self[:2])
        return Packed(pixels, places, self.channels)

    def pin_memory(self) -> "Packed":
        return Packed(self.pixels.pin_memory(), self.places.pin_memory(), self.channels)


def augment(images: Images, params: Params) -> Tensor:
    """Apply drawn parameters to images.

    Args:
        images: uint8 [n, C, H, W], or n tensors uint8 [C, H_i, W_i].
        params: m rows of :func:`contrastkit.augment.draw` for these images, one per view of an image.

    Returns:
        float32 [m, C, size, size] in [0, 1], on the images' device.
    """
    return ops.augment(**arguments(packed(images), params))


def random_views(
    images: Images | Packed, view: View, *, seed: int, time: int, index: Tensor, v: int | Tensor
) -> Tensor:
    """Draw, then apply: float32 [n, C, size, size], or [V * n, C, size, size], view by view.

    Args:
        images: as of :func:`augment`, or packed for several calls.
        seed, time, index, v: the address of the draws, as of :func:`contrastkit.augment.draw`.
    """
    with one_thread():
        images = images if isinstance(images, Packed) else packed(images)
        params = draw(view, images.sizes, channels=images.channels, seed=seed, time=time, index=index, v=v)
    return ops.augment(**arguments(images, params))


def arguments(images: Packed, params: Params) -> dict[str, Any]:
    """What :func:`contrastkit.ops.augment` is called with."""
    view, drawn = params.view, params.to(images.pixels.device)
    return {
        **images._asdict(),
        **{name: getattr(drawn, name) for name in COLUMNS},
        "size": view.size,
        "radius": int(view.blur_span * view.size) // 2 if view.blur_span else view.size - 1,
        "gray_first": view.gray_first,
        "interpolation": view.interpolation,
        "antialias": view.antialias,
        "border": view.blur_border,
    }


def packed(images: Images) -> Packed:
    """Images in one piece of memory: a batch as it is, images of many sizes one behind the other."""
    if isinstance(images, Tensor):
        pixels, strides = _memory(images)
        places = torch.tensor([[0, *images.shape[-2:], *strides]], device=images.device).repeat(len(images), 1)
        places[:, 0] = torch.arange(len(images), device=images.device) * images[:1].numel()
        return Packed(pixels, places, images.shape[1])
    parts, rows, start = [], [], 0
    for image in images:
        part, strides = _memory(image)
        parts.append(part)
        rows.append((start, *image.shape[-2:], *strides))
        start += len(part)
    return Packed(torch.cat(parts), torch.tensor(rows, device=parts[0].device), images[0].shape[0])


def _memory(images: Tensor) -> tuple[Tensor, tuple[int, int, int]]:
    """The pixels of [..., C, H, W], in planes or, as decoders give them, with the channels innermost; and the distances
    between channels, rows and columns."""
    channels, h, w = images.shape[-3:]
    innermost = images.movedim(-3, -1)
    if innermost.is_contiguous() and not images.is_contiguous():
        return innermost.reshape(-1), (1, w * channels, channels)
    return images.reshape(-1), (h * w, w, 1)
