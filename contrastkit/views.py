"""Augmentations: each paper's recipe is a row of numbers, and one function applies a row to a batch.

    pose, crop, flip -> jitter -> gray -> blur -> solarize     (``gray_first``: gray before jitter, as MoCo v1 has it)

Every sample of every view draws its own parameters, from :mod:`contrastkit.rng`. What one sample becomes does not
depend on the batch around it: all arithmetic is per sample, in kernels that round each operation alone.

Crop, resize, flip and blur are linear and separable, so each is two small matrices per sample: y = A_rows x A_cols^T.
That is exact (antialiased when it shrinks) and on a CPU several times faster than sampling pixel by pixel.

Where this departs from the papers' code: SimCLR and BYOL resize bicubically and BYOL's brightness is additive; here
resizing is bilinear (MoCo's) and jitter is torchvision's ColorJitter throughout. Blur mirrors the border.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from contrastkit.errors import UserError, suggest
from contrastkit.rng import permutation, uniform

if TYPE_CHECKING:
    from contrastkit.data.source import Source

GRAY = (0.2989, 0.587, 0.114)  # luma weights of torchvision and PIL (ITU-R 601)
ATTEMPTS = 10  # RandomResizedCrop's tries before it falls back on the largest centred crop
SLOTS = 18  # draws per sample before those of the crop's attempts
CHUNK = 1 << 17  # floats augmented at once on a CPU: half a MiB stays in a core's cache


@dataclass(frozen=True, kw_only=True)
class View:
    """The numbers of one augmentation. Colour operations apply to images of three channels only."""

    size: Annotated[int, "side of a view in pixels"] = 224
    crop_min: Annotated[float, "smallest crop, as a share of the image's area (RandomResizedCrop)"] = 0.2
    crop_max: Annotated[float, "largest crop, as a share of the image's area"] = 1.0
    ratio: Annotated[float, "crop's aspect ratio lies in [1/ratio, ratio], log-uniformly"] = 4 / 3
    flip_p: Annotated[float, "probability of a horizontal flip"] = 0.5
    jitter_p: Annotated[float, "probability of colour jitter (operations in random order)"] = 0.8
    brightness: Annotated[float, "jitter: factor in 1 +- this"] = 0.4
    contrast: Annotated[float, "jitter: factor in 1 +- this"] = 0.4
    saturation: Annotated[float, "jitter: factor in 1 +- this"] = 0.4
    hue: Annotated[float, "jitter: turn in +- this, 0.5 is half the colour circle"] = 0.1
    gray_p: Annotated[float, "probability of dropping the colour"] = 0.2
    gray_first: Annotated[bool, "drop the colour before the jitter (MoCo v1's order)"] = False
    blur_p: Annotated[float, "probability of Gaussian blur (SimCLR, App. A)"] = 0.0
    sigma_min: Annotated[float, "blur: smallest standard deviation in pixels"] = 0.1
    sigma_max: Annotated[float, "blur: largest standard deviation in pixels"] = 2.0
    blur_span: Annotated[
        float, "blur: kernel width as a share of the side (SimCLR: 0.1); 0 = not cut off (PIL, MoCo)"
    ] = 0.0
    solarize_p: Annotated[float, "probability of inverting pixels above one half (BYOL, App. B)"] = 0.0
    degrees: Annotated[float, "rotation in +- degrees"] = 0.0
    shear: Annotated[float, "horizontal shear in +- degrees"] = 0.0
    translate: Annotated[float, "shift in +- this share of the side"] = 0.0
    zoom_min: Annotated[float, "smallest magnification"] = 1.0
    zoom_max: Annotated[float, "largest magnification"] = 1.0

    def __post_init__(self) -> None:
        for wrong, says in (
            (self.size < 1, f"--size must be at least 1, not {self.size}"),
            (
                not 0 < self.crop_min <= self.crop_max <= 1,
                f"--crop-min {self.crop_min} and --crop-max {self.crop_max} must be in order and lie in (0, 1]",
            ),
            (not self.ratio >= 1, f"--ratio must be at least 1, not {self.ratio}"),
            (
                not 0 < self.sigma_min <= self.sigma_max,
                f"--sigma-min {self.sigma_min} and --sigma-max {self.sigma_max} must be in order and above 0",
            ),
            (
                not 0 < self.zoom_min <= self.zoom_max,
                f"--zoom-min {self.zoom_min} and --zoom-max {self.zoom_max} must be in order and above 0",
            ),
            (not 0 <= self.hue <= 0.5, f"--hue must lie in [0, 0.5], not {self.hue}"),
        ):
            if wrong:
                raise UserError(says)
        for name in ("flip_p", "jitter_p", "gray_p", "blur_p", "solarize_p"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"--{name.replace('_', '-')} is a probability, not {getattr(self, name)}")
        for name in ("brightness", "contrast", "saturation", "blur_span", "degrees", "shear", "translate"):
            if not getattr(self, name) >= 0:
                raise UserError(f"--{name.replace('_', '-')} must not be negative, not {getattr(self, name)}")

    @property
    def affine(self) -> bool:
        """Whether images are rotated, sheared, shifted or zoomed before the crop."""
        return any((self.degrees, self.shear, self.translate)) or (self.zoom_min, self.zoom_max) != (1, 1)


@dataclass(frozen=True, kw_only=True)
class Window:
    """A stretch of a sound, the view of :mod:`contrastkit.methods.cpc_audio`."""

    size: Annotated[int, "samples of a window"]

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UserError(f"--size must be at least 1, not {self.size}")


# MoCo's main_moco.py; v2 adds blur (Sec. 3) and weakens the hue.
_V1 = View(jitter_p=1.0, hue=0.4, gray_first=True)
_V2 = View(blur_p=0.5)
# SimCLR, App. A: jitter of strength s is (.8s, .8s, .8s, .2s). App. B.9: CIFAR-10 takes s = 0.5 and no blur.
_SIMCLR = View(crop_min=0.08, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, blur_p=0.5, blur_span=0.1)
# BYOL, App. B, Table 6: the two views differ in blur and solarization.
_BYOL = View(crop_min=0.08, saturation=0.2, blur_p=1.0, blur_span=0.1)
# SwAV's scripts and multicropdataset.py: SimCLR's jitter, s = 1, for two full-size crops and for the small ones.
_SWAV = View(crop_min=0.14, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, blur_p=0.5)
_SWAV_SMALL = replace(_SWAV, size=96, crop_min=0.05, crop_max=0.14)

# CMC, train_CMC.py: crop and flip alone (--crop_low 0.08 for ResNets on ImageNet).
_CMC = View(crop_min=0.08, jitter_p=0.0, gray_p=0.0)

# MoCo v3, main_moco.py: BYOL's, blurred by PIL. DINO, main_dino.py: the same in global crops, and local ones.
_V3 = View(saturation=0.2, blur_p=1.0), View(saturation=0.2, blur_p=0.1, solarize_p=0.2)
_LOCAL = View(size=96, crop_min=0.05, crop_max=0.4, saturation=0.2, blur_p=0.5)

# CPC crops 256 (v1) or 260 (v2) of 300 pixels and augments patch by patch.
_CPC = View(size=260, crop_min=(260 / 300) ** 2, crop_max=(260 / 300) ** 2, ratio=1.0, jitter_p=0.0, gray_p=0.0)
# Bolts shifts CIFAR's images by up to 4 pixels; a crop of 28 of 32 does as much.
_CPC_CIFAR = View(size=32, crop_min=(28 / 32) ** 2, ratio=1.0, hue=0.2, gray_p=0.25)

# For digits and letters: no flip, which would change the class, and no colour; poses instead. They must move a digit as
# far as the set does, or its place on the canvas tells which image it is; crops would cut it off.
_DIGITS = View(
    size=32, crop_min=1.0, flip_p=0.0, jitter_p=0.0, gray_p=0.0,
    degrees=30.0, shear=15.0, translate=0.25, zoom_min=0.7, zoom_max=1.3,
)  # fmt: skip

VIEWS: dict[str, tuple[View, ...]] = {
    "instdisc": (_V1,),  # lemniscate.pytorch's main.py; MoCo v1 took it over
    "instdisc-cifar": (replace(_V1, size=32, flip_p=0.0, gray_first=False),),  # its cifar.py
    "cpc-v1": (replace(_CPC, size=256, crop_min=(256 / 300) ** 2, crop_max=(256 / 300) ** 2, gray_p=1.0),),  # Sec. 3.2
    "cpc-v1-patches": (  # Sec. 3.2: 60 of 64 pixels
        replace(_CPC, size=64, crop_min=(60 / 64) ** 2, crop_max=(60 / 64) ** 2, flip_p=0.0),
    ),
    "cpc-v2": (_CPC,),  # App. A.1
    "cpc-v2-patches": (  # App. A.1: Inception's colours 0.8, gray 0.25; for the rest, poses and AutoAugment's solarize
        View(
            size=80, crop_min=1.0, flip_p=0.0, brightness=32 / 255, contrast=0.5, saturation=0.5, hue=0.2, gray_p=0.25,
            degrees=10.0, shear=10.0, solarize_p=2 / 16,
        ),
    ),
    "cpc-cifar": (_CPC_CIFAR,),
    "cpc-cifar-patches": (replace(_CPC_CIFAR, size=8, crop_min=1.0, flip_p=0.0),),
    "cmc": (_CMC,),
    "cmc-32": (replace(_CMC, size=32, crop_min=0.2),),  # its default --crop_low
    "moco-v1": (_V1, _V1),
    "moco-v2": (_V2, _V2),
    "moco-cifar": (replace(_V2, size=32, crop_min=0.08, blur_p=0.0),) * 2,  # MoCo's CIFAR-10 demo
    "simclr": (_SIMCLR, _SIMCLR),
    "simclr-cifar": (
        replace(_SIMCLR, size=32, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, blur_p=0.0),
    ) * 2,
    "byol": (_BYOL, replace(_BYOL, blur_p=0.1, solarize_p=0.2)),
    "byol-cifar": (  # solo-learn's asymmetric.yaml for CIFAR: no blur
        replace(_BYOL, size=32, blur_p=0.0), replace(_BYOL, size=32, blur_p=0.0, solarize_p=0.2),
    ),
    "swav": (_SWAV,) * 2 + (_SWAV_SMALL,) * 6,
    "swav-small": (replace(_SWAV, size=160),) * 2 + (_SWAV_SMALL,) * 4,  # fewer pixels than two of 224
    "swav-cifar": (replace(_SWAV, size=32, blur_p=0.0),) * 2,  # lightly's CIFAR-10 benchmark
    "moco-v3": _V3,  # CONFIG.md: --crop-min 0.2 for ResNets, 0.08 for ViTs
    "moco-v3-vit": tuple(replace(view, crop_min=0.08) for view in _V3),
    "dino": (*(replace(view, crop_min=0.4) for view in _V3), *(_LOCAL,) * 8),
    "dino-r50": (*(replace(view, crop_min=0.14) for view in _V3), *(replace(_LOCAL, crop_max=0.14),) * 8),
    "dino-32": tuple(replace(view, size=32, crop_min=0.4, blur_p=0.0) for view in _V3),  # lightly's for CIFAR
    "digits": (_DIGITS,) * 2,
    # And brightness, contrast and sharpness: what two views share of these, a loss without negatives would follow.
    "digits-strong": (
        replace(_DIGITS, jitter_p=1.0, brightness=0.6, contrast=0.6, blur_p=0.5, sigma_min=0.3),
    ) * 2,
}  # fmt: skip


def named_views(name: str) -> tuple[View, ...]:
    """The row called ``name``.

    Raises:
        UserError: there is none; the nearest is suggested.
    """
    if name not in VIEWS:
        raise UserError(f"unknown views '{name}'{suggest(name, VIEWS)} (known: {', '.join(VIEWS)})")
    return VIEWS[name]


def augment(
    images: Tensor | Sequence[Tensor], view: View, *, seed: int, epoch: int, index: Tensor, v: int | Tensor
) -> Tensor:
    """One view of each image.

    Args:
        images: uint8 [n, C, H, W], or n tensors uint8 [C, H_i, W_i].
        index: int64 [n], the images' positions in the data set; with ``seed``, ``epoch`` and ``v`` they fix every draw.
        v: number of the view, one for all or int64 [n].

    Returns:
        float32 [n, C, size, size] in [0, 1].
    """
    n, (channels, *_), device, size = len(images), images[0].shape, images[0].device, view.size
    rgb = channels == 3
    strength = {
        _brightness: view.brightness,
        _contrast: view.contrast,
        _saturation: view.saturation * rgb,
        _hue: view.hue * rgb,
    }
    orders = list(itertools.permutations([op for op in strength if strength[op] > 0]))

    u = uniform(seed, epoch, index, v, SLOTS + 2 * ATTEMPTS)
    # Samples of one order of jitter go together, in pieces that stay in cache; -1 is no jitter.
    which, ranked = torch.where(u[:, 0] < view.jitter_p, (u[:, 1] * len(orders)).long(), -1).sort(stable=True)
    piece = max(1, CHUNK // (channels * size * size)) if device.type == "cpu" else n
    u, home = u[ranked].to(device), ranked.to(device)
    images = images.index_select(0, home) if isinstance(images, Tensor) else [images[i] for i in ranked.tolist()]

    bright, contrast, saturate, turn, gray, blur, sigma, flip, solarize, down, right, *pose = u[:, 2:SLOTS].T
    box = _crop_boxes(view, u[:, SLOTS:], down, right, images)
    factor = {
        _brightness: _around_one(bright, view.brightness),
        _contrast: _around_one(contrast, view.contrast),
        _saturation: _around_one(saturate, view.saturation),
        _hue: ((2 * turn - 1) * view.hue).float(),
    }
    gray, blur, solarize = gray < view.gray_p * rgb, blur < view.blur_p, solarize < view.solarize_p
    sigma = view.sigma_min + (view.sigma_max - view.sigma_min) * sigma
    flip = flip < view.flip_p

    out = torch.empty(n, channels, size, size, device=device)
    for start, stop in _pieces(which, piece):
        s = slice(start, stop)
        x = _cropped(images[s], view, [side[s] for side in box], flip[s], [p[s] for p in pose])
        if view.gray_first:
            _where(x, gray[s], _to_gray)
        for op in orders[which[start]] if which[start] >= 0 else ():
            x = op(x, factor[op][s].view(-1, 1, 1, 1))
        if not view.gray_first:
            _where(x, gray[s], _to_gray)
        if view.blur_p:
            _where(x, blur[s], lambda y, by: _blur(y, by, view.blur_span), sigma[s])
        if view.solarize_p:
            _where(x, solarize[s], lambda y: torch.where(y >= 0.5, 1 - y, y))
        out[home[s]] = x.clamp_(0, 1)
    return out


def windows(
    clips: Tensor | Sequence[Tensor], window: Window, *, seed: int, epoch: int, index: Tensor, v: int | Tensor
) -> Tensor:
    """A window of each clip, drawn uniformly; a clip that is shorter goes round, from anywhere in it.

    Args:
        clips: n tensors int16 [1, 1, T_i].
        index, v: as of :func:`augment`.

    Returns:
        float32 [n, 1, 1, size] in [-1, 1].
    """
    size, lengths = window.size, torch.tensor([clip.shape[-1] for clip in clips])
    places = torch.where(lengths >= size, lengths - size + 1, lengths)
    starts = (uniform(seed, epoch, index, v, 1)[:, 0] * places).long()
    return _stretches(clips, starts.tolist(), size)


def middle(clips: Tensor | Sequence[Tensor], size: int) -> Tensor:
    """The window in the middle of each clip; a clip that is shorter goes round from its beginning. As
    :func:`windows`."""
    return _stretches(clips, [max(0, (clip.shape[-1] - size) // 2) for clip in clips], size)


def _stretches(clips: Tensor | Sequence[Tensor], starts: Sequence[int], size: int) -> Tensor:
    """[start, start + size) of each clip, round and round where it ends before."""
    cut = [
        clip[..., torch.arange(start, start + size) % clip.shape[-1]] for clip, start in zip(clips, starts, strict=True)
    ]
    return torch.stack(cut).float() / 2**15


def _pieces(which: Tensor, piece: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of every run of equal values, cut into pieces of at most ``piece``."""
    start = 0
    for count in which.unique_consecutive(return_counts=True)[1].tolist():
        for at in range(start, start + count, piece):
            yield at, min(at + piece, start + count)
        start += count


