"""Folders of images or sounds, nested to any depth: the first level below the root is the class."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from contrastkit.data.dataset import DataSet, Request
from contrastkit.data.files import FileSource
from contrastkit.data.sounds import SoundSource
from contrastkit.errors import UserError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".jp2", ".avif"}
SOUND = ".wav"
TEST_FOLDERS = ("test", "val", "valid", "validation")


def open_folder(request: Request) -> DataSet | None:
    return folder_dataset(request.path) if request.path.is_dir() else None


def folder_dataset(root: Path) -> DataSet:
    """A folder that contains ``train/`` and possibly a test part, or a single part."""
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
        relative = os.path.relpath(folder, root)
        paths += [
            os.path.normpath(os.path.join(relative, f))
            for f in files
            if os.path.splitext(f)[1].lower() in (*SUFFIXES, SOUND) and not f.startswith(".")
        ]
    sounds = sum(path.lower().endswith(SOUND) for path in paths)
    if 0 < sounds < len(paths):
        raise UserError(f"{root} has {sounds} sounds and {len(paths) - sounds} images: put them in separate folders")
    kind = SoundSource if sounds else FileSource
    if like is not None and type(like) is not kind:
        raise UserError(f"{root} has {kind.modality.plural}, but the training part has {like.modality.plural}")
    if not paths:
        empty = not any(root.iterdir())
        known = ", ".join(sorted(s[1:] for s in (*SUFFIXES, SOUND)))
        raise UserError(f"the folder {root} is empty" if empty else f"no images in {root} (known formats: {known})")
    paths.sort(key=lambda p: p.split(os.sep))
    tops = [p.split(os.sep)[0] if os.sep in p else None for p in paths]
    names = sorted({t for t in tops if t is not None})
    if classes is None and len(names) < 2:
        return kind(name, paths, root=root, like=like)
    classes = classes or names
    if unknown := [n for n in names if n not in classes]:
        raise UserError(f"{root} has the class {unknown[0]!r}, which is not in the training part")
    number = {c: i for i, c in enumerate(classes)}
    labels = torch.tensor([-1 if t is None else number[t] for t in tops])
    return kind(name, paths, labels, root=root, classes=classes, like=like)
