"""The bytes of images within the tars of a folder, and their reader on a disk."""

import contextlib
import os
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

HANDLES = 128  # tars that a process keeps open


class Extent(NamedTuple):
    """Where the bytes of an image are: in which tar of the folder, by its position, and where there."""

    shard: int
    offset: int
    size: int


class Tars(Protocol):
    """What reads the tars of a folder, in whichever process."""

    @property
    def paths(self) -> Sequence[Path | str]:
        """Of the tars, in the order of the index."""

    def advise(self, extents: Sequence[Extent]) -> None:
        """Prepare to read all of these, and nothing else."""

    def read(self, extent: Extent) -> bytes:
        """
        Raises:
            OSError: there is no such tar, or it cannot be read.
            EOFError: it ends before.
        """


class LocalTars:
    """Tars that are opened when they are first read. A read names its place, so that processes may share a handle."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths
        self._open: OrderedDict[int, _Handle] = OrderedDict()  # the latest used is the last

    def advise(self, extents: Sequence[Extent]) -> None:
        """Let the system read them, in the order in which they lie."""
        if hasattr(os, "posix_fadvise"):
            for shard, offset, size in sorted(extents):
                with contextlib.suppress(OSError):  # told when the image is read
                    os.posix_fadvise(self._handle(shard).number, offset, size, os.POSIX_FADV_WILLNEED)

    def read(self, extent: Extent) -> bytes:
        shard, offset, size = extent
        handle, parts = self._handle(shard), []
        while size:
            if not (part := os.pread(handle.number, size, offset)):
                raise EOFError(f"{self.paths[shard].name} ends within it")
            parts.append(part)
            offset, size = offset + len(part), size - len(part)
        return b"".join(parts)

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
