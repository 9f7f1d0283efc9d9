"""Write the image files of a data set into shards."""

import contextlib
import io
import itertools
import os
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from contrastkit.checkpoint import atomic
from contrastkit.data.dataset import DataSet
from contrastkit.data.files import FileSource
from contrastkit.data.index import INDEX, Index
from contrastkit.data.pixels import ALPHA_MODES, DEEP, Member, Span, decoded, eight_bits, is_deep, opened
from contrastkit.data.tars import CAPTION, TAR, look_at
from contrastkit.data.workers import Workers
from contrastkit.directories import local_path
from contrastkit.errors import UserError, listed
from contrastkit.rng import permutation

PER_SHARD = 1000
KEPT = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png"}  # Pillow's formats of files that stay as they are
QUALITY = 95
CHUNK = 16  # images that a process reads at once
STORAGE = -1  # as a seed: the order in tars is that of no epoch

OnProgress = Callable[[str, int, int | None], None]


class Packed(NamedTuple):
    """An image file for a shard."""

    data: bytes
    suffix: str
    shrunk: bool
    recoded: bool


@dataclass
class Made:
    """What became of a part: ``unreadable`` is (path, reason) of each image that was left out."""

    name: str
    folder: str
    shards: int = 0
    images: int = 0
    shrunk: int = 0
    recoded: int = 0
    unreadable: list[tuple[str, str]] = field(default_factory=list)


def make_shards(
    data: DataSet,
    out: Path,
    *,
    per_shard: int = PER_SHARD,
    max_side: int | None = None,
    workers: int = 0,
    on_progress: OnProgress = lambda task, done, total: None,
) -> list[Made]:
    """Write the parts of a set of image files into ``out``: into the folder itself, or into ``train/`` and ``test/``.

    The tars hold the images in random order, so that a few of them are a sample of the set; the index has them in the
    order of the files, so that the set is the same one. What the folder gets is a function of the images, ``per_shard``
    and ``max_side``; it gets all of it or, after an error, nothing.

    Args:
        per_shard: images in a tar.
        max_side: larger images are shrunk to this longer side.
        workers: processes that read images; 0 uses the caller's.

    Raises:
        UserError: ``out`` has something in it, the set is not one of image files, or none of a part can be read.
    """
    parts = {"train": data.train, "test": data.test}
    sources = {name: source for name, source in parts.items() if source is not None}
    folders = {name: name if len(sources) > 1 else "" for name in sources}
    made = []
    with _new_folder(out) as place:
        for name, source in sources.items():
            if type(source) is not FileSource:
                raise UserError(f"{data.name} has no image files: shards are made of a folder of images")
            folder, part = place / folders[name], Made(name, str(out / folders[name]))
            folder.mkdir(exist_ok=True)
            with Workers(_Packing(source, max_side), workers=workers) as reading:
                _write(source, folder, part, per_shard, reading, on_progress)
            made.append(part)
        # A part without its index would be read as it is: the tars come last.
        for part in made:
            Path(part.folder).mkdir(exist_ok=True)
            os.replace(place / folders[part.name] / INDEX, os.path.join(part.folder, INDEX))
        for part in made:
            for tar in sorted((place / folders[part.name]).glob(f"*{TAR}")):
                os.replace(tar, os.path.join(part.folder, tar.name))
    return made