# ------------------------------------------------------------------------------------------------------------ geometry


def _crop_boxes(
    view: View, u: Tensor, down: Tensor, right: Tensor, images: Tensor | Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """torchvision's RandomResizedCrop.get_params for every image: top, left, height, width, int64 [n] each."""
    if isinstance(images, Tensor):
        sides = torch.tensor([images.shape[-2:]], device=u.device).double().expand(len(images), 2)
    else:
        sides = torch.tensor([image.shape[-2:] for image in images], device=u.device).double()
    h0, w0 = sides[:, :1], sides[:, 1:]
    area = h0 * w0 * (view.crop_min + (view.crop_max - view.crop_min) * u[:, :ATTEMPTS])
    ratio = torch.exp((2 * u[:, ATTEMPTS : 2 * ATTEMPTS] - 1) * math.log(view.ratio))
    w, h = torch.sqrt(area * ratio).round(), torch.sqrt(area / ratio).round()
    fits = (w > 0) & (w <= w0) & (h > 0) & (h <= h0)
    # The last column is the fall-back: the largest centred crop whose ratio is allowed.
    w = torch.cat([w, torch.minimum(w0, (h0 * view.ratio).round())], 1)
    h = torch.cat([h, torch.minimum(h0, (w0 * view.ratio).round())], 1)
    first = torch.cat([fits, torch.ones_like(fits[:, :1])], 1).int().argmax(1, keepdim=True)
    w, h = w.gather(1, first)[:, 0], h.gather(1, first)[:, 0]
    centred = first[:, 0] == ATTEMPTS
    top = torch.where(centred, (h0[:, 0] - h) / 2, down * (h0[:, 0] - h + 1)).floor()
    left = torch.where(centred, (w0[:, 0] - w) / 2, right * (w0[:, 0] - w + 1)).floor()
    return tuple(side.long() for side in (top, left, h, w))


def _cropped(
    images: Tensor | Sequence[Tensor], view: View, box: Sequence[Tensor], flip: Tensor, pose: Sequence[Tensor]
) -> Tensor:
    """Pose, crop, resize and flip: float32 [n, C, size, size] in [0, 1]."""
    top, left, height, width = box
    size = view.size
    if isinstance(images, Tensor):
        x = images.float()
        if view.affine:
            x = _affine(x, view, pose)
        n, channels, h0, w0 = x.shape
        across = _resizer(left, width, w0, size, flip) / 255
        x = torch.bmm(x.view(n, channels * h0, w0), across.mT).view(n, channels, h0, size)
        return _resizer(top, height, h0, size)[:, None] @ x
    views = []
    for i, image in enumerate(images):
        x = image[None]
        if view.affine:
            x = _affine(x.float(), view, [p[i : i + 1] for p in pose])
        y0, x0, h, w = (int(side[i]) for side in box)
        x = F.interpolate(x[..., y0 : y0 + h, x0 : x0 + w], (size, size), mode="bilinear", antialias=True).float()
        views.append(x.flip(-1) if flip[i] else x)
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


def _affine(x: Tensor, view: View, pose: Sequence[Tensor]) -> Tensor:
    """torchvision's RandomAffine, bilinear with black outside: x float32 [n, C, H, W], pose five draws [n] each."""
    turn, slant, dx, dy, zoom = pose
    h, w = x.shape[-2:]
    rotation = torch.deg2rad((2 * turn - 1) * view.degrees)
    tan = torch.tan(torch.deg2rad((2 * slant - 1) * view.shear))
    scale = view.zoom_min + (view.zoom_max - view.zoom_min) * zoom
    tx, ty = ((2 * dx - 1) * view.translate * w).round(), ((2 * dy - 1) * view.translate * h).round()
    cos, sin = torch.cos(rotation), torch.sin(rotation)
    # Output pixel -> input pixel, about the centre: the inverse of rotation * shear * scale.
    m00, m01 = (cos - sin * tan) / scale, (cos * tan + sin) / scale
    m10, m11 = -sin / scale, cos / scale
    m02, m12 = -m00 * tx - m01 * ty, -m10 * tx - m11 * ty
    theta = torch.stack([m00, m01 * h / w, 2 * m02 / w, m10 * w / h, m11, 2 * m12 / h], 1).view(-1, 2, 3)
    grid = F.affine_grid(theta.float(), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


# --------------------------------------------------------------------------------------- colour: x float32 [n, C, H, W]
# One rounded operation at a time (no lerp, no addcmul): a fused one rounds differently in a loop's vector and scalar
# parts, and then a sample would depend, in its last bit, on its place in the batch.


def _around_one(u: Tensor, strength: float) -> Tensor:
    low = max(0.0, 1 - strength)
    return (low + (1 + strength - low) * u).float()


def _where(x: Tensor, mask: Tensor, op, *args: Tensor) -> None:  # type: ignore[no-untyped-def]
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
    """Turn the hue in HSV space: out = V - (V - min) * distance of the turned hue from the channel's own sector."""
    r, g, b = x.unbind(1)
    top = torch.maximum(torch.maximum(r, g), b)
    span = top - torch.minimum(torch.minimum(r, g), b)
    inverse = 1 / span.clamp(min=1e-12)  # gray pixels: every difference is 0, so is the hue
    is_r = top.clone().eq_(r)  # in place: ones and zeros without a detour over bool
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
    """Gaussian blur of standard deviation sigma [n] in pixels; the border is mirrored, as torchvision does."""
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


# ---------------------------------------------------------------------------------------------------------------- sheet


def sheet(source: "Source", views: Sequence[View], *, n: int = 8, epochs: int = 4, seed: int = 0) -> Image.Image:
    """What the network sees: a row for each of ``n`` images drawn from ``source``, the original left, then each view as
    it is in each of ``epochs`` epochs. RGB; the first channel where there are not three."""
    images, index = source.take(permutation(seed, 0, len(source))[:n])
    size = max(view.size for view in views)
    columns = [torch.stack([_fitted(image, size) for image in images])]
    for epoch, (v, view) in itertools.product(range(epochs), enumerate(views)):
        columns.append(augment(images, view, seed=seed, epoch=epoch, index=index, v=v))
    gap = max(1, size // 16)
    cells = [
        F.pad(c if c.shape[1] == 3 else c[:, :1].expand(-1, 3, -1, -1), _frame(c, size, gap), value=1) for c in columns
    ]
    grid = torch.stack(cells, 1).permute(0, 3, 1, 4, 2)  # rows, height, columns, width, 3
    rows, height, across, width, _ = grid.shape
    pixels = (grid.reshape(rows * height, across * width, 3) * 255).round().to(torch.uint8)
    return Image.fromarray(pixels.numpy())


def _fitted(image: Tensor, size: int) -> Tensor:
    """uint8 [C, H, W] -> float [C, size, size], the whole image, black beside it."""
    h, w = image.shape[-2:]
    h, w = round(h * size / max(h, w)) or 1, round(w * size / max(h, w)) or 1
    image = F.interpolate(image[None].float() / 255, (h, w), mode="bilinear", antialias=True)[0]
    return F.pad(image, ((size - w) // 2, size - w - (size - w) // 2, (size - h) // 2, size - h - (size - h) // 2))


def _frame(column: Tensor, size: int, gap: int) -> tuple[int, int, int, int]:
    """Padding that brings a column's cells to one size, whatever the view's."""
    room = size - column.shape[-1]
    return gap, room + gap, gap, room + gap
