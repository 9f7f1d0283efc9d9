"""Images in files."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from contrastkit.data.source import Source, UnreadableError, digest
from contrastkit.errors import UserError

GRAY_MODES = {"1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"}
PEEK = 32  # files opened to determine channels and size of a set

Found = TypeVar("Found")


class FileSource(Source):
    """Image files. Every image becomes RGB, or one channel if all files of a sample are gray.

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
        orientation_matters: bool = False,
        like: Source | None = None,
    ) -> None:
        """
        Args:
            paths: relative to ``root``.
            like: a source to take channels and size from; None samples the files.
        """
        self.root, self.paths = root, list(paths)
        channels, size = self._peek() if like is None else (like.channels, like.size)
        super().__init__(
            name,
            channels=channels,
            size=size,
            labels=labels,
            classes=classes,
            orientation_matters=orientation_matters,
        )

    def __len__(self) -> int:
        return len(self.paths)

    def fetch(self, index: Tensor) -> list[Tensor]:
        return [self._read(i) for i in index.tolist()]

    def subset(self, index: Tensor) -> Self:
        part = super().subset(index)
        part.paths = [self.paths[i] for i in index.tolist()]
        return part

    def fingerprint(self) -> str:
        return digest("\n".join(self.paths).encode("utf-8", "surrogateescape"), self.label_bytes)

    def _read(self, i: int) -> Tensor:
        try:
            return self._decode(self.root / self.paths[i])
        except Exception as e:  # damaged files raise almost anything (OSError, struct.error, ...)
            reason = str(e).replace(str(self.root / self.paths[i]), "the file") or type(e).__name__
            raise UnreadableError(i, self.paths[i], reason) from e

    def _decode(self, path: Path) -> Tensor:
        with Image.open(path) as image:
            return _pixels(image, self.channels)

    def _peek(self) -> tuple[int, int]:
        """Channels, and the median of the shorter sides, in the headers of a sample of the files."""
        headers = self._sample(_header)
        modes, sides = {mode for mode, _ in headers}, sorted(side for _, side in headers)
        return (1 if modes <= GRAY_MODES else 3), sides[len(sides) // 2]

    def _sample(self, look: Callable[[Path], Found]) -> list[Found]:
        """What ``look`` finds in files spread over the set, without those that cannot be read.

        Raises:
            UserError: none of them can.
        """
        found = []
        for path in self.paths[:: max(1, len(self.paths) // PEEK)]:
            with contextlib.suppress(Exception):  # counted when it is fetched
                found.append(look(self.root / path))
        if not found:
            kind = self.modality.plural
            raise UserError(f"none of the {kind} sampled from {self.root} can be read, for example {self.paths[0]}")
        return found


def _header(path: Path) -> tuple[str, int]:
    """Mode and shorter side of an image file."""
    with Image.open(path) as image:
        return image.mode, min(image.size)


def _pixels(image: Image.Image, channels: int) -> Tensor:
    """An open image as uint8 [channels, H, W], upright."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits, which Pillow's convert() would clip; it opens some PNGs as mode "I"
        image = Image.fromarray((np.asarray(image).astype(np.int64) / 257).round().clip(0, 255).astype(np.uint8))
    elif image.mode == "F":
        pixels = np.asarray(image)
        if not (np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1):
            raise ValueError("floating-point pixels outside [0, 1]")
        image = Image.fromarray((pixels * 255).round().astype(np.uint8))
    elif image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # palettes may have transparency, which convert("RGB") warns about
    array = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return torch.from_numpy(array.copy()).view(image.height, image.width, channels).permute(2, 0, 1)
