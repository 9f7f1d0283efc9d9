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

from contrastkit.ops.augment_colour import COLOURED, OPERATIONS, to_gray
from contrastkit.ops.library import INT64, LIBRARY, check, dtype_name, one_thread

LIBRARY.define(
    "augment(Tensor pixels, Tensor places, Tensor image, Tensor box, Tensor flip, Tensor? pose, Tensor jitter,"
    " Tensor factors, Tensor gray, Tensor sigma, Tensor solarize, Tensor? mean, Tensor? std, int channels, int size,"
    " int radius, bool gray_first, ScalarType dtype, bool channels_last, str interpolation, bool antialias, str border)"
    " -> Tensor"
)

MOST = 2**13  # pixels of a side, and channels
CHUNK = 1 << 17  # floats augmented at once on a CPU: half a MiB fits in a core's cache
DTYPES = (torch.float32, torch.bfloat16, torch.uint8)
CHOICES = {"interpolation": ("bilinear", "bicubic"), "border": ("mirrored", "zero", "repeated")}


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
    interpolation: str = "bilinear",
    antialias: bool = True,
    border: str = "mirrored",
) -> Tensor:
    """Cut, resize, colour and blur m views out of n images, in the arithmetic of float32.

    Resizing has the weights of torch.nn.functional.interpolate for an image that ends at the crop (of tf.image.resize
    for bicubic without antialias: a = -1/2, too); bicubic results are clipped. Each operation of the jitter ends in
    [0, 1], as torchvision's do. The blur is a Gaussian; weights that float32 cannot tell from zero may be left out.

    Args:
        pixels: uint8 [P], the memory of all images; places: int64 [n, 6], of each image the offset of its first pixel,
            its height and width, and the distances between its channels, rows and columns.
        image: int64 [m], which image; box: int64 [m, 4], the crop: top, left, height, width; flip: bool [m], mirrored.
        pose: float32 [m, 2, 3], from the posed image to the given one, as of torch.nn.functional.affine_grid: applied
            before the crop, bilinear, black outside.
        jitter: int64 [m, 4], the operations in their order: 0 brightness, 1 contrast, 2 saturation, 3 hue, -1 none; or
            TensorFlow's: 4 brightness by addition, 5 contrast about each channel's mean, 6 saturation of HSV.
        factors: float32 [m, 4], number k % 4 is of operation k: a factor, an addend, or the hue's rotation in turns.
        gray, solarize: bool [m]; sigma: float64 [m], of the blur in pixels of the view, 0 for none.
        mean, std: float32 [C], subtracted and divided by at the end.
        channels: C; gray, saturation and hue need three.
        size: side of a view; radius: of the blur's kernel, at most size - 1, which is not truncated.
        gray_first: gray before the jitter; channels_last: the views' memory format; dtype: theirs, float32, bfloat16
            or uint8, rounded once, uint8 from [0, 255].
        interpolation: "bilinear" or "bicubic"; antialias: with weights that are wider when it shrinks; border: of the
            blur, "mirrored" (torchvision), "repeated" (PIL) or "zero" (padding "SAME").

    Returns:
        [m, C, size, size] in [0, 1], or as of mean, std and dtype.

    Raises:
        ValueError: shapes, dtypes, devices or numbers do not fit.
        IndexError: a row's image, crop or operation does not exist, or a number is not finite (CUDA: an assertion).
    """
    return torch.ops.contrastkit.augment(
        pixels, places, image, box, flip, pose, jitter, factors, gray, sigma, solarize, mean, std, channels, size,
        radius, gray_first, dtype, channels_last, interpolation, antialias, border,
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
    interpolation: str
    antialias: bool
    border: str

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
    for name, known in CHOICES.items():
        if getattr(call, name) not in known:
            raise ValueError(f"augment: {name} must be one of {', '.join(known)}, got {getattr(call, name)}")
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
    refuse(((call.jitter < -1) | (call.jitter >= len(OPERATIONS))).any(1), "jitter has no such operation")
    if call.channels != 3:
        coloured = torch.isin(call.jitter, torch.tensor(COLOURED, device=call.jitter.device))
        refuse(call.gray | coloured.any(1), "gray, saturation and hue are of three channels")
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
    base = len(OPERATIONS) + 1
    order, ranked = ((call.jitter + 1) * base ** torch.arange(4, device=call.jitter.device)).sum(1).sort(stable=True)
    piece = max(1, CHUNK // (C * size * size)) if order.device.type == "cpu" else max(1, len(order))
    out = call.empty()
    for run in ranked.split(order.unique_consecutive(return_counts=True)[1].tolist()):
        for rows in run.split(piece):
            x = _cropped(call, rows)
            if call.gray_first:
                _where(x, call.gray[rows], to_gray)
            for number in call.jitter[rows[0]].tolist():
                if number >= 0:
                    x = OPERATIONS[number](x, call.factors[rows, number % 4].view(-1, 1, 1, 1))
            if not call.gray_first:
                _where(x, call.gray[rows], to_gray)
            _where(x, call.sigma[rows] > 0, functools.partial(_blur, call), call.sigma[rows])
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
        view = _resized(call, crop)
        views.append(view.flip(-1) if flips[k] else view)
    x = torch.cat(views) / 255
    return x.clamp_(0, 1) if call.interpolation == "bicubic" else x


def _resized(call: Call, crop: Tensor) -> Tensor:
    """float32 [1, C, size, size]."""
    if call.antialias or call.interpolation == "bilinear":
        return F.interpolate(crop, (call.size, call.size), mode=call.interpolation, antialias=call.antialias)
    down, across = (_keys(length, call.size).to(crop) for length in crop.shape[-2:])
    return down @ crop @ across.mT


def _keys(length: int, size: int) -> Tensor:
    """Keys's weights without antialias, float64 [size, length]."""
    centre = (torch.arange(size, dtype=torch.float64)[:, None] + 0.5) * (length / size) - 0.5
    x = (torch.arange(length) - centre).abs()
    near, far = (1.5 * x - 2.5) * x * x + 1, ((2.5 - 0.5 * x) * x - 4) * x + 2
    weights = torch.where(x < 1, near, torch.where(x < 2, far, 0))
    return weights / weights.sum(1, keepdim=True)


# ---------------------------------------------------------------------------------------------------------------- blur


def _where(x: Tensor, mask: Tensor, op: Callable[..., Tensor], *args: Tensor) -> None:
    """x[mask] = op(x[mask], args[mask]), in place."""
    rows = mask.nonzero()[:, 0]
    if len(rows):
        x[rows] = op(x.index_select(0, rows), *(a[rows] for a in args))


def _blur(call: Call, x: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of standard deviation sigma [n] in pixels."""
    n, channels, side, _ = x.shape
    reach = torch.arange(2 * side - 1, device=x.device)
    kernel = torch.exp(-((reach / sigma[:, None]) ** 2) / 2) * (reach <= call.radius)
    kernel /= (
        2 * kernel.sum(1, keepdim=True) - kernel[:, :1]
    )  # float64 so far: rounded once, it is the same in any batch
    kernel = kernel.float()
    low = kernel.unfold(1, side, 1).clone()  # [n, side, side]: weight at distance i + j, pixel j mirrored to -j
    high = low.flip(1, 2)  # at 2 (side - 1) - i - j, pixel j mirrored beyond the far end
    low[:, :, 0], high[:, :, -1] = 0, 0  # the border pixels themselves are not repeated
    matrix = torch.cat([kernel[:, 1:side].flip(1), kernel[:, :side]], 1).unfold(1, side, 1).flip(1)  # at |i - j|
    if call.border == "mirrored":
        matrix = matrix + low + high
    elif call.border == "repeated":
        matrix = matrix.clone()
        matrix[:, :, 0] += low.sum(2)
        matrix[:, :, -1] += high.sum(2)
    x = torch.bmm(x.reshape(n, channels * side, side), matrix.mT).view_as(x)
    return matrix[:, None] @ x
