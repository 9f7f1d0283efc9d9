"""Images in files."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from contrastkit.data.source import Source, UnreadableError
from contrastkit.errors import UserError

GRAY_MODES = {"1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"}
PEEK = 32  # files opened to determine channels and size of a set


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
            like: a source to take channels, size and sample rate from; None samples the files.
        """
        self.root, self.paths = root, list(paths)
        channels, size, rate = self._peek() if like is None else (like.channels, like.size, like.sample_rate)
        super().__init__(
            name,
            channels=channels,
            size=size,
            labels=labels,
            classes=classes,
            orientation_matters=orientation_matters,
        )
        self.sample_rate = rate

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
            orientation_matters=self.orientation_matters,
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
        except Exception as e:  # damaged files raise almost anything (OSError, struct.error, ...)
            reason = str(e).replace(str(self.root / self.paths[i]), "the file") or type(e).__name__
            raise UnreadableError(i, self.paths[i], reason) from e

    def _decode(self, path: Path) -> Tensor:
        with Image.open(path) as image:
            return _pixels(image, self.channels)

    def _peek(self) -> tuple[int, int, int | None]:
        """(channels, median of the shorter sides, no rate) from the headers of files spread over the set."""
        modes, sides = set(), []
        for path in self.paths[:: max(1, len(self.paths) // PEEK)]:
            try:
                with Image.open(self.root / path) as image:
                    modes.add(image.mode)
                    sides.append(min(image.size))
            except Exception:  # counted when it is fetched
                continue
        if not sides:
            raise UserError(f"none of the images sampled from {self.root} can be read, for example {self.paths[0]}")
        return (1 if modes <= GRAY_MODES else 3), sorted(sides)[len(sides) // 2], None


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
