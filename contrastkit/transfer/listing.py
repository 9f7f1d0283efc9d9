"""The images of annotated sets and the lists that say which of them belong to which part."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from contrastkit.data import FileSource, UnreadableError
from contrastkit.data.pixels import image_suffixes
from contrastkit.errors import UserError, listed, suggest
from contrastkit.ops.augment_colour import luma


@dataclass(frozen=True)
class Listed:
    """The images that a list names, in its order.

    Attributes:
        names: without their endings, as the list has them.
        files: their images.
        list: the list's own file.
    """

    names: list[str]
    files: list[Path]
    list: Path


def roots_of(data: Path, inside: str, images: str) -> list[Path]:
    """The folders that contain a folder ``inside``: ``data`` itself, or those directly below it or below its only
    folder, as in VOCdevkit/VOC2007.

    Raises:
        UserError: there is none, or one has no folder ``images``.
    """
    roots = _roots(data, inside)
    for root in roots:
        if not (root / images).is_dir():
            raise UserError(f"{root} has no folder {images}/ beside {inside}/: put the images there")
    return roots


def _roots(data: Path, inside: str) -> list[Path]:
    if not data.is_dir():
        raise UserError(f"{data} is no folder")
    place = data
    while not (place / inside).is_dir():
        below = sorted(folder for folder in place.iterdir() if folder.is_dir() and not folder.name.startswith("."))
        if found := [folder for folder in below if (folder / inside).is_dir()]:
            return found
        if len(below) != 1:
            raise UserError(f"{data} has no folder {inside}/")
        (place,) = below
    return [place]


def read_list(file: Path, images: Path) -> Listed:
    """The images that a list names: the first word of each line, without comments (#); files of any image format.

    Raises:
        UserError: it names nothing, something twice, or an image that is not there.
    """
    lines = file.read_text("utf-8", "replace").splitlines()
    names = [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]
    if not names:
        raise UserError(f"{file} is empty: list one image a line")
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise UserError(f"{file} lists {twice} twice")
    there = {path.stem: path for path in sorted(images.iterdir()) if path.suffix.lower() in image_suffixes()}
    if missing := [name for name in names if name not in there]:
        raise UserError(f"{file} lists {listed(missing, 3)}, of which there is no image in {images}")
    return Listed(names, [there[name] for name in names], file)


def choose_list(folder: Path, asked: str | None, usual: Sequence[str], option: str) -> str | None:
    """The name of a list in a folder, without .txt: the one asked for, else the first of the usual ones; None if there
    is none of these.

    Raises:
        UserError: the one asked for is not there.
    """
    there = sorted(path.stem for path in folder.glob("*.txt"))
    if asked is not None and asked not in there:
        raise UserError(f"{option}: no list {folder / asked}.txt{suggest(asked, there)} (there: {listed(there, 8)})")
    return asked or next((name for name in usual if name in there), None)


def require_apart(train: Iterable[Listed], test: Iterable[Listed]) -> None:
    """Check that no image is in both parts.

    Raises:
        UserError: one is.
    """
    seen = {file: part.list for part in train for file in part.files}
    for part in test:
        if both := [file for file in part.files if file in seen]:
            raise UserError(f"{len(both):,} images are in {seen[both[0]]} and in {part.list}, as {both[0].stem}")


def source_of(name: str, root: Path, files: Sequence[Path]) -> FileSource:
    """The images in these files, which lie below ``root``."""
    return FileSource(name, [str(file.relative_to(root)) for file in files], root=root)


def pixels_of(images: FileSource, i: int, channels: int) -> Tensor:
    """One image, uint8 [channels, H, W]: gray is repeated, RGB averaged to luma.

    Raises:
        UserError: it cannot be read. Others than in training, none is left out: a score of fewer images would be of
            another set.
    """
    try:
        (image,) = images.fetch(torch.tensor([i]))
    except UnreadableError as error:
        raise UserError(f"{images.root / error.path} cannot be read: {error.reason}; take it off the list") from error
    if channels == len(image):
        return image
    if channels == 3:
        return image.expand(3, -1, -1)
    if channels == 1 and len(image) == 3:
        return luma(image[None].float())[0].round().byte()
    raise UserError(f"{images.name} has {len(image)} channels, the encoder takes {channels}")
