"""Images in shards: folders of tars as WebDataset lays them out (:mod:`contrastkit.data.tars`)."""

import os
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from contrastkit.data.captions import Captions
from contrastkit.data.dataset import DataSet, Reading, Request
from contrastkit.data.encoded import START, EncodedSource
from contrastkit.data.extents import Extent, LocalTars, Tars
from contrastkit.data.folders import SOUND, subfolders
from contrastkit.data.index import INDEX, Index
from contrastkit.data.parts import WORDS, Part, asked_folder, part_of, test_folders, training_folder
from contrastkit.data.pixels import Member, image_suffixes
from contrastkit.data.remote import RemoteFolder, RemoteTars
from contrastkit.data.store import is_url
from contrastkit.data.tars import PACKED, TAR, Look, is_tar, look_at
from contrastkit.directories import given_path
from contrastkit.errors import UserError, listed
from contrastkit.rng import permutation

WINDOW = 16  # shards whose images are shuffled together

Folder = Path | RemoteFolder


class ShardSource(EncodedSource):
    """Image files in tars, decoded as :class:`contrastkit.data.files.FileSource` does.

    Attributes:
        texts: the labels 0, 1, ... as they are in the tars, or the names of their classes.
    """

    def __init__(
        self, name: str, index: Index, *, root: Folder, reading: Reading, like: "ShardSource | None" = None
    ) -> None:
        """
        Args:
            like: a source to take channels, size, range and classes from; None samples the images.

        Raises:
            UserError: a class is not among those of ``like``.
        """
        self.shard, self.offset, self.crc = index.shard, index.offset, index.crc
        self.bytes, self.tars = index.size, _tars(root, index.shards)
        labels, self.texts = _labels(index, root, like)
        classes = self.texts if self.texts != tuple(map(str, range(len(self.texts)))) else None
        super().__init__(name, index.names, labels, root=root, classes=classes, reading=reading, like=like)
        if index.captions is not None:
            self.captions = Captions(text.split("\n") if text else () for text in index.captions)

    def order(self, seed: int, epoch: int) -> Tensor:
        """The images of a few shards in random order, then those of the next few: they are read from a small part of
        the disk, which the system can hold in memory. Up to :data:`WINDOW` shards are shuffled as a whole, as files
        are."""
        place = permutation(seed, -1 - epoch, len(self.tars.paths)).argsort()
        window = place[torch.from_numpy(self.shard)] // WINDOW
        order = super().order(seed, epoch)
        return order[window[order].argsort(stable=True)]

    def subset(self, index: Tensor) -> Self:
        part, chosen = super().subset(index), index.numpy()
        part.shard, part.offset, part.bytes = self.shard[chosen], self.offset[chosen], self.bytes[chosen]
        part.crc = None if self.crc is None else self.crc[chosen]
        return part

    def _read_ahead(self, positions: Sequence[int]) -> None:
        self.tars.advise([self._extent(i) for i in positions])

    def _file(self, i: int) -> Member:
        data = self.tars.read(self._extent(i))
        if self.crc is not None and zlib.crc32(data) != self.crc[i]:
            raise ValueError(f"its bytes are not those of {INDEX}")
        return Member(data, str(self.root / self.paths[i]))

    def _sizes(self) -> NDArray[np.integer]:
        return self.bytes

    def _start(self, i: int) -> bytes:
        try:
            return self.tars.read(self._extent(i))[:START]
        except (OSError, EOFError):
            return b""

    def _extent(self, i: int) -> Extent:
        return Extent(int(self.shard[i]), int(self.offset[i]), int(self.bytes[i]))


def open_shards(request: Request) -> DataSet | None:
    """A folder of tars, or one with such a folder for training and possibly others (:mod:`contrastkit.data.parts`); the
    path of one, or a URL."""
    root, reading = folder_of(request.data), request.reading
    if is_tar(root.name) and (isinstance(root, RemoteFolder) or root.is_file()):
        raise UserError(f"{root} is one tar: put it into a folder of its own, and give that")
    if isinstance(root, Path) and not root.is_dir():
        return None
    if _holds(root):
        reading.require_no_choice(str(root))
        train, notices = _opened(root, root.name, reading)
        return DataSet(root.name, train, None, train, notices)
    folders = subfolders(root) if isinstance(root, Path) else root.parts(INDEX, reading.test_part)
    training = next((name for name in folders if part_of(name) is Part.TRAINING and _holds(root / name)), None)
    if training is None and isinstance(root, Path):
        return None
    training_folder(root, folders)  # refuses several
    if training is None:
        raise UserError(
            f"{root} has no {INDEX} that can be read, nor has {root}/train: make it before the tars are uploaded, with "
            "`contrastkit shards index`"
        )
    train, notices = _opened(root / training, root.name, reading)
    others = [name for name in folders if name != training]
    asked = reading.test_part
    names = test_folders(others) if asked is None else [asked_folder(root, others, asked)]
    parts = [_opened(root / name, root.name, reading, train) for name in names if _holds(root / name)]
    if asked is not None and not parts:
        raise UserError(f"--test-part {asked}: {root / names[0]} has no tars, as {training}/ has")
    parts.sort(key=lambda part: part[0].labels is None)  # stable; to evaluate on, labels are needed
    said = f"{training}/ -> training ({len(train):,} images)"
    used = {training}
    if parts:
        said += f", {parts[0][0].root.name}/ -> test ({len(parts[0][0]):,})"
        used.add(parts[0][0].root.name)
        notices += parts[0][1]
    if rest := [f"{name}/" for name in folders if name not in used]:
        said += f"; {listed(rest, 4)} not used"
    return DataSet(root.name, train, parts[0][0] if parts else None, train, (said, *notices))


