"""The colour operations of augment's reference, on x float32 [n, C, H, W] with numbers of its rows [n, 1, 1, 1].

They are rounded one at a time (no lerp, no addcmul): fused ones round differently in the vector and scalar parts of a
loop, so the last bit of a sample would depend on its place in the batch.
"""

import torch
from torch import Tensor

GRAY = (0.2989, 0.587, 0.114)  # luma weights of torchvision and PIL (ITU-R 601)


def brightness(x: Tensor, b: Tensor) -> Tensor:
    return (x * b).clamp_(0, 1)


def contrast(x: Tensor, c: Tensor) -> Tensor:
    mean = x.sum(-1).sum(-1) / (x.shape[-1] * x.shape[-2])  # [n, C]
    mean = luma(mean[:, :, None, None]).view(-1) if x.shape[1] == 3 else mean.sum(1) / x.shape[1]
    return (x * c).add_((1 - c) * mean.view(-1, 1, 1, 1)).clamp_(0, 1)


def saturation(x: Tensor, s: Tensor) -> Tensor:
    return (x * s).add_(luma(x) * (1 - s)).clamp_(0, 1)


def hue(x: Tensor, turn: Tensor) -> Tensor:
    """Rotate the hue in HSV space: out = V - (V - min) * distance of the rotated hue from the channel's sector."""
    r, g, b = x.unbind(1)
    top = torch.maximum(torch.maximum(r, g), b)
    span = top - torch.minimum(torch.minimum(r, g), b)
    inverse = 1 / span.clamp(min=1e-12)  # gray pixels: all differences are 0, and so is the hue
    is_r = top.clone().eq_(r)  # in place: ones and zeros without an intermediate bool
    is_g = top.clone().eq_(g).mul_(1 - is_r)
    hue = is_r * ((g - b) * inverse) + is_g * ((b - r) * inverse + 2) + (1 - is_r - is_g) * ((r - g) * inverse + 4)
    hue += 6 * turn[:, 0]
    hue -= 6 * (hue / 6).floor_()  # in [0, 6), faster than remainder
    out = torch.empty_like(x)
    out[:, 0] = top - span * (2 - (hue - 3).abs_()).clamp_(0, 1)
    out[:, 1] = top - span * ((hue - 2).abs_() - 1).clamp_(0, 1)
    out[:, 2] = top - span * ((hue - 4).abs_() - 1).clamp_(0, 1)
    return out


def luma(x: Tensor) -> Tensor:
    """RGB float [n, 3, H, W] -> gray [n, 1, H, W]."""
    r, g, b = GRAY
    return ((x[:, 0] * r).add_(x[:, 1] * g)).add_(x[:, 2] * b)[:, None]


def to_gray(x: Tensor) -> Tensor:
    return luma(x).expand_as(x)


def addend(x: Tensor, b: Tensor) -> Tensor:
    return (x + b).clamp_(0, 1)


def contrast_each(x: Tensor, c: Tensor) -> Tensor:
    mean = x.sum(-1).sum(-1) / (x.shape[-1] * x.shape[-2])  # [n, C]
    return (x * c).add_((1 - c) * mean[:, :, None, None]).clamp_(0, 1)


def saturation_hsv(x: Tensor, s: Tensor) -> Tensor:
    """Scale S of HSV, up to 1: V and the hue stay, all distances from V are scaled."""
    top = x.amax(1, keepdim=True)
    span = top - x.amin(1, keepdim=True)
    scale = torch.minimum(s.clamp(min=0), top / span.clamp(min=1e-12))
    return (top - (top - x) * scale).clamp_(0, 1)


OPERATIONS = (brightness, contrast, saturation, hue, addend, contrast_each, saturation_hsv)  # by number
COLOURED = (2, 3, 6)  # of images of three channels only
