"""Shards behind a URL: a folder that its index describes, and the reader of its tars."""

import zlib
from collections.abc import Iterator, Mapping, Sequence

from contrastkit.data.extents import Extent
from contrastkit.data.parts import TEST, TRAINING
from contrastkit.data.pixels import Member
from contrastkit.data.store import Span, Store
from contrastkit.data.tars import START, Look
from contrastkit.errors import RESUME, UserError

GAP = 1 << 16  # bytes between two images that are read with them rather than left out by another request
BLOCK = 1 << 23  # bytes of several images in one request


class RemoteFolder:
    """A folder behind a URL, which nothing need be able to list: its index says what is there.

    As of a ``Path``, ``str(folder)`` and ``folder.name`` are names of it, and ``folder / name`` is within it.
    """

    def __init__(self, url: str, store: "Store | None" = None) -> None:
        """
        Args:
            store: of a folder that it is within.

        Raises:
            UserError: the URL has a password or a query.
        """
        self.url = url.rstrip("/")
        self._store = Store(self.url) if store is None else store

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> "RemoteFolder":
        return RemoteFolder(f"{self.url}/{name}", self._store)

    def has(self, file: str) -> bool:
        """Whether there is a file of this name within it, that may be read."""
        return bool(self._present([self / file]))

    def parts(self, file: str, asked: str | None = None) -> list[str]:
        """The folders within it that have a file of this name, of those with a usual name of a part, and ``asked``."""
        names = dict.fromkeys([*TRAINING, *TEST, *([] if asked is None else [asked])])
        present = self._present([self / name / file for name in names])
        return [name for name in names if str(self / name / file) in present]

    def file(self, name: str) -> Member:
        """The bytes of a whole file.

        Raises:
            UserError: it cannot be read.
        """
        url = f"{self / name}"
        (data,) = self._store.read([Span(url, 0, *self._store.sizes([url]))], absent=())
        assert isinstance(data, bytes)
        return Member(data, url)

    def looks(self, expected: Mapping[str, int]) -> dict[str, Look]:
        """What tells tars from others, by name; without those that are not there.

        Args:
            expected: name -> size in bytes.

        Raises:
            UserError: one cannot be read.
        """
        starts = self.read([Span(f"{self / name}", 0, min(START, size)) for name, size in expected.items()])
        found = {name: start for name, start in zip(expected, starts, strict=True) if isinstance(start, bytes)}
        sizes = self._store.sizes([f"{self / name}" for name in found])
        return {name: Look(size, zlib.crc32(start)) for (name, start), size in zip(found.items(), sizes, strict=True)}

    def read(self, spans: Sequence[Span]) -> list[bytes | OSError]:
        """As :meth:`Store.read`."""
        return self._store.read(spans)

    def _present(self, files: Sequence["RemoteFolder"]) -> set[str]:
        """The URLs of those files that there are. (Some stores refuse what there is not.)"""
        spans = [Span(str(file), 0, 1) for file in files]
        parts = self._store.read(spans, absent=(FileNotFoundError, PermissionError))
        return {span.url for span, part in zip(spans, parts, strict=True) if isinstance(part, bytes)}


class RemoteTars:
    """Tars in such a folder. What is read ahead is kept until something else is asked for."""

    def __init__(self, folder: RemoteFolder, names: Sequence[str]) -> None:
        self.paths = [f"{folder / name}" for name in names]
        self._folder = folder
        self._ahead: dict[Extent, bytes | OSError] = {}

    def advise(self, extents: Sequence[Extent]) -> None:
        """
        Raises:
            UserError: the tars cannot be read.
        """
        if missing := set(extents) - self._ahead.keys():
            self._ahead = {extent: self._ahead[extent] for extent in extents if extent in self._ahead}
            self._ahead |= self._fetched(missing)

    def read(self, extent: Extent) -> bytes:
        self.advise([extent])
        data, tar = self._ahead[extent], self.paths[extent.shard].rpartition("/")[2]
        if isinstance(data, OSError):
            raise FileNotFoundError(f"there is no {tar}") from data
        if len(data) < extent.size:
            raise EOFError(f"{tar} ends within it")
        return data

    def _fetched(self, extents: set[Extent]) -> Iterator[tuple[Extent, bytes | OSError]]:
        """Each with its bytes, fewer where the tar ends before, or the reason why there are none."""
        blocks = joined(extents)
        spans = [Span(self.paths[block[0].shard], block[0].offset, _end(block)) for block in blocks]
        try:
            parts = self._folder.read(spans)
        except UserError as error:
            raise UserError(f"{error}{RESUME}") from error
        for block, span, data in zip(blocks, spans, parts, strict=True):
            for extent in block:
                start = extent.offset - span.start
                yield extent, data if isinstance(data, OSError) else data[start : start + extent.size]


def joined(extents: set[Extent]) -> list[list[Extent]]:
    """Extents that lie close together, one list for each request, in the order of the tars."""
    blocks: list[list[Extent]] = []
    for extent in sorted(extents):
        if blocks and _is_near(blocks[-1], extent):
            blocks[-1].append(extent)
        else:
            blocks.append([extent])
    return blocks


def _is_near(block: Sequence[Extent], extent: Extent) -> bool:
    start, size = extent.offset - block[0].offset, _end(block) - block[0].offset
    return extent.shard == block[0].shard and start <= size + GAP and start + extent.size <= BLOCK


def _end(block: Sequence[Extent]) -> int:
    return max(extent.offset + extent.size for extent in block)
