"""Views of images, as a deterministic function of the images and their drawn :class:`Params`.

    pose, crop, flip -> jitter -> gray -> blur -> solarize     (``gray_first``: gray before jitter, as MoCo v1 has it)

A sample's view does not depend on the rest of its batch: all arithmetic is per sample, in kernels that round each
operation separately.

Crop, resize, flip and blur are linear and separable, so each is two small matrices per sample: y = A_rows x A_cols^T.
This is exact (antialiased when shrinking) and on a CPU several times faster than sampling pixel by pixel.

Where this departs from the papers' code: SimCLR and BYOL resize bicubically and BYOL's brightness is additive; here
resizing is bilinear (MoCo's) and jitter is torchvision's ColorJitter throughout. Blur mirrors the border.
"""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastkit.augment.draw import OPERATIONS, Params, draw, sizes_of
from contrastkit.augment.rows import View
from contrastkit.types import Images

GRAY = (0.2989, 0.587, 0.114)  # luma weights of torchvision and PIL (ITU-R 601)
CHUNK = 1 << 17  # floats augmented at once on a CPU: half a MiB fits in a core's cache


def augment(images: Images, params: Params) -> Tensor:
    """Apply drawn parameters to images.

    Args:
        images: uint8 [n, C, H, W], or n tensors uint8 [C, H_i, W_i].
        params: m rows of :func:`contrastkit.augment.draw` for these images, one per view of an image.

    Returns:
        float32 [m, C, size, size] in [0, 1], on the images' device.
    """
    view, size, m = params.view, params.view.size, len(params)
    channels, device = images[0].shape[0], images[0].device
    # Samples with the same order of jitter are processed together, in pieces that fit in cache.
    order, ranked = _order_numbers(params.jitter).sort(stable=True)
    piece = max(1, CHUNK // (channels * size * size)) if device.type == "cpu" else m
    params = params[ranked]
    jitter, params, home = params.jitter.tolist(), params.to(device), ranked.to(device)
    out = torch.empty(m, channels, size, size, device=device)
    for start, stop in _pieces(order, piece):
        p = params[start:stop]
        x = _cropped(images, p)
        if view.gray_first:
            _where(x, p.gray, _to_gray)
        for number in jitter[start]:
            if number >= 0:
                x = JITTER[number](x, p.factors[:, number].view(-1, 1, 1, 1))
        if not view.gray_first:
            _where(x, p.gray, _to_gray)
        if view.blur_p:
            _where(x, p.sigma > 0, lambda y, sigma: _blur(y, sigma, view.blur_span), p.sigma)
        if view.solarize_p:
            _where(x, p.solarize, lambda y: torch.where(y >= 0.5, 1 - y, y))
        out[home[start:stop]] = x.clamp_(0, 1)
    return out


def random_views(images: Images, view: View, *, seed: int, time: int, index: Tensor, v: int | Tensor) -> Tensor:
    """Draw, then apply: float32 [n, C, size, size], or [V * n, C, size, size], view by view.

    Args:
        images: as of :func:`augment`.
        seed, time, index, v: the address of the draws, as of :func:`contrastkit.augment.draw`.
    """
    channels = images[0].shape[0]
    return augment(images, draw(view, sizes_of(images), channels=channels, seed=seed, time=time, index=index, v=v))


def _order_numbers(jitter: Tensor) -> Tensor:
    """A number for each order of operations: int64 [m, 4] -> [m]."""
    base = len(OPERATIONS) + 1
    weights = base ** torch.arange(len(OPERATIONS) - 1, -1, -1, device=jitter.device)
    return ((jitter + 1) * weights).sum(1)


def _pieces(order: Tensor, piece: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of every run of equal values, cut into pieces of at most ``piece``."""
    start = 0
    for count in order.unique_consecutive(return_counts=True)[1].tolist():
        for at in range(start, start + count, piece):
            yield at, min(at + piece, start + count)
        start += count


# ------------------------------------------------------------------------------------------------------------ geometry


def _cropped(images: Images, params: Params) -> Tensor:
    """Pose, crop, resize and flip: float32 [m, C, size, size] in [0, 1]."""
    size, pose = params.view.size, params.pose
    if isinstance(images, Tensor):
        x = images.index_select(0, params.image).float()
        if pose is not None:
            x = _posed(x, pose)
        top, left, height, width = params.box.T
        n, channels, h0, w0 = x.shape
        across = _resizer(left, width, w0, size, params.flip) / 255
        x = torch.bmm(x.view(n, channels * h0, w0), across.mT).view(n, channels, h0, size)
        return _resizer(top, height, h0, size)[:, None] @ x
    views = []
    for i, (image, (y0, x0, h, w)) in enumerate(zip(params.image.tolist(), params.box.tolist(), strict=True)):
        x = images[image][None]
        if pose is not None:
            x = _posed(x.float(), pose[i : i + 1])
        x = F.interpolate(x[..., y0 : y0 + h, x0 : x0 + w], (size, size), mode="bilinear", antialias=True).float()
        views.append(x.flip(-1) if params.flip[i] else x)
    return torch.cat(views) / 255


def _resizer(start: Tensor, length: Tensor, side: int, size: int, flip: Tensor | None = None) -> Tensor:
    """Matrices [n, size, side] that cut [start, start + length) out of ``side`` pixels and resize it to ``size``:
    bilinear and antialiased, with the weights of torch.nn.functional.interpolate; mirrored where ``flip``."""
    start, length = start[:, None, None].float(), length[:, None, None].float()
    target = torch.arange(size, device=start.device, dtype=torch.float32)[None, :, None]
    if flip is not None:
        target = torch.where(flip[:, None, None], size - 1 - target, target)
    scale = length / size
    centre = (target + 0.5) * scale  # in pixels of the crop
    pixel = torch.arange(side, device=start.device, dtype=torch.float32) + 0.5 - start
    weight = (1 - (pixel - centre).abs() / scale.clamp(min=1)).clamp_(min=0)
    weight *= (pixel > 0) & (pixel < length)
    return weight / weight.sum(-1, keepdim=True)


def _posed(x: Tensor, pose: Tensor) -> Tensor:
    """Bilinear, with black outside: x float32 [n, C, H, W], pose float32 [n, 2, 3]."""
    grid = F.affine_grid(pose, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


# --------------------------------------------------------------------------------------- colour: x float32 [n, C, H, W]
# Operations are rounded one at a time (no lerp, no addcmul): fused ones round differently in the vector and scalar
# parts of a loop, so the last bit of a sample would depend on its place in the batch.


def _where(x: Tensor, mask: Tensor, op: Callable[..., Tensor], *args: Tensor) -> None:
    """x[mask] = op(x[mask], args[mask]), in place."""
    rows = mask.nonzero()[:, 0]
    if len(rows):
        x[rows] = op(x.index_select(0, rows), *(a[rows] for a in args))


def _brightness(x: Tensor, b: Tensor) -> Tensor:
    return (x * b).clamp_(0, 1)


def _contrast(x: Tensor, c: Tensor) -> Tensor:
    mean = x.sum(-1).sum(-1) / (x.shape[-1] * x.shape[-2])  # [n, C]
    mean = luma(mean[:, :, None, None]).view(-1) if x.shape[1] == 3 else mean.sum(1) / x.shape[1]
    return (x * c).add_((1 - c) * mean.view(-1, 1, 1, 1)).clamp_(0, 1)


def _saturation(x: Tensor, s: Tensor) -> Tensor:
    return (x * s).add_(luma(x) * (1 - s)).clamp_(0, 1)


def _hue(x: Tensor, turn: Tensor) -> Tensor:
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


def _to_gray(x: Tensor) -> Tensor:
    return luma(x).expand_as(x)


def _blur(x: Tensor, sigma: Tensor, span: float) -> Tensor:
    """Gaussian blur of standard deviation sigma [n] in pixels; the border is mirrored, as in torchvision."""
    n, channels, side, _ = x.shape
    radius = int(int(span * side) / 2) if span else side - 1
    reach = torch.arange(2 * side - 1, device=x.device)
    kernel = torch.exp(-((reach / sigma[:, None]) ** 2) / 2) * (reach <= radius)
    kernel /= (
        2 * kernel.sum(1, keepdim=True) - kernel[:, :1]
    )  # float64 so far: rounded once, it is the same in any batch
    kernel = kernel.float()
    low = kernel.unfold(1, side, 1).clone()  # [n, side, side]: weight at distance i + j, pixel j mirrored to -j
    high = low.flip(1, 2)  # at 2 (side - 1) - i - j, pixel j mirrored beyond the far end
    low[:, :, 0], high[:, :, -1] = 0, 0  # the border pixels themselves are not repeated
    itself = torch.cat([kernel[:, 1:side].flip(1), kernel[:, :side]], 1).unfold(1, side, 1).flip(1)  # at |i - j|
    matrix = itself + low + high
    x = torch.bmm(x.reshape(n, channels * side, side), matrix.mT).view_as(x)
    return matrix[:, None] @ x


JITTER = (_brightness, _contrast, _saturation, _hue)  # as in OPERATIONS
