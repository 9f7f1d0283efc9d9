"""Augmented views of images, every random number given.

    pose, crop, flip -> jitter -> gray -> blur -> solarize     (`gray_first`: gray before jitter, as MoCo v1 has it)

A view is a function of its image and of its own row of the table: it does not depend on the rest of its batch.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastkit.ops.library import INT64, LIBRARY, check, dtype_name, one_thread

LIBRARY.define(
    "augment(Tensor pixels, Tensor places, Tensor image, Tensor box, Tensor flip, Tensor? pose, Tensor jitter,"
    " Tensor factors, Tensor gray, Tensor sigma, Tensor solarize, Tensor? mean, Tensor? std, int channels, int size,"
    " int radius, bool gray_first, ScalarType dtype, bool channels_last) -> Tensor"
)

GRAY = (0.2989, 0.587, 0.114)  # luma weights of torchvision and PIL (ITU-R 601)
MOST = 2**13  # pixels of a side, and channels
CHUNK = 1 << 17  # floats augmented at once on a CPU: half a MiB fits in a core's cache
DTYPES = (torch.float32, torch.bfloat16, torch.uint8)


def augment(
    pixels: Tensor,
    places: Tensor,
    *,
    image: Tensor,
    box: Tensor,
    flip: Tensor,
    pose: Tensor | None = None,
    jitter: Tensor,
    factors: Tensor,
    gray: Tensor,
    sigma: Tensor,
    solarize: Tensor,
    mean: Tensor | None = None,
    std: Tensor | None = None,
    channels: int,
    size: int,
    radius: int,
    gray_first: bool = False,
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
) -> Tensor:
    """Cut, resize, colour and blur m views out of n images, in the arithmetic of float32.

    Resizing is bilinear, antialiased when it shrinks, with the weights of torch.nn.functional.interpolate for an image
    that ends at the crop. Each operation of the jitter ends in [0, 1], as torchvision's do. The blur is a Gaussian,
    whose border is mirrored; weights that float32 cannot tell from zero may be left out.

    Args:
        pixels: uint8 [P], the memory of all images; places: int64 [n, 6], of each image the offset of its first pixel,
            its height and width, and the distances between its channels, rows and columns.
        image: int64 [m], which image; box: int64 [m, 4], the crop: top, left, height, width; flip: bool [m], mirrored.
        pose: float32 [m, 2, 3], from the posed image to the given one, as of torch.nn.functional.affine_grid: applied
            before the crop, bilinear, black outside.
        jitter: int64 [m, 4], the operations in their order: 0 brightness, 1 contrast, 2 saturation, 3 hue, -1 none;
            factors: float32 [m, 4], of each of the four: three factors, and the rotation of the hue in turns.
        gray, solarize: bool [m]; sigma: float64 [m], of the blur in pixels of the view, 0 for none.
        mean, std: float32 [C], subtracted and divided by at the end.
        channels: C; gray, saturation and hue need three.
        size: side of a view; radius: of the blur's kernel, at most size - 1, which is not truncated.
        gray_first: gray before the jitter.
        dtype: of the views, float32, bfloat16 or uint8; rounded once, uint8 from [0, 255].
        channels_last: their memory format.

    Returns:
        [m, C, size, size] in [0, 1], or as of mean, std and dtype.

    Raises:
        ValueError: shapes, dtypes, devices or numbers do not fit.
        IndexError: a row's image, crop or operation does not exist, or its numbers are not finite (on CUDA a
            device-side assertion, as in torch).
    """
    return torch.ops.contrastkit.augment(
        pixels, places, image, box, flip, pose, jitter, factors, gray, sigma, solarize, mean, std, channels, size,
        radius, gray_first, dtype, channels_last,
    )  # fmt: skip


class Call(NamedTuple):
    """The operator's arguments, in their order."""

    pixels: Tensor
    places: Tensor
    image: Tensor
    box: Tensor
    flip: Tensor
    pose: Tensor | None
    jitter: Tensor
    factors: Tensor
    gray: Tensor
    sigma: Tensor
    solarize: Tensor
    mean: Tensor | None
    std: Tensor | None
    channels: int
    size: int
    radius: int
    gray_first: bool
    dtype: torch.dtype
    channels_last: bool

    def empty(self) -> Tensor:
        m, C, size = len(self.image), self.channels, self.size
        if self.channels_last:
            return self.pixels.new_empty(m, size, size, C, dtype=self.dtype).permute(0, 3, 1, 2)
        return self.pixels.new_empty(m, C, size, size, dtype=self.dtype)


def _check(call: Call) -> None:
    """The kernels check by themselves (csrc/augment.h)."""
    numbers = {"channels": (1, MOST), "size": (1, MOST), "radius": (0, call.size - 1)}
    for name, (low, high) in numbers.items():
        if not low <= getattr(call, name) <= high:
            raise ValueError(f"augment: {name} must lie in [{low}, {high}], got {getattr(call, name)}")
    if call.dtype not in DTYPES:
        raise ValueError(f"augment: dtype must be float32, bfloat16 or uint8, got {dtype_name(call.dtype)}")
    if (call.mean is None) != (call.std is None) or (call.mean is not None and call.dtype == torch.uint8):
        raise ValueError("augment: mean and std come together, and without dtype uint8")
    check("augment", "image", call.image, INT64, ("m",), call.pixels.device)
    m, C = len(call.image), call.channels
    tensors: dict[str, tuple[torch.dtype, tuple[int | str, ...]]] = {
        "pixels": (torch.uint8, ("P",)), "places": (torch.int64, ("n", 6)), "box": (torch.int64, (m, 4)),
        "flip": (torch.bool, (m,)), "pose": (torch.float32, (m, 2, 3)), "jitter": (torch.int64, (m, 4)),
        "factors": (torch.float32, (m, 4)), "gray": (torch.bool, (m,)), "sigma": (torch.float64, (m,)),
        "solarize": (torch.bool, (m,)), "mean": (torch.float32, (C,)), "std": (torch.float32, (C,)),
    }  # fmt: skip
    for name, (dtype, shape) in tensors.items():
        check("augment", name, getattr(call, name), (dtype,), shape, call.pixels.device)


