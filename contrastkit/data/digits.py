"""The embedded sets: scikit-learn's 1,797 digits of 8 x 8 pixels (Alpaydin & Kaynak 1998), plain or in random poses."""

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastkit.data.arrays import ArraySource
from contrastkit.data.dataset import DataSet, Request
from contrastkit.rng import permutation, uniform

N_TEST = 360  # a fifth of the digits
POSES = 6
CANVAS = 32
ENLARGE = 2.5  # 8 pixels become 20, as MNIST's digits fill 20 of 28


def open_digits(request: Request) -> DataSet | None:
    make = {"digits": digits, "affdigits": affdigits}.get(request.data)
    if make is None:
        return None
    train, test = make()
    return DataSet(request.data, train, test, train)


def digits() -> tuple[ArraySource, ArraySource]:
    """The digits, unchanged: 1 x 8 x 8, 1,437 for training and 360 for testing."""
    train, test = _split()
    return _source("digits", *train), _source("digits", *test)


def affdigits() -> tuple[ArraySource, ArraySource]:
    """Each digit in six random poses on a canvas of 1 x 32 x 32: 8,622 images for training, 2,160 for testing.

    As affNIST (Tieleman 2013) does with MNIST: rotation in +-20 degrees, shear in +-0.2, scale in 0.8..1.2 for each
    axis, and a shift that keeps the whole digit on the canvas. Digits are split before they are posed, so no test digit
    is in the training part.
    """
    train, test = _split()
    return _affdigits(*train, view=0), _affdigits(*test, view=1)


def _affdigits(images: Tensor, labels: Tensor, view: int) -> ArraySource:
    group_ids = torch.arange(len(labels)).repeat(POSES)
    return _source("affdigits", _posed(images, POSES, view), labels.repeat(POSES), group_ids=group_ids)


def _source(name: str, images: Tensor, labels: Tensor, *, group_ids: Tensor | None = None) -> ArraySource:
    classes = [str(d) for d in range(10)]
    return ArraySource(name, images, labels, classes=classes, orientation_matters=True, group_ids=group_ids)


def _split() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(images, labels) of the training and of the test part: uint8 [n, 1, 8, 8], int64 [n]."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = (torch.from_numpy(bunch.images) * (255 / 16)).round().to(torch.uint8)[:, None]
    labels = torch.from_numpy(bunch.target).long()
    order = permutation(0, 0, len(labels))
    test, train = order[:N_TEST], order[N_TEST:]
    return (images[train], labels[train]), (images[test], labels[test])


def _posed(images: Tensor, poses: int, view: int) -> Tensor:
    """uint8 [n, 1, 8, 8] -> uint8 [poses * n, 1, CANVAS, CANVAS], pose by pose."""
    images = images.repeat(poses, 1, 1, 1)
    n, side = len(images), images.shape[-1]
    u = uniform(0, 0, torch.arange(n), view, 6)
    turn, shear = torch.deg2rad(40 * u[:, 0] - 20), 0.4 * u[:, 1] - 0.2
    zoom_x, zoom_y = ENLARGE * (0.8 + 0.4 * u[:, 2]), ENLARGE * (0.8 + 0.4 * u[:, 3])
    cos, sin = torch.cos(turn), torch.sin(turn)
    # Digit -> canvas, about the centres: rotation . shear . scale.
    a = torch.stack([cos * zoom_x, (cos * shear - sin) * zoom_y, sin * zoom_x, (sin * shear + cos) * zoom_y], 1).view(
        n, 2, 2
    )
    # The bounding box of the posed ink limits the shift.
    ink = images[:, 0] > 0
    box = torch.stack([*_extent(ink.any(1)), *_extent(ink.any(2))], 1) - side / 2  # left, right, top, bottom
    corners = torch.stack([box[:, [0, 0, 1, 1]], box[:, [2, 3, 2, 3]]], 1).double()
    low, high = torch.aminmax(a @ corners, dim=2)  # [n, 2]
    shift = -CANVAS / 2 - low + u[:, 4:] * (CANVAS - (high - low))
    # grid_sample takes canvas -> digit, in units of half a side.
    inverse = torch.linalg.inv(a)
    theta = torch.cat([inverse * (CANVAS / side), -(inverse @ shift[:, :, None]) * (2 / side)], 2)
    grid = F.affine_grid(theta.float(), [n, 1, CANVAS, CANVAS], align_corners=False)
    posed = F.grid_sample(images.float(), grid, mode="bicubic", padding_mode="zeros", align_corners=False)
    return posed.round().clamp(0, 255).to(torch.uint8)


def _extent(present: Tensor) -> tuple[Tensor, Tensor]:
    """First True, and one past the last True, of each row of bool [n, side]."""
    side = present.shape[1]
    return present.int().argmax(1), side - present.flip(1).int().argmax(1)
