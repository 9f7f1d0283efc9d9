"""Folders of images or sounds, nested to any depth: the first level below the root is the class."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from contrastkit.data.dataset import DataSet, Reading, Request
from contrastkit.data.files import FileSource
from contrastkit.data.parts import Part, asked_folder, part_of, test_folders, training_folder
from contrastkit.data.pixels import image_suffixes
from contrastkit.data.sounds import SoundSource
from contrastkit.data.walk import Listing, walk
from contrastkit.errors import UserError, listed

SOUND = ".wav"


class Files(NamedTuple):
    """The images or sounds below a folder.

    Attributes:
        tops: the first level of each path, its class; None where there is none or it stands for images without labels.
    """

    root: Path
    listing: Listing
    tops: list[str | None]

    def has_class(self, classes: Sequence[str] | None) -> bool:
        """Whether a file is in a folder of one of these classes."""
        return not set(self.tops).isdisjoint(classes or ())


def open_folder(request: Request) -> DataSet | None:
    return folder_dataset(request.path, request.reading) if request.path.is_dir() else None


def folder_dataset(root: Path, reading: Reading) -> DataSet:
    """A folder that contains a training part and possibly others (:mod:`contrastkit.data.parts`), or a single part."""
    folders = subfolders(root)
    training = training_folder(root, folders)
    _require_outermost(root, folders, training)
    if training is None:
        reading.require_no_choice(root, _as_environments(root, folders))
        files = _files(root)
        train = _source(files, root.name, reading)
        return DataSet(root.name, train, None, train, _notices([files], train, _warnings(files, folders)))
    files = _files(root / training)
    train = _source(files, root.name, reading)
    others = [name for name in folders if name != training]
    test_files, lines = _test_files(root, others, reading, train)
    if loose := _loose_files(root):
        lines.append(f"files beside {training}/ ({loose:,}) not used")
    words = [f"{training}/ -> training ({len(train):,} {train.modality.plural})"]
    test = None
    if test_files is not None:
        test = _source(test_files, root.name, reading, classes=train.classes, like=train)
        words.append(f"{test_files.root.name}/ -> test ({len(test):,})")
    said = "; ".join([", ".join(words), *lines])
    parts = [files] if test_files is None else [files, test_files]
    return DataSet(root.name, train, test, train, _notices(parts, train, [said]))


def _as_environments(root: Path, folders: Sequence[str]) -> str:
    """How to name the folders of a set as environments, if there are two levels of them, for a message."""
    nested = len(folders) > 1 and all(subfolders(root / name) for name in folders)
    return f": if these are folders of environments, with classes in each, give {root}/ENVIRONMENT/CLASS" * nested


def subfolders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if not e.name.startswith((".", "__MACOSX")) and _is_folder(e))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _suffixes() -> set[str]:
    return {*image_suffixes(), SOUND}


def _loose_files(folder: Path) -> int:
    """Images and sounds in the folder itself."""
    with os.scandir(folder) as entries:
        return sum(os.path.splitext(entry.name)[1].lower() in _suffixes() for entry in entries if entry.is_file())


def _require_outermost(root: Path, folders: Sequence[str], training: str | None) -> None:
    """Check that the parts of a data set are not one level further down, where they would be taken together.

    Raises:
        UserError: they are.
    """
    outer = training or (folders[0] if len(folders) == 1 else None)
    inner = [] if outer is None else [part_of(name) for name in subfolders(root / outer)]
    if outer is not None and Part.TRAINING in inner and (training is None or all(inner)):  # train/train may be a class
        raise UserError(f"{root / outer} has a training part of its own: give {root / outer}")


def _test_files(
    root: Path, folders: Sequence[str], reading: Reading, train: FileSource
) -> tuple[Files | None, list[str]]:
    """The files of the test part, of the folders beside the training part, and what is said about the others.

    A folder with classes is preferred, to evaluate on: in ImageNet's layout that is val/, while test/ has no labels.
    """
    asked = reading.test_part
    names = test_folders(folders) if asked is None else [asked_folder(root, folders, asked)]
    candidates = [_files(root / name) for name in names]
    candidates.sort(key=lambda files: (not files.has_class(train.classes), not files.listing.paths))  # stable
    chosen = candidates[0] if candidates else None
    lines = []
    for files in candidates[1:]:
        bare = chosen is not None and chosen.has_class(train.classes) and not files.has_class(train.classes)
        lines.append(f"{files.root.name}/{' has no class folders:' if bare else ''} not used")
    rest = [f"{name}/" for name in folders if name not in names]
    return chosen, lines + ([f"{listed(rest, 4)} not used"] if rest else [])


def _warnings(files: Files, folders: Sequence[str]) -> list[str]:
    """What may have been misunderstood in a folder without parts."""
    lines = []
    if tests := test_folders(folders):
        taken = "is taken for a class" if len(tests) == 1 else "are taken for classes"
        lines.append(f"{files.root}: {listed(tests, 4)} {taken}, because there is no train/")
    seconds = {path.split(os.sep, 2)[1] for path in files.listing.paths if path.count(os.sep) > 1}
    if {Part.TRAINING, Part.TEST} <= {part_of(name) for name in seconds}:
        lines.append(f"{files.root}: the training and test parts inside its folders are taken together")
    elif same := _repeated(files):
        lines.append(
            f"{files.root}: each of its folders is a class, and has the same folders, {listed(same, 4)}: if these are "
            f"the classes, of several environments, give {files.root}/ENVIRONMENT/CLASS"
        )
    return lines


def _repeated(files: Files) -> list[str]:
    """The folders, two or more, that each folder of the first level has, each of them the same ones; else none."""
    below = dict[str, set[str]]()
    for path in files.listing.paths:
        first, *more = path.split(os.sep)[:-1] or [""]
        below.setdefault(first, set()).add(more[0] if more else "")
    found, *others = below.values()
    same = len(below) > 1 and len(found) > 1 and "" not in found and all(each == found for each in others)
    return sorted(found) if same else []


def _notices(parts: Sequence[Files], train: FileSource, lines: Sequence[str]) -> tuple[str, ...]:
    left_out = [f"{files.root}: left out {others}" for files in parts if (others := files.listing.omissions)]
    return (*lines, *left_out, *train.notices)


def _files(root: Path) -> Files:
    listing = walk(root, _suffixes())
    tops = [path.split(os.sep)[0] if os.sep in path else None for path in listing.paths]
    unlabelled = {top for top in set(tops) if top is not None and part_of(top) is Part.UNLABELLED}
    return Files(root, listing, [None if top in unlabelled else top for top in tops])


def _source(
    files: Files,
    name: str,
    reading: Reading,
    *,
    classes: Sequence[str] | None = None,
    like: FileSource | None = None,
) -> FileSource:
    root, paths = files.root, files.listing.paths
    sounds = sum(path.lower().endswith(SOUND) for path in paths)
    if 0 < sounds < len(paths):
        raise UserError(f"{root} has {sounds} sounds and {len(paths) - sounds} images: put them in separate folders")
    kind = SoundSource if sounds else FileSource
    if like is not None and type(like) is not kind:
        raise UserError(f"{root} has {kind.modality.plural}, but the training part has {like.modality.plural}")
    if not paths:
        if not (others := files.listing.omissions):
            raise UserError(f"the folder {root} is empty")
        raise UserError(f"no images in {root}, but {others} (known: jpg, png and all that Pillow reads, and wav)")
    names = sorted({top for top in files.tops if top is not None})
    if classes is None and len(names) < 2:
        return kind(name, paths, root=root, like=like, reading=reading)
    classes = classes or names
    if unknown := [top for top in names if top not in classes]:
        raise UserError(f"{root} has the class {unknown[0]!r}, which is not in the training part")
    number = {each: i for i, each in enumerate(classes)}
    labels = torch.tensor([-1 if top is None else number[top] for top in files.tops])
    return kind(name, paths, labels, root=root, classes=classes, like=like, reading=reading)
