"""Sources: one indexed set of images each, in memory (:class:`ArraySource`), in files (:class:`FileSource`), or of
several senses (:class:`AlignedSource`); and of sounds (:class:`ClipSource`)."""

import hashlib
import math
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from contrastkit.errors import UserError
from contrastkit.rng import permutation

GRAY_MODES = {"1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"}
PEEK = 32  # files opened to see what a set of files is like


class BadImage(Exception):
    """An image that cannot be read: its position, its name for people, and why."""

    def __init__(self, index: int, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.index, self.path, self.reason = index, path, reason


class Source(ABC):
    """An indexed set of images.

    Attributes:
        name: what to call it on the screen.
        channels: of every image it hands out.
        size: shorter side of a typical image, in pixels.
        labels: int64 [N], -1 where an image has none; None for an unlabelled set.
        classes: names of the labels 0, 1, ...; None where they have none.
        digits: orientation carries the class (digits, letters), so flips would change it.
        originals: int64 [N], images made from the same original share a number; None where each is its own.
        modalities: the senses that an image's channels come from, name -> number of channels, in order; None where an
            image is of one kind.
        rate: of sounds, samples a second; None for images. A sound is an image of height 1, int16 [1, 1, T]; ``size``
            is how many samples a typical one has.
        bad: unreadable images met so far: position -> (path, reason).
    """

    def __init__(
        self, name: str, *, channels: int, size: int, labels: Tensor | None, classes: Sequence[str] | None, digits: bool
    ) -> None:
        self.name, self.channels, self.size = name, channels, size
        self.labels, self.classes, self.digits = labels, None if classes is None else tuple(classes), digits
        self.originals: Tensor | None = None
        self.modalities: dict[str, int] | None = None
        self.rate: int | None = None
        self.bad: dict[int, tuple[str, str]] = {}

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def fetch(self, index: Tensor) -> Tensor | list[Tensor]:
        """The images at ``index`` (int64 [n]): uint8 [n, C, H, W], or a list of uint8 [C, H_i, W_i] where sizes differ.

        Raises:
            BadImage: for the first one that cannot be read.
        """

    @abstractmethod
    def subset(self, index: Tensor) -> "Source":
        """The images at ``index`` as a source of their own."""

    @abstractmethod
    def fingerprint(self) -> str:
        """16 hexadecimal digits: whether a resumed run or cached features see the same set."""

    def label(self, index: Tensor) -> Tensor:
        """Labels int64 [n] of the images at ``index``, -1 where there is none."""
        return torch.full_like(index, -1) if self.labels is None else self.labels[index]

    def take(self, index: Tensor) -> tuple[Tensor | list[Tensor], Tensor]:
        """:meth:`fetch`, with unreadable images noted in :attr:`bad` and replaced by the next readable one of the set.

        What replaces an image depends on the files alone, not on which bad ones are already known.

        Returns:
            The images, and int64 [n], the positions they really have.
        """
        while True:
            index = self._around_bad(index)
            try:
                return self.fetch(index), index
            except BadImage as e:
                self.bad[e.index] = (e.path, e.reason)

    def _around_bad(self, index: Tensor) -> Tensor:
        if not self.bad:
            return index
        if len(self.bad) >= len(self):
            path, reason = next(iter(self.bad.values()))
            raise UserError(f"no image of {self.name} can be read, for example {path}: {reason}")
        good = index.tolist()
        for k, i in enumerate(good):
            while i in self.bad:
                i = (i + 1) % len(self)
            good[k] = i
        return torch.tensor(good, dtype=torch.int64)


class ArraySource(Source):
    """Images of one size, in memory: uint8 [N, C, H, W]."""

    def __init__(
        self,
        name: str,
        images: Tensor,
        labels: Tensor | None = None,
        *,
        classes: Sequence[str] | None = None,
        digits: bool = False,
        originals: Tensor | None = None,
    ) -> None:
        super().__init__(
            name, channels=images.shape[1], size=min(images.shape[-2:]), labels=labels, classes=classes, digits=digits
        )
        self.images, self.originals = images, originals

    def __len__(self) -> int:
        return len(self.images)

    def fetch(self, index: Tensor) -> Tensor:
        return self.images.index_select(0, index)  # several times faster than images[index]

    def subset(self, index: Tensor) -> "ArraySource":
        labels = None if self.labels is None else self.labels[index]
        originals = None if self.originals is None else self.originals[index]
        return ArraySource(
            self.name, self.images[index], labels, classes=self.classes, digits=self.digits, originals=originals
        )

    def fingerprint(self) -> str:
        digest = hashlib.sha256(repr(tuple(self.images.shape)).encode())
        some = self.images[:: max(1, len(self) // 4096)]  # enough to tell sets apart, quick on a large one
        digest.update(some.contiguous().numpy().tobytes())
        if self.labels is not None:
            digest.update(self.labels.numpy().tobytes())
        return digest.hexdigest()[:16]


class FileSource(Source):
    """Image files. Every image becomes RGB, unless all those looked at are gray: then one channel.

    16-bit pixels are scaled to 8 bits, EXIF orientation is applied, palettes are looked up, alpha is dropped.
    """

    def __init__(
        self,
        name: str,
        paths: Sequence[str],
        labels: Tensor | None = None,
        *,
        root: Path,
        classes: Sequence[str] | None = None,
        digits: bool = False,
        like: Source | None = None,
    ) -> None:
        """``paths`` are relative to ``root``; ``like`` is a source that has this one's channels, size and rate."""
        self.root, self.paths = root, list(paths)
        channels, size, rate = self._peek() if like is None else (like.channels, like.size, like.rate)
        super().__init__(name, channels=channels, size=size, labels=labels, classes=classes, digits=digits)
        self.rate = rate

    def __len__(self) -> int:
        return len(self.paths)

    def fetch(self, index: Tensor) -> list[Tensor]:
        return [self._read(i) for i in index.tolist()]

    def subset(self, index: Tensor) -> "FileSource":
        return type(self)(
            self.name,
            [self.paths[i] for i in index.tolist()],
            None if self.labels is None else self.labels[index],
            root=self.root,
            classes=self.classes,
            digits=self.digits,
            like=self,
        )

    def fingerprint(self) -> str:
        digest = hashlib.sha256("\n".join(self.paths).encode("utf-8", "surrogateescape"))
        if self.labels is not None:
            digest.update(self.labels.numpy().tobytes())
        return digest.hexdigest()[:16]

    def _read(self, i: int) -> Tensor:
        try:
            return self._decode(self.root / self.paths[i])
        except Exception as e:  # a damaged file makes a library raise almost anything (OSError, struct.error, ...)
            reason = str(e).replace(str(self.root / self.paths[i]), "the file") or type(e).__name__
            raise BadImage(i, self.paths[i], reason) from e

    def _decode(self, path: Path) -> Tensor:
        with Image.open(path) as image:
            return _pixels(image, self.channels)

    def _peek(self) -> tuple[int, int, int | None]:
        """(channels, median of the shorter sides, no rate) of some files spread over the set, from their headers."""
        modes, sides = set(), []
        for path in self.paths[:: max(1, len(self.paths) // PEEK)]:
            try:
                with Image.open(self.root / path) as image:
                    modes.add(image.mode)
                    sides.append(min(image.size))
            except Exception:  # met again, and counted, when its turn comes
                continue
        if not sides:
            raise UserError(f"none of the images looked at in {self.root} can be read, for example {self.paths[0]}")
        return (1 if modes <= GRAY_MODES else 3), sorted(sides)[len(sides) // 2], None


class ClipSource(FileSource):
    """Sounds in .wav files, PCM or floating point: int16 [1, 1, T] each, channels averaged, resampled to the rate of
    most of those looked at."""

    def _decode(self, path: Path) -> Tensor:
        from scipy.signal import resample_poly

        rate, wave = _wav(path)
        if rate != self.rate:
            assert self.rate is not None
            common = math.gcd(rate, self.rate)
            wave = resample_poly(wave, self.rate // common, rate // common)
        samples = np.clip(np.rint(wave * 2**15), -(2**15), 2**15 - 1).astype(np.int16)
        return torch.from_numpy(samples).view(1, 1, -1)

    def _peek(self) -> tuple[int, int, int | None]:
        """(1, median length, most frequent rate) of some files spread over the set."""
        lengths, rates = [], []
        for path in self.paths[:: max(1, len(self.paths) // PEEK)]:
            try:
                rate, wave = _wav(self.root / path)
            except Exception:  # met again, and counted, when its turn comes
                continue
            lengths.append(len(wave))
            rates.append(rate)
        if not rates:
            raise UserError(f"none of the sounds looked at in {self.root} can be read, for example {self.paths[0]}")
        return 1, sorted(lengths)[len(lengths) // 2], max(sorted(rates), key=rates.count)


def _wav(path: Path) -> tuple[int, np.ndarray]:
    """Rate and samples, float64 [T] in [-1, 1], of a .wav file."""
    from scipy.io import wavfile

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", wavfile.WavFileWarning)  # of chunks it does not know
        warnings.filterwarnings("error", "Reached EOF prematurely", wavfile.WavFileWarning)
        rate, wave = wavfile.read(path)
    if not wave.size:
        raise ValueError("it holds no sound")
    if wave.dtype == np.uint8:
        wave = (wave.astype(np.float64) - 128) / 128
    elif wave.dtype.kind == "i":
        wave = wave / -float(np.iinfo(wave.dtype).min)  # 24 bits come in the upper ones of 32
    wave = wave.astype(np.float64)
    if not np.isfinite(wave).all():
        raise ValueError("samples that are not finite")
    return rate, wave.mean(axis=1) if wave.ndim == 2 else wave


class AlignedSource(Source):
    """Scenes seen by several senses, in image files of the same names (colour and depth, say): one image of the
    channels of all. An image of another size than that of the first sense is resized to it (bilinearly).

    Depth in 16 bits is scaled like any image (:class:`FileSource`), from 0 to 65535: millimetres of a room, up to some
    10,000, would keep 40 steps of 256. Stretch them first."""

    def __init__(self, name: str, parts: Mapping[str, FileSource]) -> None:
        """``parts``: a source for each sense, file by file of the same scenes. The first one has the labels.

        Raises:
            UserError: a file of one has no partner in another.
        """
        first, *others = parts
        scenes = {sense: [os.path.splitext(path)[0] for path in part.paths] for sense, part in parts.items()}
        for other in others:
            if alone := set(scenes[first]) ^ set(scenes[other]):
                one = min(alone)
                has, lacks = (first, other) if one in scenes[first] else (other, first)
                raise UserError(
                    f"{len(alone)} files have no partner: {one} is in {has}, not in {lacks} "
                    f"({len(scenes[first])} files in {first}, {len(scenes[other])} in {other})"
                )
        for sense, names in scenes.items():
            if len(set(names)) < len(names):
                twin = next(a for a, b in zip(sorted(names), sorted(names)[1:], strict=False) if a == b)
                raise UserError(f"{sense} has two files for the scene {twin}: leave one out")
        for other in others:
            at = {scene: i for i, scene in enumerate(scenes[other])}
            parts = {**parts, other: parts[other].subset(torch.tensor([at[scene] for scene in scenes[first]]))}
        lead = parts[first]
        channels = sum(part.channels for part in parts.values())
        super().__init__(
            name, channels=channels, size=lead.size, labels=lead.labels, classes=lead.classes, digits=False
        )
        self.parts = parts
        self.modalities = {sense: part.channels for sense, part in parts.items()}

    def __len__(self) -> int:
        return len(next(iter(self.parts.values())))

    def fetch(self, index: Tensor) -> list[Tensor]:
        seen = []
        for sense, part in self.parts.items():
            try:
                images = part.fetch(index)
            except BadImage as e:
                raise BadImage(e.index, f"{sense}: {e.path}", e.reason) from e
            seen.append(images)
        return [torch.cat([_fitted(image, senses[0]) for image in senses]) for senses in zip(*seen, strict=True)]

    def subset(self, index: Tensor) -> "AlignedSource":
        return AlignedSource(self.name, {sense: part.subset(index) for sense, part in self.parts.items()})

    def fingerprint(self) -> str:
        words = " ".join(f"{sense} {part.fingerprint()}" for sense, part in self.parts.items())
        return hashlib.sha256(words.encode()).hexdigest()[:16]


def _fitted(image: Tensor, to: Tensor) -> Tensor:
    """uint8 [C, H, W] resized to the height and width of another."""
    if image.shape[1:] == to.shape[1:]:
        return image
    return F.interpolate(image[None], to.shape[1:], mode="bilinear", antialias=True)[0]


def split(n: int, originals: Tensor | None, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Draw ``share`` of n images, at least one: positions (kept, held out) in ascending order.

    Images of the same original stay together, or the held-out ones would have their twins among the others.
    """
    unit = torch.arange(n) if originals is None else originals.unique(return_inverse=True)[1]
    order = permutation(seed, 0, int(unit.max()) + 1)
    held = torch.isin(unit, order[: max(1, round(share * len(order)))])
    return (~held).nonzero()[:, 0], held.nonzero()[:, 0]


def _pixels(image: Image.Image, channels: int) -> Tensor:
    """An open image as uint8 [channels, H, W], upright."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(
        "I"
    ):  # 16 bits; Pillow's own convert() would clip them. Mode "I" is how it opens some PNGs.
        image = Image.fromarray((np.asarray(image).astype(np.int64) / 257).round().clip(0, 255).astype(np.uint8))
    elif image.mode == "F":
        pixels = np.asarray(image)
        if not (np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1):
            raise ValueError("floating-point pixels outside [0, 1]")
        image = Image.fromarray((pixels * 255).round().astype(np.uint8))
    elif image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # a palette may hold transparency, which convert("RGB") warns about
    array = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return torch.from_numpy(array.copy()).view(image.height, image.width, channels).permute(2, 0, 1)
