"""From what ``--data`` says, a name or a path, to sources."""

import gzip
import os
import re
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from contrastkit.data import digits
from contrastkit.data.names import TORCHVISION, Row, data_names
from contrastkit.data.source import AlignedSource, ArraySource, ClipSource, FileSource, Source, split
from contrastkit.errors import UserError, suggest

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".jp2", ".avif"}
SOUND = ".wav"
TEST_FOLDERS = ("test", "val", "valid", "validation")


@dataclass(frozen=True)
class DataSet:
    """A set and its parts. ``pretrain`` needs no labels: the training part, and stl10's unlabelled images besides."""

    name: str
    train: Source
    test: Source | None
    pretrain: Source


def open_data(
    data: str, *, data_dir: Path | None = None, download: bool = False, val_fraction: float | None = None, seed: int = 0
) -> DataSet:
    """Open a data set.

    Args:
        data: a name (:func:`data_names`), or a path to

            - a folder of images, or of sounds (.wav), of any depth: the first folder level under the root is the class;
              with fewer than two such folders they are unlabelled. A folder with ``train/`` (and ``test/`` or ``val/``)
              in it is two of these;
            - a folder with MNIST's four idx files, gzipped or not;
            - several such folders of the same scenes, ``rgb=DIR,depth=DIR``: files of one name, whatever its ending,
              belong together, labels are the first's (:class:`contrastkit.data.source.AlignedSource`);
            - an ``.npz`` with ``images`` (N, H, W), (N, H, W, C) or (N, C, H, W), uint8 or floats in [0, 1]; ``labels``
              (N), integers or text, if there are any; and ``test_images``, ``test_labels`` likewise.
        data_dir: where named sets lie, or go with ``download``.
        val_fraction: hold out this share of the training part (chosen by ``seed``) as ``test``; the set's own test part
            then stays unseen, and the held-out images are no part of ``pretrain``.

    Raises:
        UserError: no such name or path, nothing readable there, wrong shapes or dtypes.
    """
    if data in ("digits", "affdigits"):
        train, test = digits.digits() if data == "digits" else digits.affdigits()
        return _with_validation(DataSet(data, train, test, train), val_fraction, seed)
    if data in TORCHVISION:
        dataset = _named(data, TORCHVISION[data], data_dir, download)
        return _with_validation(dataset, val_fraction, seed)
    path = Path(data).expanduser()
    if "=" in data and not path.exists():
        return _with_validation(_aligned(data), val_fraction, seed)
    if not path.exists():
        names = data_names()
        raise UserError(f"no data set and no path is called {data!r}{suggest(data, names)} (names: {', '.join(names)})")
    if path.is_dir():
        dataset = _idx(path, path.name) or _folder(path)
    elif path.suffix == ".npz":
        dataset = _npz(path)
    else:
        raise UserError(f"{path} is neither a folder of images nor an .npz file")
    return _with_validation(dataset, val_fraction, seed)


def _with_validation(dataset: DataSet, fraction: float | None, seed: int) -> DataSet:
    if fraction is None:
        return dataset
    n = len(dataset.train)
    if not 0 < round(fraction * n) < n:
        raise UserError(f"--val-fraction {fraction:g} of {n} images leaves one part empty: choose it between 0 and 1")
    kept, held = split(n, dataset.train.originals, fraction, seed)
    train, val = dataset.train.subset(kept), dataset.train.subset(held)
    if dataset.pretrain is dataset.train:
        return DataSet(dataset.name, train, val, train)
    # A pretrain part of its own starts with the training part (stl10's "train+unlabeled"): held-out images leave both.
    others = torch.arange(n, len(dataset.pretrain))
    return DataSet(dataset.name, train, val, dataset.pretrain.subset(torch.cat([kept, others])))


# --------------------------------------------------------------------------------------------------------------- names


def _named(name: str, row: Row, data_dir: Path | None, download: bool) -> DataSet:
    if data_dir is None:
        raise UserError(
            f"where is {name}? Give --data-dir DIR (or set CONTRASTKIT_DATA), and --download to fetch it there"
        )
    folder = data_dir / name  # not data_dir itself: MNIST, KMNIST and Fashion-MNIST share their files' names
    if row.dataset.endswith("MNIST") and folder.is_dir() and (found := _idx(folder, name, digits=row.digits)):
        return found
    train = _torchvision(name, row, row.train, data_dir, download)
    test = _torchvision(name, row, row.test, data_dir, download)
    pretrain = train if row.pretrain is None else _torchvision(name, row, row.pretrain, data_dir, download)
    return DataSet(name, train, test, pretrain)