def folder_of(data: str) -> Folder:
    """The folder at a path or a URL.

    Raises:
        UserError: the URL has a password or a query.
    """
    return RemoteFolder(data) if is_url(data) else given_path(data)


def _holds(folder: Folder) -> bool:
    return holds_shards(folder) if isinstance(folder, Path) else folder.has(INDEX)


def holds_shards(folder: Path) -> bool:
    """Whether a folder has tars, and neither folders nor images or sounds, beside which a tar is left out.

    Raises:
        UserError: the tars are packed.
    """
    found, packed = False, ""
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name.lower()
            if name.startswith((".", "__macosx")):
                continue
            if entry.is_dir() or os.path.splitext(name)[1] in (*image_suffixes(), SOUND):
                return False
            found = found or is_tar(name)
            packed = entry.name if name.endswith(PACKED) else packed
    if packed and not found:
        raise UserError(
            f"{folder / packed} is packed: unpack it to a {TAR}, since images are read from any place in it"
        )
    return found


def shards_of(folder: Path) -> list[str]:
    """The tars of a folder, in order.

    Raises:
        UserError: there are some for training and some for testing, by their names.
    """
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if is_tar(entry.name) and entry.is_file())
    parts = {WORDS.get(word): name for name in names for word in re.split(r"[\W\d_]+", name.lower())}
    if {Part.TRAINING, Part.TEST} <= parts.keys():
        tars = f"{parts[Part.TRAINING]}, {parts[Part.TEST]}"
        raise UserError(f"{folder} has tars of several parts ({tars}): put them into folders, train and test")
    return names


def read_index(folder: Folder) -> tuple[Index, dict[str, Look]]:
    """The index of a folder, and the tars that are there."""
    if isinstance(folder, Path):
        return Index.read(folder / INDEX), {name: look_at(folder / name) for name in shards_of(folder)}
    index = Index.read(folder.file(INDEX))
    return index, folder.looks(dict(zip(index.shards, index.sizes.tolist(), strict=True)))


def _tars(folder: Folder, names: Sequence[str]) -> Tars:
    return LocalTars([folder / name for name in names]) if isinstance(folder, Path) else RemoteTars(folder, names)


def _opened(
    folder: Folder, name: str, reading: Reading, like: ShardSource | None = None
) -> tuple[ShardSource, tuple[str, ...]]:
    """The images of a folder of tars, and what is said about them."""
    notices: tuple[str, ...] = ()
    if isinstance(folder, Path) and not (folder / INDEX).is_file():
        index = Index.scanned(folder, shards_of(folder))
        notices = (f"{folder} has no index: `contrastkit shards index {folder}` saves reading the tars' headers",)
    else:
        index, looks = read_index(folder)
        index.require_current(folder, looks)
    source = ShardSource(name, index, root=folder, reading=reading, like=like)
    notices += tuple(f"{folder}: {notice}" for notice in index.notices)
    if index.captions is not None and not all(index.captions):  # as of a folder with captions: left out
        source = source.subset(torch.tensor([i for i, text in enumerate(index.captions) if text]))
    return source, (*notices, *(source.notices if like is None else ()))


def _labels(index: Index, root: Folder, like: ShardSource | None) -> tuple[Tensor | None, tuple[str, ...]]:
    """The labels of an index as positions among the texts of ``like``, by default its own; and these texts.

    Raises:
        UserError: a label is not among them.
    """
    if index.labels is None:
        return None, ()
    texts = index.classes if like is None or not like.texts else like.texts
    number = {text: i for i, text in enumerate(texts)}
    used = [index.classes[k] for k in np.unique(index.labels).tolist() if k >= 0]
    if unknown := [text for text in used if text not in number]:
        raise UserError(f"{root} has the class {unknown[0]!r}, which is not in the training part")
    places = np.array([*(number.get(text, -1) for text in index.classes), -1], np.int64)
    return torch.from_numpy(places[index.labels]), texts
