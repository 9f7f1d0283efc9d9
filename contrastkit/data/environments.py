"""Folders of environments: the same classes, photographed or drawn in several ways."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from contrastkit.data.dataset import DataSet, Request
from contrastkit.data.files import FileSource
from contrastkit.data.folders import subfolders
from contrastkit.data.parts import Part, asked_folder, part_of
from contrastkit.data.pixels import image_suffixes
from contrastkit.data.walk import walk
from contrastkit.errors import UserError, listed
from contrastkit.names import EACH

PATTERN = ("ENVIRONMENT", "CLASS")  # the last two parts of a path that says what two levels of folders are
NAMED = 8  # folders in a notice


def environments_root(path: Path) -> Path | None:
    """DIR of a path DIR/ENVIRONMENT/CLASS, unless there is such a folder; else None."""
    return path.parent.parent if path.parts[-2:] == PATTERN and not path.exists() else None


def misspelt(path: Path) -> str:
    """The hint for a path that ends with the words of :data:`PATTERN` in another order or case; "" for others."""
    words = [part.upper() for part in path.parts[-2:]]
    if sorted(words) != sorted(PATTERN):
        return ""
    pattern = path.parent.parent.joinpath(*PATTERN)
    return f": for environments, give {pattern}, in these words: folders of environments, with the classes in each"


def open_environments(request: Request) -> DataSet | None:
    """DIR/ENVIRONMENT/CLASS, as it stands: images of a class in an environment lie in ``DIR/sketch/dog/``, to any depth
    below. ``test_part`` names the environment that is held out to test on; without it, the set has no test part.

    Raises:
        UserError: there is no such folder, fewer than two environments or classes, an image that is in none, parts at
            the level of the environments, or no environment to hold out.
    """
    if (root := environments_root(request.path)) is None:
        return None
    if not root.is_dir():
        raise UserError(f"{request.data}: {root} is not a folder")
    listing = walk(root, image_suffixes())
    places = [path.split(os.sep)[:-1] for path in listing.paths]
    _require_two_levels(root, listing.paths, places)
    names, classes = (sorted({place[level] for place in places}) for level in (0, 1))
    for what, found in (("environments", names), ("classes", classes)):
        if len(found) < 2:
            raise UserError(f"{root} has {found[0]} alone: give at least two {what}, as {root}/ENVIRONMENT/CLASS")
    number = {each: i for i, each in enumerate(classes)}
    labels = torch.tensor([number[place[1]] for place in places])
    whole = FileSource(root.name, listing.paths, labels, root=root, classes=classes, reading=request.reading)
    whole.environment = np.array([place[0] for place in places])
    notices = [_found(whole.environment.tolist(), classes), *_absent(places, names, classes)]
    if others := listing.omissions:
        notices.append(f"{root}: left out {others}")
    notices += whole.notices
    if (asked := request.reading.test_part) is None:
        return DataSet(root.name, whole, None, whole, tuple(notices))
    if asked == EACH and EACH not in names:
        raise UserError(f"--hold-out {EACH}: only knn and probe hold out every environment in turn; name one of {root}")
    held_out = asked_folder(root, names, asked, option="--hold-out")
    is_held_out = torch.from_numpy(whole.environment == held_out)
    rest, test = (which.nonzero()[:, 0] for which in (~is_held_out, is_held_out))
    train = whole.subset(rest)
    notices.append(f"held out to test on: {held_out} ({len(test):,} images); training: the other {len(rest):,}")
    return DataSet(root.name, train, whole.subset(test), train, tuple(notices))


def _require_two_levels(root: Path, paths: Sequence[str], places: Sequence[Sequence[str]]) -> None:
    """Check that every image has an environment and a class.

    Raises:
        UserError: one has not, there is none, or the environments are parts of a data set.
    """
    if training := next((name for name in subfolders(root) if part_of(name) is Part.TRAINING), None):
        raise UserError(f"{root} has a training part: give {root / training}/ENVIRONMENT/CLASS")
    if not paths:
        raise UserError(f"no images in {root}")
    outside = [path for path, place in zip(paths, places, strict=True) if len(place) < 2]
    if outside:
        raise UserError(
            f"{len(outside):,} of the {len(paths):,} images in {root} are in no folder ENVIRONMENT/CLASS, for example "
            f"{outside[0]}: move them, or give {root} itself"
        )


def _found(environment: Sequence[str], classes: Sequence[str]) -> str:
    counts = [f"{name} ({n:,} images)" for name, n in sorted(Counter(environment).items())]
    return f"{len(counts)} environments, {listed(counts, NAMED)}, of {len(classes)} classes, {listed(classes, NAMED)}"


def _absent(places: Sequence[Sequence[str]], names: Sequence[str], classes: Sequence[str]) -> list[str]:
    """A line on classes that an environment lacks."""
    there = {(place[0], place[1]) for place in places}
    lacking = [f"{each} in {name}" for name in names for each in classes if (name, each) not in there]
    return [f"no images of {listed(lacking, NAMED)}"] if lacking else []