def _torchvision(name: str, row: Row, part: dict[str, object], data_dir: Path, download: bool) -> Source:
    import torchvision

    build: Any = getattr(torchvision.datasets, row.dataset)
    fetch = {} if name == "imagenet" else {"download": download}
    try:
        if download:
            data_dir.mkdir(parents=True, exist_ok=True)
        dataset = build(data_dir, **part, **fetch)
    except (RuntimeError, OSError) as e:
        if download and fetch:
            raise UserError(f"{name} could not be fetched into {data_dir}: {e}") from e
        how = "see torchvision.datasets.ImageNet for its layout" if name == "imagenet" else "add --download to fetch it"
        raise UserError(f"{name} is not in {data_dir}: give the right --data-dir, or {how}") from e
    classes = getattr(dataset, "classes", None)
    if classes is not None:
        classes = [c if isinstance(c, str) else c[0] for c in classes]  # ImageNet's are tuples of synonyms
    data = getattr(dataset, "data", None)
    if data is not None:
        labels = torch.as_tensor(np.asarray(getattr(dataset, "targets", getattr(dataset, "labels", None)))).long()
        return ArraySource(
            name, _channels_first(torch.as_tensor(data), name), labels, classes=classes, digits=row.digits
        )
    paths, labels = _files_of(dataset)
    root = Path(os.path.commonpath([str(Path(p).parent) for p in paths]))
    relative = [os.path.relpath(p, root) for p in paths]
    return FileSource(name, relative, labels, root=root, classes=classes, digits=row.digits)


def _files_of(dataset: Any) -> tuple[list[str], Tensor]:
    """Paths and labels of a torchvision data set that keeps files: its classes spell these three ways."""
    pairs = getattr(dataset, "samples", getattr(dataset, "_samples", None))
    if pairs is None:
        paths = dataset._images if hasattr(dataset, "_images") else dataset._image_files
        pairs = list(zip(paths, dataset._labels, strict=True))
    return [str(path) for path, _ in pairs], torch.tensor([label for _, label in pairs])


# --------------------------------------------------------------------------------------------------------------- paths


def senses(data: str) -> dict[str, Path]:
    """What ``rgb=DIR,depth=DIR`` says.

    Raises:
        UserError: it says something else.
    """
    pairs = [part.partition("=") for part in re.split(r",(?=[^,=/]*=)", data)]  # a folder may have a comma in its name
    folders = {name.strip(): Path(folder).expanduser() for name, _, folder in pairs}
    if len(pairs) < 2 or len(folders) < len(pairs) or not all(name.strip() and folder for name, _, folder in pairs):
        raise UserError(f"{data}: several senses are given as NAME=DIR,NAME=DIR, with two names or more")
    if missing := [folder for folder in folders.values() if not folder.is_dir()]:
        raise UserError(f"{missing[0]} is no folder: several senses are given as NAME=DIR,NAME=DIR")
    return folders


def _aligned(data: str) -> DataSet:
    sets = {sense: _folder(folder) for sense, folder in senses(data).items()}
    if sounds := [sense for sense, found in sets.items() if found.train.rate is not None]:
        raise UserError(f"{sounds[0]} holds sounds: aligned senses are images")
    name = "+".join(sets)
    with_test = [sense for sense, found in sets.items() if found.test is not None]
    if with_test and len(with_test) < len(sets):
        lacks = next(sense for sense in sets if sense not in with_test)
        raise UserError(f"{with_test[0]} has a test part, {lacks} has none")

    def part(which: str) -> AlignedSource:
        return AlignedSource(name, {sense: getattr(found, which) for sense, found in sets.items()})

    train = part("train")
    return DataSet(name, train, part("test") if with_test else None, train)


def _folder(root: Path) -> DataSet:
    train_root = root / "train"
    if not train_root.is_dir():
        train = _files_under(root, root.name)
        return DataSet(root.name, train, None, train)
    train = _files_under(train_root, root.name)
    test_root = next((root / t for t in TEST_FOLDERS if (root / t).is_dir()), None)
    if test_root is None:
        return DataSet(root.name, train, None, train)
    test = _files_under(test_root, root.name, classes=train.classes, like=train)
    return DataSet(root.name, train, test, train)


def _files_under(
    root: Path, name: str, *, classes: Sequence[str] | None = None, like: FileSource | None = None
) -> FileSource:
    paths = []
    for folder, subfolders, files in os.walk(root, followlinks=True):
        subfolders[:] = [s for s in subfolders if not s.startswith((".", "__MACOSX"))]
        inside = os.path.relpath(folder, root)
        paths += [
            os.path.normpath(os.path.join(inside, f))
            for f in files
            if os.path.splitext(f)[1].lower() in (*SUFFIXES, SOUND) and not f.startswith(".")
        ]
    sounds = sum(path.lower().endswith(SOUND) for path in paths)
    if 0 < sounds < len(paths):
        raise UserError(f"{root} holds {sounds} sounds and {len(paths) - sounds} images: give a folder of one kind")
    kind = ClipSource if sounds else FileSource
    if like is not None and type(like) is not kind:
        raise UserError(f"{root} does not hold what the training part holds: one has images, one has sounds")
    if not paths:
        empty = not any(root.iterdir())
        known = ", ".join(sorted(s[1:] for s in (*SUFFIXES, SOUND)))
        raise UserError(f"the folder {root} is empty" if empty else f"no images in {root} (looked for {known})")
    paths.sort(key=lambda p: p.split(os.sep))
    tops = [p.split(os.sep)[0] if os.sep in p else None for p in paths]
    names = sorted({t for t in tops if t is not None})
    if classes is None and len(names) < 2:
        return kind(name, paths, root=root, like=like)
    classes = classes or names
    if unknown := [n for n in names if n not in classes]:
        raise UserError(f"{root} has the class {unknown[0]!r}, which the training part has not")
    number = {c: i for i, c in enumerate(classes)}
    labels = torch.tensor([-1 if t is None else number[t] for t in tops])
    return kind(name, paths, labels, root=root, classes=classes, like=like)


