"""Make the indexes of folders of shards, and compare them with the tars."""

import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from contrastkit.data.extents import Extent
from contrastkit.data.folders import subfolders
from contrastkit.data.index import INDEX, Index
from contrastkit.data.remote import RemoteFolder, RemoteTars
from contrastkit.data.shards import Folder, holds_shards, read_index, shards_of
from contrastkit.directories import local_path
from contrastkit.errors import UserError

AT_ONCE = 256  # images that are read ahead


def _parts(root: Folder) -> Sequence[Folder]:
    """The folder itself if it has tars, or the folders in it that have.

    Raises:
        UserError: there are none.
    """
    if isinstance(root, Path):
        return _local_parts(root)
    found = [root] if root.has(INDEX) else [root / name for name in root.parts(INDEX)]
    if not found:
        raise UserError(f"{root} has no {INDEX} that can be read, nor has {root}/train")
    return found


def _local_parts(root: Path) -> list[Path]:
    local_path(root)
    if not root.is_dir():
        raise UserError(f"{root} is no folder: give one of tars")
    folders = [root, *(root / name for name in subfolders(root))]
    if not (found := [folder for folder in folders if (folder / INDEX).is_file() or holds_shards(folder)]):
        raise UserError(f"{root} has no tars")
    return found


def write_indexes(root: Path) -> dict[str, Index]:
    """Write the index of each folder of tars, the given one or those in it, that has none; by its path.

    Raises:
        UserError: all have one, or a tar cannot be read.
    """
    folders = [folder for folder in _local_parts(root) if not (folder / INDEX).exists()]
    if not folders:
        raise UserError(f"{root} has an index: remove {INDEX} to make it anew")
    indexes = {folder: Index.scanned(folder, shards_of(folder)) for folder in folders}
    for folder, index in indexes.items():
        index.write(folder)
    return {str(folder / INDEX): index for folder, index in indexes.items()}


def check_shards(root: Folder, on_progress: Callable[[str, int, int | None], None]) -> tuple[list[str], int]:
    """What differs between the tars below a folder and their indexes, one line each, and the number of images.

    Raises:
        UserError: there are no tars, or no index.
    """
    lines: list[str] = []
    n = 0
    for folder in _parts(root):
        if isinstance(folder, Path) and not (folder / INDEX).exists():
            raise UserError(f"{folder} has no index to compare its tars with: `contrastkit shards index` makes one")
        index, looks = read_index(folder)
        n += len(index.names)
        lines += index.problems(folder, looks)
        for k, name in enumerate(index.shards):
            if name in looks:
                lines += index.damage(folder, k) if isinstance(folder, Path) else _damage(folder, index, k)
            on_progress(str(folder), k + 1, len(index.shards))
    return lines, n


def _damage(folder: RemoteFolder, index: Index, k: int) -> Iterator[str]:
    """What is wrong with the images in a tar, of which only their bytes are read; one line each."""
    if index.crc is None:
        raise UserError(
            f"{folder / INDEX} has no sums of the images' bytes: check the tars where they were uploaded from"
        )
    tars, positions = RemoteTars(folder, index.shards), np.flatnonzero(index.shard == k)
    positions = positions[np.argsort(index.offset[positions])]
    for some in np.split(positions, range(AT_ONCE, len(positions), AT_ONCE)):
        extents = {int(i): Extent(k, int(index.offset[i]), int(index.size[i])) for i in some}
        tars.advise(list(extents.values()))
        for i, extent in extents.items():
            try:
                same = zlib.crc32(tars.read(extent)) == index.crc[i]
            except (OSError, EOFError):
                same = False
            if not same:
                yield f"{folder / index.shards[k]}: the bytes of {index.names[i]} are not those of {INDEX}"