def _check_rows(call: Call) -> None:
    """Refuse what names memory, operations or numbers that are not there, row by row."""

    def refuse(wrong: Tensor, what: str) -> None:
        if wrong.any():
            raise IndexError(f"augment: row {int(wrong.nonzero()[0, 0])}: {what}")

    refuse((call.image < 0) | (call.image >= len(call.places)), "no such image")
    offset, h0, w0, *strides = call.places[call.image].T
    reach = offset.double()  # of the last pixel; int64 could overflow
    for count, stride in zip((torch.full_like(h0, call.channels), h0, w0), strides, strict=True):
        reach = reach + (count - 1).double() * stride.double()
    least = torch.stack([offset, h0 - 1, w0 - 1, *strides]).amin(0)
    refuse((least < 0) | (reach >= len(call.pixels)), "its image is not within pixels")
    top, left, h, w = call.box.T
    inside = (top >= 0) & (left >= 0) & (h > 0) & (w > 0) & (h <= h0) & (w <= w0) & (top <= h0 - h) & (left <= w0 - w)
    refuse(~inside, "its box is not within its image")
    refuse(((call.jitter < -1) | (call.jitter >= len(JITTER))).any(1), "jitter has no such operation")
    if call.channels != 3:
        refuse(call.gray | (call.jitter >= 2).any(1), "gray, saturation and hue are of three channels")
    numbers = [call.factors, call.sigma[:, None], *([] if call.pose is None else [call.pose.flatten(1)])]
    refuse(
        ~torch.cat(numbers, 1).isfinite().all(1) | (call.sigma < 0),
        "factors, pose and sigma must be finite, sigma not below 0",
    )


@torch.library.impl(LIBRARY, "augment", "CompositeExplicitAutograd")
@one_thread()
def _reference(*arguments: Any) -> Tensor:
    call = Call(*arguments)
    _check(call)
    _check_rows(call)
    C, size = call.channels, call.size
    # Rows with the same order of jitter are processed together, in pieces that fit in cache.
    base = len(JITTER) + 1
    order, ranked = ((call.jitter + 1) * base ** torch.arange(4, device=call.jitter.device)).sum(1).sort(stable=True)
    piece = max(1, CHUNK // (C * size * size)) if order.device.type == "cpu" else max(1, len(order))
    out = call.empty()
    for run in ranked.split(order.unique_consecutive(return_counts=True)[1].tolist()):
        for rows in run.split(piece):
            x = _cropped(call, rows)
            if call.gray_first:
                _where(x, call.gray[rows], _to_gray)
            for number in call.jitter[rows[0]].tolist():
                if number >= 0:
                    x = JITTER[number](x, call.factors[rows, number].view(-1, 1, 1, 1))
            if not call.gray_first:
                _where(x, call.gray[rows], _to_gray)
            _where(x, call.sigma[rows] > 0, functools.partial(_blur, radius=call.radius), call.sigma[rows])
            _where(x, call.solarize[rows], lambda y: torch.where(y >= 0.5, 1 - y, y))
            out[rows] = _rounded(call, x.clamp_(0, 1))
    return out


def _rounded(call: Call, x: Tensor) -> Tensor:
    if call.mean is not None and call.std is not None:
        x = (x - call.mean[:, None, None]) / call.std[:, None, None]
    return ((x.double() * 255).round() if call.dtype == torch.uint8 else x).to(call.dtype)


@torch.library.register_fake("contrastkit::augment", lib=LIBRARY)
def _fake(*arguments: Any) -> Tensor:
    call = Call(*arguments)
    _check(call)
    return call.empty()


# ------------------------------------------------------------------------------------------------------------ geometry


def _cropped(call: Call, rows: Tensor) -> Tensor:
    """Pose, crop, resize and flip: float32 [n, C, size, size] in [0, 1]."""
    places, boxes, flips = call.places[call.image[rows]].tolist(), call.box[rows].tolist(), call.flip[rows].tolist()
    views = []
    for k, ((offset, *shape, channel, row, column), (y, x, h, w)) in enumerate(zip(places, boxes, strict=True)):
        image = call.pixels.contiguous()[offset:].as_strided((1, call.channels, *shape), (0, channel, row, column))
        if call.pose is not None:
            grid = F.affine_grid(call.pose[rows[k : k + 1]], list(image.shape), align_corners=False)
            image = F.grid_sample(image.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        crop = image[..., y : y + h, x : x + w].contiguous().float()
        view = F.interpolate(crop, (call.size, call.size), mode="bilinear", antialias=True)
        views.append(view.flip(-1) if flips[k] else view)
    return torch.cat(views) / 255


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


def _blur(x: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Gaussian blur of standard deviation sigma [n] in pixels; the border is mirrored, as in torchvision."""
    n, channels, side, _ = x.shape
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


JITTER = (_brightness, _contrast, _saturation, _hue)
