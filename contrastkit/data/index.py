"""The index of a folder of shards: where in which tar each image is, its label and its captions."""

import os
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from contrastkit.data.pixels import Member
from contrastkit.data.tars import CAPTION, LABELS, Look, Shard, is_tar, look_at, scan
from contrastkit.data.walk import Listing
from contrastkit.errors import UserError
from contrastkit.npz import read_npz, write_npz

INDEX = "index.npz"
FORMAT, WITH_CAPTIONS = 1, 2  # earlier versions read the first alone
ANEW = "make the shards anew, or remove the index"
TEXTS = ("shards", "names", "classes", "notices")

Integers = NDArray[np.integer]


@dataclass(frozen=True, kw_only=True, eq=False)
class Index:
    """
    Attributes:
        shards: names of the tars in their folder, sorted.
        sizes: of the tars in bytes, int64 [S].
        starts: CRC-32 of the first bytes of each tar, int64 [S].
        names: of the images' members, [N]; the order of the set.
        shard, offset, size: the tar of each image, and the place of its bytes there, int64 [N].
        crc: CRC-32 of each image's bytes, int64 [N]; None if it was not computed.
        labels: int64 [N], -1 where an image has none; None for an unlabelled set.
        classes: the labels 0, 1, ... as they are in the tars, or the names of their classes.
        captions: of each image, one a line, "" for none; None for a set without.
        notices: what is unusual in the tars, one line each.
    """

    shards: tuple[str, ...]
    sizes: Integers
    starts: Integers
    names: tuple[str, ...]
    shard: Integers
    offset: Integers
    size: Integers
    crc: Integers | None = None
    labels: Integers | None = None
    classes: tuple[str, ...] = ()
    captions: tuple[str, ...] | None = None
    notices: tuple[str, ...] = ()

    def write(self, folder: Path) -> None:
        arrays: dict[str, Any] = {"format": np.int64(FORMAT if self.captions is None else WITH_CAPTIONS)}
        for name, value in vars(self).items():
            if value is not None:
                arrays[name] = _packed(value) if isinstance(value, tuple) else value.astype(np.int64)
        write_npz(folder / INDEX, arrays)

    @classmethod
    def read(cls, path: Path | Member) -> "Index":
        """
        Raises:
            UserError: it is damaged, no index of shards, or of a newer version.
        """
        arrays = read_npz(path, "an index of shards")
        version = arrays.pop("format", None)
        if version is not None and version.shape == () and version not in (FORMAT, WITH_CAPTIONS):
            raise UserError(f"{path} has format {version}, this version reads formats up to {WITH_CAPTIONS}: {ANEW}")
        try:
            names = (*TEXTS, "captions") if "captions" in arrays else TEXTS
            texts: dict[str, Any] = {name: _unpacked(arrays.pop(name)) for name in names}
            index = cls(**texts, **cast(dict[str, Any], arrays))
            consistent = version is not None and index._is_consistent()
        except (KeyError, TypeError, ValueError, UnicodeError):
            consistent = False
        if not consistent:
            raise UserError(f"{path} is no index of shards, or damaged: {ANEW}")
        return index

    def _is_consistent(self) -> bool:
        n, shards = len(self.names), len(self.shards)
        of_images = [each for each in (self.shard, self.offset, self.size, self.crc, self.labels) if each is not None]
        of_shards = [self.sizes, self.starts]
        return (
            n > 0
            and all(each.dtype == np.int64 and each.shape == (n,) for each in of_images)
            and all(each.dtype == np.int64 and each.shape == (shards,) for each in of_shards)
            and all("/" not in name and is_tar(name) for name in self.shards)
            and min(self.shard.min(), self.offset.min(), self.size.min()) >= 0
            and self.shard.max() < shards
            and bool((self.size <= self.sizes[self.shard] - self.offset).all())
            and (self.captions is None or len(self.captions) == n)
            and (self.labels is None or (self.labels.min() >= -1 and self.labels.max() < len(self.classes)))
        )

    @classmethod
    def scanned(cls, folder: Path, shards: Sequence[str]) -> "Index":
        """The index of tars, from their headers.

        Raises:
            UserError: one cannot be read, or none has images.
        """
        scans = [scan(folder / name) for name in shards]
        images = [image for each in scans for image in each.images]
        names = [image.name for image in images]
        shard = np.repeat(np.arange(len(shards)), [len(each.images) for each in scans])
        left_out = sum((each.left_out for each in scans), Counter())
        if not images:
            raise UserError(
                f"no images in the tars of {folder}" + (f", but {Listing([], left_out).omissions}" if left_out else "")
            )
        if len(set(names)) < len(names):  # each tar may number its own
            names = [f"{shards[k]}/{name}" for k, name in zip(shard.tolist(), names, strict=True)]
        looks = [look_at(folder / name) for name in shards]
        labels, classes, notices = _labels(scans, left_out)
        captions, said = _captions(scans, left_out)
        notices += said
        if left_out := +left_out:
            notices = (*notices, f"left out {Listing([], left_out).omissions}")
        return cls(
            shards=tuple(shards),
            sizes=np.array([look.size for look in looks], np.int64),
            starts=np.array([look.start for look in looks], np.int64),
            names=tuple(names),
            shard=shard.astype(np.int64),
            offset=np.array([image.offset for image in images], np.int64),
            size=np.array([image.size for image in images], np.int64),
            labels=labels,
            classes=classes,
            captions=captions,
            notices=notices,
        )

    def problems(self, folder: object, looks: Mapping[str, Look]) -> Iterator[str]:
        """What tells the tars of a folder, by their names, from those of the index; one line each."""
        for name in sorted(set(self.shards) - looks.keys()):
            yield f"{folder}/{name} is missing"
        for name in sorted(looks.keys() - set(self.shards)):
            yield f"{folder}/{name} is not in {INDEX}"
        for name, size, start in zip(self.shards, self.sizes.tolist(), self.starts.tolist(), strict=True):
            if (look := looks.get(name)) is not None:
                if look.size != size:
                    yield f"{folder}/{name} has {look.size:,} bytes, not the {size:,} of {INDEX}"
                elif look.start != start:
                    yield f"{folder}/{name} begins otherwise than that of {INDEX}"

    def require_current(self, folder: object, looks: Mapping[str, Look]) -> None:
        """
        Raises:
            UserError: the tars of a folder are not those of the index.
        """
        for problem in self.problems(folder, looks):
            raise UserError(f"{problem}: bring the shards of the index back, or remove it")

    def damage(self, folder: Path, k: int) -> Iterator[str]:
        """What is wrong with the members of a tar that looks like that of the index; one line each."""
        path = folder / self.shards[k]
        try:
            found = {(image.offset, image.size): image.name for image in scan(path).images}
        except UserError as error:
            yield str(error)
            return
        positions = np.flatnonzero(self.shard == k)
        with path.open("rb") as file:
            for i in positions[np.argsort(self.offset[positions])].tolist():
                offset, size = int(self.offset[i]), int(self.size[i])
                name = found.pop((offset, size), None)
                if name is None or self.names[i] not in (name, f"{self.shards[k]}/{name}"):
                    yield f"{path} lacks {self.names[i]}"
                elif self.crc is not None and zlib.crc32(os.pread(file.fileno(), size, offset)) != self.crc[i]:
                    yield f"{path}: the bytes of {self.names[i]} are not those of {INDEX}"
        yield from (f"{path}: {name} is not in {INDEX}" for name in found.values())


