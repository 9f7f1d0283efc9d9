"""Everything random in a view, drawn without reading the image: only its size and channels matter.

Each sample of each view draws its numbers from :mod:`contrastkit.rng` at its own address. The slots of a draw are fixed
forever: a resumed run must draw the same numbers as an uninterrupted one, whatever the version.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from contrastkit.augment.rows import View
from contrastkit.rng import uniform
from contrastkit.types import Images

ATTEMPTS = 10  # RandomResizedCrop's attempts before it falls back to the largest centred crop
SLOTS = 18  # draws per sample that precede those of the crop's attempts
OPERATIONS = ("brightness", "contrast", "saturation", "hue")  # of the jitter, in the numbering of Params.jitter
COLUMNS: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {  # the tensors of Params: dtype, and shape of a row
    "image": (torch.int64, ()), "box": (torch.int64, (4,)), "flip": (torch.bool, ()), "pose": (torch.float32, (2, 3)),
    "jitter": (torch.int64, (4,)), "factors": (torch.float32, (4,)), "gray": (torch.bool, ()),
    "sigma": (torch.float64, ()), "solarize": (torch.bool, ()),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Params:
    """The draws for m views, one row each; with the images, all that :func:`contrastkit.augment.augment` needs."""

    view: View  # the view they were drawn for; its size, order and blur width are not random
    image: Tensor  # int64 [m], position of the image in the batch
    box: Tensor  # int64 [m, 4], the crop: top, left, height, width in pixels
    flip: Tensor  # bool [m]
    pose: Tensor | None  # float32 [m, 2, 3], output -> input of torch.nn.functional.affine_grid, before the crop
    jitter: Tensor  # int64 [m, 4], numbers of OPERATIONS in the order they are applied (TensorFlow's: + 4), then -1
    factors: Tensor  # float32 [m, 4], for each of OPERATIONS: three factors (or addends) and the rotation of the hue
    gray: Tensor  # bool [m]
    sigma: Tensor  # float64 [m], of the blur in pixels; 0 is none
    solarize: Tensor  # bool [m]

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, rows: Tensor | slice) -> "Params":
        return self._map(lambda tensor: tensor[rows])

    def to(self, device: torch.device) -> "Params":
        return self._map(lambda tensor: tensor.to(device))

    def table(self) -> Tensor:
        """All numbers in one tensor, which travels at once: float64 [m, columns], in which each of them is exact."""
        present = [tensor for name in COLUMNS if (tensor := getattr(self, name)) is not None]
        return torch.cat([tensor.double().reshape(len(self), -1) for tensor in present], 1)

    @classmethod
    def of(cls, view: View, table: Tensor) -> "Params":
        """The draws for a view that :meth:`table` returned, on the table's device."""
        present = {name: kind for name, kind in COLUMNS.items() if name != "pose" or view.affine}
        parts = table.split([math.prod(shape) for _, shape in present.values()], 1)
        values: dict[str, Any] = {
            name: part.reshape(len(table), *shape).to(dtype)
            for (name, (dtype, shape)), part in zip(present.items(), parts, strict=True)
        }
        return cls(view=view, **{"pose": None, **values})

    def _map(self, change: Callable[[Tensor], Tensor]) -> "Params":
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        changed: dict[str, Any] = {k: change(value) for k, value in values.items() if isinstance(value, Tensor)}
        return replace(self, **changed)


def draw(view: View, sizes: Tensor, *, channels: int, seed: int, time: int, index: Tensor, v: int | Tensor) -> Params:
    """The random numbers of one view of each of n images, or of several.

    Args:
        sizes: int64 [n, 2], heights and widths of the images.
        channels: gray, saturation and hue apply to images of three channels only.
        time: the epoch; any time of :mod:`contrastkit.rng`.
        index: int64 [n], the images' positions in the data set; with ``seed``, ``time`` and ``v`` these determine
            every draw.
        v: number of the view: an int for all images, int64 [n], or int64 [V, 1] for V views of each image.

    Returns:
        n rows, or V * n, view by view; on the device of ``index``.
    """
    index, number = torch.broadcast_tensors(index, torch.as_tensor(v, device=index.device))
    image = torch.arange(len(sizes), device=index.device).expand(index.shape).flatten()
    u = uniform(seed, time, index.flatten(), number.flatten(), SLOTS + 2 * ATTEMPTS)
    jitter, order, bright, contrast, saturate, turn, *rest = u[:, :SLOTS].T
    gray, blur, sigma, flip, solarize, down, right, *pose = rest
    sizes, rgb = sizes.to(index.device)[image].double(), channels == 3
    strengths = (view.brightness, view.contrast, view.saturation * rgb, view.hue * rgb)
    adds = view.brightness_by == "addend"
    others = (adds, view.contrast_about == "channels", view.saturation_in == "hsv", False)
    factors = [
        (2 * bright - 1) * view.brightness if adds else _around_one(bright, view.brightness),
        _around_one(contrast, view.contrast),
        _around_one(saturate, view.saturation),
        (2 * turn - 1) * view.hue,
    ]
    return Params(
        view=view,
        image=image,
        box=_crop_boxes(view, u[:, SLOTS:], down, right, sizes),
        flip=flip < view.flip_p,
        pose=_pose(view, pose, sizes) if view.affine else None,
        jitter=_orders(strengths, others, order).where((jitter < view.jitter_p)[:, None], -1),
        factors=torch.stack(factors, 1).float(),
        gray=gray < view.gray_p * rgb,
        sigma=(view.sigma_min + (view.sigma_max - view.sigma_min) * sigma).where(blur < view.blur_p, 0),
        solarize=solarize < view.solarize_p,
    )