def _npz(path: Path) -> DataSet:
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            held = {key: archive[key] for key in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, KeyError, NotImplementedError) as e:
        raise UserError(
            f"{path} cannot be read as an .npz file (damaged, cut short, or holding Python objects): {e}"
        ) from e
    prefix = "train_" if "train_images" in held else ""
    if f"{prefix}images" not in held:
        raise UserError(f"{path} has no array called 'images' (it has: {', '.join(held) or 'nothing'})")
    if stray := [key for key, value in held.items() if not isinstance(value, np.ndarray)]:
        raise UserError(f"{path}: {stray[0]!r} is no array")
    name = path.stem
    images = _uint8(held[f"{prefix}images"], path)
    labels, test_labels, classes = _labels(held.get(f"{prefix}labels"), held.get("test_labels"), path)
    train = ArraySource(name, images, _fitting(labels, images, path), classes=classes)
    if "test_images" not in held:
        return DataSet(name, train, None, train)
    test_images = _uint8(held["test_images"], path)
    if test_images.shape[1:] != images.shape[1:]:
        raise UserError(
            f"{path}: test_images are {list(test_images.shape[1:])}, images are {list(images.shape[1:])} (C, H, W)"
        )
    test = ArraySource(name, test_images, _fitting(test_labels, test_images, path), classes=classes)
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
    return _channels_first(torch.from_numpy(array), str(path))


def _channels_first(images: Tensor, what: str) -> Tensor:
    """uint8 (N, H, W), (N, H, W, C) or (N, C, H, W) -> contiguous (N, C, H, W). The shortest side is the channels."""
    if images.ndim == 3:
        return images[:, None].contiguous()
    _, first, _, last = images.shape
    if first == last:
        raise UserError(
            f"{what}: cannot tell channels from height in images of shape {tuple(images.shape)}: give (N, H, W)"
        )
    return (images if first < last else images.permute(0, 3, 1, 2)).contiguous()


def _labels(
    train: np.ndarray | None, test: np.ndarray | None, path: Path
) -> tuple[Tensor | None, Tensor | None, list[str] | None]:
    """Labels of both parts as numbers, and the classes' names where labels were text."""
    held = [part for part in (train, test) if part is not None]
    if not held:
        return None, None, None
    if all(part.dtype.kind in "US" for part in held):
        names = np.unique(np.concatenate([part.ravel() for part in held]))
        as_numbers = [None if part is None else np.searchsorted(names, part) for part in (train, test)]
        classes = [n.decode() if isinstance(n, bytes) else str(n) for n in names]
    elif all(part.dtype.kind in "iu" for part in held):
        as_numbers, classes = [train, test], None
    else:
        raise UserError(f"{path}: labels must be integers or text, not {held[0].dtype}")
    first, second = (None if part is None else torch.from_numpy(part.astype(np.int64)) for part in as_numbers)
    return first, second, classes


def _fitting(labels: Tensor | None, images: Tensor, path: Path) -> Tensor | None:
    if labels is None:
        return None
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != images.shape[:1] or labels.min() < -1:
        raise UserError(
            f"{path}: labels must be one integer from 0 up for each of the {len(images)} images (-1: none), "
            f"not {tuple(labels.shape)} from {int(labels.min()) if labels.numel() else 'nothing'} up"
        )
    return labels


def _idx(folder: Path, name: str, *, digits: bool = False) -> DataSet | None:
    """MNIST's four files (LeCun's idx format), if the folder holds them."""
    parts = []
    for part in ("train", "t10k"):
        arrays = []
        for kind in ("images-idx3", "labels-idx1"):
            path = next((p for end in ("", ".gz") if (p := folder / f"{part}-{kind}-ubyte{end}").is_file()), None)
            if path is None:
                return None
            arrays.append(_read_idx(path))
        images, labels = arrays
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            raise UserError(
                f"{folder}: {part} images {tuple(images.shape)} and labels {tuple(labels.shape)} do not fit"
            )
        parts.append(ArraySource(name, images[:, None], labels.long(), digits=digits))
    return DataSet(name, parts[0], parts[1], parts[0])


def _read_idx(path: Path) -> Tensor:
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        ndim = raw[3]
        shape = np.frombuffer(raw, ">u4", ndim, offset=4).astype(int)
        if raw[:3] != b"\0\0\x08":
            raise ValueError("not an idx file of bytes")
        return torch.from_numpy(np.frombuffer(raw, np.uint8, offset=4 + 4 * ndim).reshape(shape).copy())
    except (OSError, EOFError, ValueError, IndexError, zlib.error) as e:
        raise UserError(f"{path} cannot be read: {e}") from e
