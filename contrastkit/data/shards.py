"""Images in shards: folders of tars as WebDataset lays them out (:mod:`contrastkit.data.tars`)."""

import contextlib
import os
import re
import weakref
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from contrastkit.data.dataset import DataSet, Reading, Request
from contrastkit.data.encoded import START, EncodedSource
from contrastkit.data.folders import SOUND, subfolders
from contrastkit.data.index import INDEX, Index
from contrastkit.data.parts import WORDS, Part, asked_folder, part_of, test_folders, training_folder
from contrastkit.data.pixels import Member, image_suffixes
from contrastkit.data.tars import PACKED, TAR, is_tar
from contrastkit.errors import UserError, listed
from contrastkit.rng import permutation

WINDOW = 16  # shards whose images are shuffled together
HANDLES = 128  # tars that a process keeps open


class ShardSource(EncodedSource):
    """Image files in tars, decoded as :class:`contrastkit.data.files.FileSource` does.

    Attributes:
        texts: the labels 0, 1, ... as they are in the tars, or the names of their classes.
    """

    def __init__(
        self, name: str, index: Index, *, root: Path, reading: Reading, like: "ShardSource | None" = None
    ) -> None:
        """
        Args:
            like: a source to take channels, size, range and classes from; None samples the images.

        Raises:
            UserError: a class is not among those of ``like``.
        """
        self.shard, self.offset, self.crc = index.shard, index.offset, index.crc
        self.bytes, self.tars = index.size, _Tars([root / shard for shard in index.shards])
        labels, self.texts = _labels(index, root, like)
        classes = self.texts if self.texts != tuple(map(str, range(len(self.texts)))) else None
        super().__init__(name, index.names, labels, root=root, classes=classes, reading=reading, like=like)

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
        """Let the system read images that are about to be decoded, in the order in which they lie."""
        for shard, offset, size in sorted((self.shard[i], self.offset[i], self.bytes[i]) for i in positions):
            with contextlib.suppress(OSError):  # told when the image is read
                self.tars.advise(int(shard), int(offset), int(size))

    def _file(self, i: int) -> Member:
        data = self.tars.read(int(self.shard[i]), int(self.offset[i]), int(self.bytes[i]))
        if self.crc is not None and zlib.crc32(data) != self.crc[i]:
            raise ValueError(f"its bytes are not those of {INDEX}")
        return Member(data, str(self.root / self.paths[i]))

    def _sizes(self) -> NDArray[np.integer]:
        return self.bytes

    def _start(self, i: int) -> bytes:
        try:
            return self.tars.read(int(self.shard[i]), int(self.offset[i]), min(int(self.bytes[i]), START))
        except OSError:
            return b""


class _Tars:
    """Tars that are opened when they are first read. A read names its place, so that processes may share a handle."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths
        self._open: OrderedDict[int, _Handle] = OrderedDict()  # the latest used is the last

    def read(self, shard: int, offset: int, size: int) -> bytes:
        handle, parts = self._handle(shard), []
        while size:
            if not (part := os.pread(handle.number, size, offset)):
                raise EOFError(f"{self.paths[shard].name} ends within it")
            parts.append(part)
            offset, size = offset + len(part), size - len(part)
        return b"".join(parts)

    def advise(self, shard: int, offset: int, size: int) -> None:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._handle(shard).number, offset, size, os.POSIX_FADV_WILLNEED)

    def _handle(self, shard: int) -> "_Handle":
        if shard not in self._open:
            self._open[shard] = _Handle(self.paths[shard])
            if len(self._open) > HANDLES:
                self._open.popitem(last=False)
        self._open.move_to_end(shard)
        return self._open[shard]

    def __getstate__(self) -> dict[str, object]:
        return {"paths": self.paths, "_open": OrderedDict()}


class _Handle:
    """An open file, closed when nobody holds it any more."""

    def __init__(self, path: Path) -> None:
        self.number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self.number)


def open_shards(request: Request) -> DataSet | None:
    """A folder of tars, or one with such a folder for training and possibly others (:mod:`contrastkit.data.parts`)."""
    root, reading = request.path, request.reading
    if root.is_file() and is_tar(root.name):
        raise UserError(f"{root} is one tar: put it into a folder of its own, and give that")
    if not root.is_dir():
        return None
    if holds_shards(root):
        reading.require_no_choice(root)
        train, notices = _opened(root, root.name, reading)
        return DataSet(root.name, train, None, train, notices)
    folders = subfolders(root)
    training = next((name for name in folders if part_of(name) is Part.TRAINING and holds_shards(root / name)), None)
    if training is None:
        return None
    training_folder(root, folders)  # refuses several
    train, notices = _opened(root / training, root.name, reading)
    others = [name for name in folders if name != training]
    asked = reading.test_part
    names = test_folders(others) if asked is None else [asked_folder(root, others, asked)]
    parts = [_opened(root / name, root.name, reading, train) for name in names if holds_shards(root / name)]
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


def parts_of(root: Path) -> list[Path]:
    """The folder itself if it has tars, or the folders in it that have.

    Raises:
        UserError: there are none.
    """
    if not root.is_dir():
        raise UserError(f"{root} is no folder: give one of tars")
    folders = [root, *(root / name for name in subfolders(root))]
    if not (found := [folder for folder in folders if (folder / INDEX).is_file() or holds_shards(folder)]):
        raise UserError(f"{root} has no tars")
    return found


def write_indexes(root: Path) -> dict[str, Index]:
    """Write the index of each folder of tars (:func:`parts_of`) that has none; by its path.

    Raises:
        UserError: all have one, or a tar cannot be read.
    """
    folders = [folder for folder in parts_of(root) if not (folder / INDEX).exists()]
    if not folders:
        raise UserError(f"{root} has an index: remove {INDEX} to make it anew")
    indexes = {folder: Index.scanned(folder, shards_of(folder)) for folder in folders}
    for folder, index in indexes.items():
        index.write(folder)
    return {str(folder / INDEX): index for folder, index in indexes.items()}


def check_shards(root: Path, on_progress: Callable[[str, int, int | None], None]) -> tuple[list[str], int]:
    """What differs between the tars below a folder and their indexes, one line each, and the number of images.

    Raises:
        UserError: there are no tars, or no index.
    """
    lines: list[str] = []
    n = 0
    for folder in parts_of(root):
        if not (folder / INDEX).exists():
            raise UserError(f"{folder} has no index to compare its tars with: `contrastkit shards index` makes one")
        index, shards = Index.read(folder), shards_of(folder)
        n += len(index.names)
        lines += index.problems(folder, shards)
        for k, name in enumerate(index.shards):
            if name in shards:
                lines += index.damage(folder, k)
            on_progress(str(folder), k + 1, len(index.shards))
    return lines, n


def _opened(
    folder: Path, name: str, reading: Reading, like: ShardSource | None = None
) -> tuple[ShardSource, tuple[str, ...]]:
    """The images of a folder of tars, and what is said about them."""
    shards = shards_of(folder)
    notices: tuple[str, ...] = ()
    if (folder / INDEX).is_file():
        index = Index.read(folder)
        index.require_current(folder, shards)
    else:
        index = Index.scanned(folder, shards)
        notices = (f"{folder} has no index: `contrastkit shards index {folder}` saves reading the tars' headers",)
    source = ShardSource(name, index, root=folder, reading=reading, like=like)
    notices += tuple(f"{folder}: {notice}" for notice in index.notices)
    return source, (*notices, *(source.notices if like is None else ()))


def _labels(index: Index, root: Path, like: ShardSource | None) -> tuple[Tensor | None, tuple[str, ...]]:
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