def sizes_of(images: Images) -> Tensor:
    """int64 [n, 2], heights and widths."""
    if isinstance(images, Tensor):
        return torch.tensor([images.shape[-2:]]).expand(len(images), 2)
    return torch.tensor([image.shape[-2:] for image in images])


def _around_one(u: Tensor, strength: float) -> Tensor:
    low = max(0.0, 1 - strength)
    return low + (1 + strength - low) * u


def _orders(strengths: tuple[float, ...], others: tuple[bool, ...], u: Tensor) -> Tensor:
    """A uniformly random order of the operations in use: int64 [m, 4], padded with -1."""
    in_use = [k + 4 * others[k] for k, strength in enumerate(strengths) if strength > 0]
    rest = [-1] * (len(strengths) - len(in_use))
    orders = torch.tensor([[*order, *rest] for order in itertools.permutations(in_use)], device=u.device)
    return orders[(u * len(orders)).long()]


def _crop_boxes(view: View, u: Tensor, down: Tensor, right: Tensor, sizes: Tensor) -> Tensor:
    """torchvision's RandomResizedCrop.get_params: int64 [m, 4], top, left, height, width. ``sizes`` float64 [m, 2]."""
    h0, w0 = sizes[:, :1], sizes[:, 1:]
    area = h0 * w0 * (view.crop_min + (view.crop_max - view.crop_min) * u[:, :ATTEMPTS])
    ratio = torch.exp((2 * u[:, ATTEMPTS : 2 * ATTEMPTS] - 1) * math.log(view.ratio))
    w, h = torch.sqrt(area * ratio).round(), torch.sqrt(area / ratio).round()
    fits = (w > 0) & (w <= w0) & (h > 0) & (h <= h0)
    # The last column is the fallback: the largest centred crop with an allowed ratio.
    w = torch.cat([w, torch.minimum(w0, (h0 * view.ratio).round())], 1)
    h = torch.cat([h, torch.minimum(h0, (w0 * view.ratio).round())], 1)
    first = torch.cat([fits, torch.ones_like(fits[:, :1])], 1).int().argmax(1, keepdim=True)
    w, h = w.gather(1, first)[:, 0], h.gather(1, first)[:, 0]
    centred = first[:, 0] == ATTEMPTS
    top = torch.where(centred, (h0[:, 0] - h) / 2, down * (h0[:, 0] - h + 1)).floor()
    left = torch.where(centred, (w0[:, 0] - w) / 2, right * (w0[:, 0] - w + 1)).floor()
    return torch.stack([top, left, h, w], 1).long()


def _pose(view: View, u: list[Tensor], sizes: Tensor) -> Tensor:
    """torchvision's RandomAffine from five draws: float32 [m, 2, 3], from output to input, about the centre."""
    turn, slant, dx, dy, zoom = u
    h, w = sizes.T
    rotation = torch.deg2rad((2 * turn - 1) * view.degrees)
    tan = torch.tan(torch.deg2rad((2 * slant - 1) * view.shear))
    scale = view.zoom_min + (view.zoom_max - view.zoom_min) * zoom
    tx, ty = ((2 * dx - 1) * view.translate * w).round(), ((2 * dy - 1) * view.translate * h).round()
    cos, sin = torch.cos(rotation), torch.sin(rotation)
    # The inverse of rotation * shear * scale.
    m00, m01 = (cos - sin * tan) / scale, (cos * tan + sin) / scale
    m10, m11 = -sin / scale, cos / scale
    m02, m12 = -m00 * tx - m01 * ty, -m10 * tx - m11 * ty
    return torch.stack([m00, m01 * h / w, 2 * m02 / w, m10 * w / h, m11, 2 * m12 / h], 1).view(-1, 2, 3).float()
