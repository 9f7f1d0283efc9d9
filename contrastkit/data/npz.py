"""Images and labels in an .npz file."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from contrastkit.data.arrays import ArraySource, channels_first
from contrastkit.data.dataset import DataSet, Request
from contrastkit.data.labels import numbered
from contrastkit.errors import UserError, listed
from contrastkit.npz import npz_names, read_npz


def open_npz(request: Request) -> DataSet | None:
    """``images`` (N, H, W), (N, H, W, C) or (N, C, H, W), uint8 or floats in [0, 1]; ``labels`` (N), integers or text,
    optional; ``environment`` (N), where each image comes from, optional; ``test_images``, ``test_labels`` and
    ``test_environment`` likewise."""
    path, layout = request.path, request.reading.layout
    if path.suffix != ".npz" or not path.is_file():
        return None
    names = npz_names(path)
    prefix = "train_" if "train_images" in names else ""
    if f"{prefix}images" not in names:
        raise UserError(f"{path} has no array called 'images' (it has: {listed(names, 12) or 'nothing'})")
    known = [f"{part}{name}" for part in (prefix, "test_") for name in ("images", "labels", "environment")]
    arrays = read_npz(path, names=known)
    if "test_images" not in arrays and (unused := [name for name in arrays if name.startswith("test_")]):
        raise UserError(f"{path} has {listed(unused, 2)}, but no test_images: add them, or remove what is about them")
    name = path.stem
    images = _uint8(arrays[f"{prefix}images"], path, layout)
    test_images = _uint8(arrays["test_images"], path, layout) if "test_images" in arrays else None
    if test_images is not None and test_images.shape[1:] != images.shape[1:]:
        raise UserError(
            f"{path}: test_images are {list(test_images.shape[1:])}, images are {list(images.shape[1:])} (C, H, W)"
        )
    given = {"train": (arrays.get(f"{prefix}labels"), images), "test": (arrays.get("test_labels"), test_images)}
    labels, classes = _labels(
        {
            part: _checked(array, pixels, path)
            for part, (array, pixels) in given.items()
            if array is not None and pixels is not None
        },
        path,
    )
    train = ArraySource(name, images, labels.get("train"), classes=classes)
    test = None if test_images is None else ArraySource(name, test_images, labels.get("test"), classes=classes)
    for part, source in ((prefix, train), ("test_", test)):
        if source is not None:
            source.environment = _environment(arrays.get(f"{part}environment"), len(source), path)
    unknown = [name for name in names if name not in known]
    notices = (f"{path}: arrays of other names are not used: {listed(unknown, 8)}",) if unknown else ()
    return DataSet(name, train, test, train, notices)


def _environment(array: np.ndarray | None, n: int, path: Path) -> np.ndarray | None:
    if array is not None and array.shape != (n,):
        raise UserError(f"{path}: environment must have one value for each of the {n} images, not {list(array.shape)}")
    if array is not None and array.dtype.kind == "f" and (missing := int(np.isnan(array).sum())):
        raise UserError(f"{path}: environment is NaN for {missing} of the {n} images: name it, or leave them out")
    return array


def _uint8(array: np.ndarray, path: Path, layout: str | None) -> Tensor:
    """An array of images as uint8 [N, C, H, W]."""
    if array.ndim not in (3, 4) or 0 in array.shape:
        raise UserError(f"{path}: images must be (N, H, W), (N, H, W, C) or (N, C, H, W), not {array.shape}")
    if array.dtype.kind == "f":
        if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
            raise UserError(f"{path}: images of {array.dtype} must lie in [0, 1]; scale them, or store uint8")
        array = (array * 255).round().astype(np.uint8)
    elif array.dtype != np.uint8:
        raise UserError(f"{path}: images must be uint8, or floats in [0, 1], not {array.dtype}")
    return channels_first(torch.from_numpy(array), str(path), layout)


def _checked(labels: np.ndarray, images: Tensor, path: Path) -> np.ndarray:
    """The labels [N] of N images: integers from -1 on, truth values, or text."""
    if labels.dtype.kind not in "iubUS":
        raise UserError(f"{path}: labels must be integers or text, not {labels.dtype}")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != images.shape[:1] or (labels.dtype.kind == "i" and labels.min() < -1):
        raise UserError(
            f"{path}: labels must be one integer >= 0 for each of the {len(images)} images (-1: none), or one text, "
            f"not an array {list(labels.shape)}"
            + (f" with {labels.min()}" if labels.dtype.kind == "i" and labels.size else "")
        )
    return np.array([text.decode(errors="backslashreplace") for text in labels]) if labels.dtype.kind == "S" else labels


def _labels(parts: dict[str, np.ndarray], path: Path) -> tuple[dict[str, Tensor], list[str] | None]:
    """The labels of each part as numbers, and the names of the classes if the labels are not these numbers."""
    kinds = {part.dtype.kind == "U" for part in parts.values()}
    if len(kinds) > 1:
        raise UserError(f"{path}: labels and test_labels must both be integers, or both text")
    if not parts:
        return {}, None
    if kinds == {False}:
        numbers, classes = numbered(list(parts.values()))
        return dict(zip(parts, numbers, strict=True)), classes
    names = np.unique(np.concatenate(list(parts.values())))
    numbers = [torch.from_numpy(np.searchsorted(names, part).astype(np.int64)) for part in parts.values()]
    return dict(zip(parts, numbers, strict=True)), names.tolist()