@contextlib.contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A temporary folder within ``out``, which must be empty and is made if it is not there."""
    local_path(out)
    new = not out.exists()
    if not new and not out.is_dir():
        raise UserError(f"--out {out} is no folder")
    if not new and (found := sorted(os.listdir(out))):
        raise UserError(f"--out {out} is not empty (it has {listed(found, 4)}): give a new folder")
    out.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".making.", suffix=".tmp", dir=out) as place:
            yield Path(place)
    finally:
        if new:
            with contextlib.suppress(OSError):  # not empty: it has been made
                out.rmdir()


def _write(
    source: FileSource, folder: Path, made: Made, per_shard: int, reading: Workers, on_progress: OnProgress
) -> None:
    """Write a part into an empty folder; ``made`` counts what becomes of it."""
    n = len(source)
    keys = keys_of(source.paths)
    places: list[tuple[int, ...]] = []
    names: dict[int, str] = {}
    chunks = permutation(STORAGE, 0, n).split(CHUNK)
    results = _counted(itertools.chain.from_iterable(reading.map(chunks)), source, made, on_progress)
    for k in itertools.count():
        if (first := next(results, None)) is None:
            break
        with atomic(folder / f"{k:05}{TAR}") as path, tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
            for i, (data, suffix, *_) in itertools.chain([first], itertools.islice(results, per_shard - 1)):
                names[i] = f"{keys[i]}.{suffix}"
                places.append((i, k, _add(tar, names[i], data), len(data), zlib.crc32(data)))
                if source.labels is not None and (label := int(source.labels[i])) >= 0:
                    _add(tar, f"{keys[i]}.cls", str(label).encode())
                if source.captions is not None:
                    _add(tar, f"{keys[i]}.{CAPTION}", "\n".join(source.captions.of(i)).encode())
    if not places:
        example, reason = made.unreadable[0]
        raise UserError(f"none of the {n:,} images of {source.root} can be read, for example {example}: {reason}")
    made.shards, made.images = k, len(places)
    _index(source, folder, sorted(places), [names[i] for i in sorted(names)]).write(folder)


def _counted(
    results: Iterator[tuple[int, Packed | str]], source: FileSource, made: Made, on_progress: OnProgress
) -> Iterator[tuple[int, Packed]]:
    """The images that can be read; all are counted."""
    for done, (i, packed) in enumerate(results, 1):
        on_progress(made.name, done, len(source))
        if isinstance(packed, str):
            made.unreadable.append((source.paths[i], packed))
            continue
        made.shrunk += packed.shrunk
        made.recoded += packed.recoded
        yield i, packed


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> int:
    """Add a member of no date and no owner; returns where its bytes are."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
    blocks = -(-len(data) // tarfile.BLOCKSIZE)
    return tar.offset - blocks * tarfile.BLOCKSIZE


def _index(source: FileSource, folder: Path, places: list[tuple[int, ...]], names: Sequence[str]) -> Index:
    """The index of a part: ``places`` are position, tar, offset, size and CRC-32 of each image, by position."""
    position, shard, offset, size, crc = np.array(places, np.int64).T
    shards = [f"{k:05}{TAR}" for k in range(int(shard.max()) + 1)]
    looks = [look_at(folder / name) for name in shards]
    labels = None if source.labels is None else source.labels.numpy()[position]
    classes = source.classes
    if classes is None and labels is not None:
        classes = tuple(map(str, range(int(labels.max()) + 1)))
    return Index(
        shards=tuple(shards),
        sizes=np.array([look.size for look in looks], np.int64),
        starts=np.array([look.start for look in looks], np.int64),
        names=tuple(names),
        shard=shard,
        offset=offset,
        size=size,
        crc=crc,
        labels=labels,
        classes=tuple(classes or ()),
        captions=None
        if source.captions is None
        else tuple("\n".join(source.captions.of(i)) for i in position.tolist()),
    )


def keys_of(paths: Sequence[str]) -> list[str]:
    """A key for each path, which has no point in its last part: what follows the first one is no key to WebDataset."""
    keys: list[str] = []
    taken: set[str] = set()
    for path in paths:
        folder, name = os.path.split(path)
        key = os.path.join(folder, os.path.splitext(name)[0].replace(".", "_"))
        if key in taken:  # a.jpg and a.png
            key = os.path.join(folder, name.replace(".", "_"))
        while key in taken:
            key += "_"
        taken.add(key)
        keys.append(key)
    return keys


# ------------------------------------------------------------------------------------------------ an image for a shard


@dataclass(frozen=True)
class _Packing(Dataset[Any]):
    """Positions -> (position, the image or why it cannot be read)."""

    source: FileSource
    max_side: int | None

    def __getitem__(self, positions: Tensor) -> list[tuple[int, Packed | str]]:
        return [(i, self._packed(i)) for i in positions.tolist()]

    def _packed(self, i: int) -> Packed | str:
        path = self.source.root / self.source.paths[i]
        try:
            return packed(path, self.max_side, self.source.span)
        except (MemoryError, UserError):
            raise
        except Exception as error:  # damaged files raise almost anything
            return str(error).replace(str(path), "the file") or type(error).__name__


def packed(path: Path, max_side: int | None, span: Span | None = None) -> Packed:
    """An image file as it is put into a shard: a JPEG or PNG as it is, if it need not shrink; else JPEGs as JPEG, and
    the others as PNG, upright, with the pixels that :func:`contrastkit.data.pixels.decoded` finds.

    Args:
        span: of floating-point pixels, as of :func:`contrastkit.data.pixels.eight_bits`.
    """
    data = path.read_bytes()
    with opened(Member(data, str(path))) as image:
        kind = KEPT.get(image.format or "")
        shrunk = max_side is not None and max(image.size) > max_side
        if kind is not None and not shrunk:
            decoded(image, 3, "white", span)  # raises an error if it is damaged
            return Packed(data, kind, shrunk=False, recoded=False)
        upright = _plain(ImageOps.exif_transpose(image), span)
        if shrunk:
            assert max_side is not None
            upright = _shrunk(upright, max_side)
        file = io.BytesIO()
        if kind == "jpg" and upright.mode in ("L", "RGB"):
            upright.save(file, "JPEG", quality=QUALITY)
            return Packed(file.getvalue(), "jpg", shrunk, recoded=True)
        upright.save(file, "PNG")
        return Packed(file.getvalue(), "png", shrunk, recoded=True)


def _plain(image: Image.Image, span: Span | None) -> Image.Image:
    """The image in one of PNG's modes, of 16 bits or with alpha if it is."""
    if is_deep(image.mode) and image.mode != "F":
        return Image.fromarray(np.asarray(image).clip(0, DEEP).astype(np.uint16))
    if image.mode in ALPHA_MODES or "transparency" in image.info:
        return image.convert("RGBA")
    plain = eight_bits(image, "white", span)
    return plain if plain.mode in ("1", "L", "RGB") else plain.convert("RGB")


def _shrunk(image: Image.Image, max_side: int) -> Image.Image:
    scale = max_side / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    if is_deep(image.mode):
        small = Image.fromarray(np.asarray(image, np.float32)).resize((width, height), Image.Resampling.LANCZOS)
        return Image.fromarray(np.asarray(small).round().clip(0, DEEP).astype(np.uint16))
    image = image.convert("L") if image.mode == "1" else image
    return image.resize((width, height), Image.Resampling.LANCZOS)
