"""The images of a tar, their labels and their captions, as WebDataset lays them out: members of one name but for what
follows its first point, ``KEY.jpg`` and ``KEY.cls``, are one sample. Only headers and texts are read, and no code in a
tar is run."""

import json
import os
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from contrastkit.data.pixels import image_suffixes
from contrastkit.errors import UserError

TAR = ".tar"
PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
PACKERS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}  # first bytes
LABELS = ("cls", "json", "txt")  # the first kind that a set has is used
CAPTION = "txt"  # unless it is a label
KEYS = ("cls", "label", "class")  # of a .json file
TEXT = 1 << 20  # bytes from which a text is no label and no caption
NAME = 200  # characters of the longest name of a class
START = 4096  # bytes at the beginning of a tar that tell it from another of its size


class Place(NamedTuple):
    """A regular member of a tar, and where its bytes are."""

    name: str
    offset: int
    size: int


class Shard(NamedTuple):
    """
    Attributes:
        images: in the tar's order.
        labels: kind (:data:`LABELS`) -> a text for each image, "" where it gives no label, None where there is none.
        captions: the lines of each image's .txt, "" where there are none.
        left_out: what else is there, kind -> number of it.
    """

    images: list[Place]
    labels: dict[str, list[str | None]]
    captions: list[str]
    left_out: Counter[str]


def is_tar(name: str) -> bool:
    """Whether a file of this name is a tar that is not hidden."""
    return name.lower().endswith(TAR) and not name.startswith(".")


class Look(NamedTuple):
    """A tar at a glance: its size in bytes, and the CRC-32 of its first ones."""

    size: int
    start: int


def look_at(tar: Path) -> Look:
    with tar.open("rb") as file:
        return Look(os.fstat(file.fileno()).st_size, zlib.crc32(file.read(START)))


def scan(tar: Path) -> Shard:
    """
    Raises:
        UserError: it is no tar, packed, truncated, or has two images or labels of one name, or names outside of it.
    """
    images: dict[str, Place] = {}
    labels: dict[str, dict[str, str]] = {kind: {} for kind in LABELS}
    captions = dict[str, str]()
    left_out: Counter[str] = Counter()
    with tar.open("rb") as file:
        for place in _members(tar, file, left_out):
            folder, slash, base = place.name.rpartition("/")
            stem, _, suffix = base.partition(".")
            key, kind = folder + slash + stem, suffix.lower()
            if f".{kind}" in image_suffixes():
                _put(images, key, place, tar, place.name)
            elif kind in LABELS and place.size < TEXT:
                text = _read(file, place)
                _put(labels[kind], key, _label(kind, text), tar, place.name)
                if kind == CAPTION:
                    captions[key] = _caption(text)
            else:
                left_out[f".{kind}" if kind else "without an ending"] += 1
    texts = {kind: [found.get(key) for key in images] for kind, found in labels.items()}
    for kind, found in labels.items():
        left_out[f".{kind} without an image"] += len(found.keys() - images.keys())
    return Shard(list(images.values()), texts, [captions.get(key, "") for key in images], +left_out)


def _put(samples: dict[str, Any], key: str, value: Any, tar: Path, name: str) -> None:
    if key in samples:
        raise UserError(f"{tar} has two members for {name}: one image and one label of a name are read")
    samples[key] = value


def _members(tar: Path, file: BinaryIO, left_out: Counter[str]) -> Iterator[Place]:
    """The regular members of a tar but for hidden ones, whose number is added to ``left_out``."""
    start, total = file.read(6), os.fstat(file.fileno()).st_size
    for magic, packer in PACKERS.items():
        if start.startswith(magic):
            raise UserError(f"{tar} is packed by {packer}: unpack it, since images are read from any place in it")
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:", errors="surrogateescape") as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                if name.startswith("/") or ".." in name.split("/") or "\0" in name:
                    raise UserError(f"{tar} has a member outside of it, {name!r}: make it anew")
                if archive.offset > total:  # where the next one begins
                    raise UserError(f"{tar} is truncated: it ends within {name}")
                if any(part.startswith((".", "__MACOSX")) for part in name.split("/")):
                    left_out["hidden files"] += not member.isdir()
                elif member.isreg() and not member.issparse():
                    yield Place(name, member.offset_data, member.size)
                else:
                    left_out["links, devices and sparse files"] += not member.isdir()
            end = archive.offset
    except (UserError, MemoryError):
        raise
    except Exception as error:  # damaged headers raise almost anything
        raise UserError(
            f"{tar} cannot be read as a tar (damaged, or no tar): {error or type(error).__name__}"
        ) from error
    _require_end(tar, file, end)


def _require_end(tar: Path, file: BinaryIO, end: int) -> None:
    """Check that a tar ends with zeros where its members do: tarfile takes whatever it does not understand for the end.

    Raises:
        UserError: it does not.
    """
    file.seek(end)
    if len(block := file.read(tarfile.BLOCKSIZE)) < tarfile.BLOCKSIZE:
        raise UserError(f"{tar} is truncated: it lacks the mark at the end of a tar")
    while block:
        if block.strip(b"\0"):
            raise UserError(
                f"{tar} has something after byte {end:,} that is no member: damaged, or two tars in one file"
            )
        block = file.read(1 << 20)


def _read(file: BinaryIO, place: Place) -> str:
    return os.pread(file.fileno(), place.size, place.offset).decode("utf-8", "backslashreplace")


def _label(kind: str, text: str) -> str:
    """The label that a text gives; "" if it gives none."""
    value: Any = text
    if kind == "json":
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return ""
        if isinstance(value, dict):
            value = next((value[key] for key in KEYS if key in value), None)
    if isinstance(value, bool) or not isinstance(value, int | str):
        return ""
    label = str(value).strip()
    return label if len(label) <= NAME and "\n" not in label else ""


def _caption(text: str) -> str:
    """The captions in a text, one a line, without blanks around them and between words more than one."""
    lines = (" ".join(line.replace("\0", " ").split()) for line in text.splitlines())
    return "\n".join(line for line in lines if line)