def _labels(scans: Sequence[Shard], left_out: Counter[str]) -> tuple[Integers | None, tuple[str, ...], tuple[str, ...]]:
    """The labels of all images, [N], the texts that they stand for, and what is said about them.

    A .txt file may hold a caption as well as a label: a set in which two images seldom share one has captions.
    """
    texts = {kind: [text for each in scans for text in each.labels[kind]] for kind in LABELS}
    known = {kind: {text for text in found if text} for kind, found in texts.items()}
    n_texts = sum(map(bool, texts["txt"]))
    if 2 * len(known["txt"]) > n_texts and not all(map(_is_integer, known["txt"])):
        known["txt"] = set()
    kind = next((kind for kind in LABELS if known[kind]), None)
    for other in LABELS:
        if other != kind:
            left_out[f".{other}"] += sum(text is not None for text in texts[other])
    if kind is None:
        return None, (), ()
    given = texts[kind]
    if all(map(_is_integer, known[kind])):
        given = [str(int(text)) if text and int(text) != -1 else None for text in given]
        classes = sorted({text for text in given if text}, key=int)
    else:
        classes = sorted(known[kind])
    number = {text: i for i, text in enumerate(classes)}
    labels = np.array([number.get(text or "", -1) for text in given], np.int64)
    missing = int((labels < 0).sum())
    notices = (f"{missing:,} of {len(labels):,} images have no label in .{kind}",) if missing else ()
    return labels, tuple(classes), notices


def _captions(scans: Sequence[Shard], left_out: Counter[str]) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """The captions of all images, if most have some and they are no labels, and what is said about them. ``left_out``
    counts the files that :func:`_labels` did not take; those of captions are taken out of it."""
    kind, captions = f".{CAPTION}", [text for each in scans for text in each.captions]
    given = sum(map(bool, captions))
    if left_out[kind] < given or 2 * given <= len(captions):
        return None, ()
    left_out[kind] -= sum(text is not None for each in scans for text in each.labels[CAPTION])  # empty ones, too
    bare = len(captions) - given
    return tuple(captions), (
        f"{bare:,} of {len(captions):,} images have no caption in {kind} and are left out",
    ) if bare else ()


def _is_integer(text: str) -> bool:
    return text.removeprefix("-").isdecimal() and len(text) < 19


def _packed(texts: Sequence[str]) -> NDArray[np.uint8]:
    return np.frombuffer("\0".join(texts).encode("utf-8", "surrogateescape"), np.uint8)


def _unpacked(array: NDArray[Any]) -> tuple[str, ...]:
    text = array.tobytes().decode("utf-8", "surrogateescape")
    return tuple(text.split("\0")) if text else ()
