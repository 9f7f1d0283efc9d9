"""Images and labels in an .npz file."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from contrastkit.data.arrays import ArraySource, channels_first
from contrastkit.data.dataset import DataSet, Request
from contrastkit.errors import UserError
from contrastkit.npz import read_npz


def open_npz(request: Request) -> DataSet | None:
    """``images`` (N, H, W), (N, H, W, C) or (N, C, H, W), uint8 or floats in [0, 1]; ``labels`` (N), integers or text,
    optional; ``test_images`` and ``test_labels`` likewise."""
    path = request.path
    if path.suffix != ".npz" or not path.is_file():
        return None
    arrays = read_npz(path)
    prefix = "train_" if "train_images" in arrays else ""
    if f"{prefix}images" not in arrays:
        raise UserError(f"{path} has no array called 'images' (it has: {', '.join(arrays) or 'nothing'})")
    name = path.stem
    images = _uint8(arrays[f"{prefix}images"], path)
    labels, test_labels, classes = _labels(arrays.get(f"{prefix}labels"), arrays.get("test_labels"), path)
    train = ArraySource(name, images, _checked(labels, images, path), classes=classes)
    if "test_images" not in arrays:
        return DataSet(name, train, None, train)
    test_images = _uint8(arrays["test_images"], path)
    if test_images.shape[1:] != images.shape[1:]:
        raise UserError(
            f"{path}: test_images are {list(test_images.shape[1:])}, images are {list(images.shape[1:])} (C, H, W)"
        )
    test = ArraySource(name, test_images, _checked(test_labels, test_images, path), classes=classes)
    return DataSet(name, train, test, train)


def _uint8(array: np.ndarray, path: Path) -> Tensor:
    """An array of images as uint8 [N, C, H, W]."""
    if array.ndim not in (3, 4) or 0 in array.shape:
        raise UserError(f"{path}: images must be (N, H, W), (N, H, W, C) or (N, C, H, W), not {array.shape}")
    if array.dtype.kind == "f":
        if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
            raise UserError(f"{path}: images of {array.dtype} must lie in [0, 1]; scale them, or store uint8")
        array = (array * 255).round().astype(np.uint8)
    elif array.dtype != np.uint8:
        raise UserError(f"{path}: images must be uint8, or floats in [0, 1], not {array.dtype}")
    return channels_first(torch.from_numpy(array), str(path))


def _labels(
    train: np.ndarray | None, test: np.ndarray | None, path: Path
) -> tuple[Tensor | None, Tensor | None, list[str] | None]:
    """Labels of both parts as numbers, and the names of the classes if the labels are text."""
    parts = [part for part in (train, test) if part is not None]
    if not parts:
        return None, None, None
    if all(part.dtype.kind in "US" for part in parts):
        names = np.unique(np.concatenate([part.ravel() for part in parts]))
        as_numbers = [None if part is None else np.searchsorted(names, part) for part in (train, test)]
        classes = [n.decode() if isinstance(n, bytes) else str(n) for n in names]
    elif all(part.dtype.kind in "iu" for part in parts):
        as_numbers, classes = [train, test], None
    else:
        raise UserError(f"{path}: labels must be integers or text, not {parts[0].dtype}")
    first, second = (None if part is None else torch.from_numpy(part.astype(np.int64)) for part in as_numbers)
    return first, second, classes


def _checked(labels: Tensor | None, images: Tensor, path: Path) -> Tensor | None:
    if labels is None:
        return None
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != images.shape[:1] or labels.min() < -1:
        raise UserError(
            f"{path}: labels must be one integer >= 0 for each of the {len(images)} images (-1: none), "
            f"not an array {list(labels.shape)}{f' with {int(labels.min())}' if labels.numel() else ''}"
        )
    return labels
