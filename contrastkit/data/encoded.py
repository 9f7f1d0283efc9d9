"""Images in encoded form, in files or in members of tars, which are decoded one by one."""

import contextlib
import math
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from contrastkit.data.dataset import Reading
from contrastkit.data.pixels import DEEP, GRAY_MODES, ImageData, Span, decoded, is_deep, jpeg_size, opened
from contrastkit.data.remote import RemoteFolder
from contrastkit.data.source import Source, UnreadableError, digest
from contrastkit.errors import UserError
from contrastkit.rng import permutation

PEEK = 64  # images opened to determine channels, size and range of a set
START = 2**20  # bytes of a file that a fingerprint knows
DARK = 0.25  # images of more than 8 bits whose pixels are all below this share of white look almost black
AS_THEY_ARE = Reading()

Found = TypeVar("Found")


class Seen(NamedTuple):
    """An image whose size is known, before it is decoded if that can be done at a part of the size."""

    position: int
    height: int
    width: int
    image: Tensor | ImageData  # decoded, or the file


class EncodedSource(Source):
    """Encoded images. Every image becomes RGB, or one channel if all files of a sample are gray.

    16-bit pixels are scaled to 8 bits, EXIF orientation is applied, palettes are looked up, transparent pixels show the
    background.

    Attributes:
        span: with ``stretch``, the range of the pixels of images of more than 8 bits.
        notices: what is unusual in a sample of the images, one line each.
    """

    def __init__(
        self,
        name: str,
        paths: Sequence[str],
        labels: Tensor | None = None,
        *,
        root: Path | RemoteFolder,
        classes: Sequence[str] | None = None,
        orientation_matters: bool = False,
        reading: Reading = AS_THEY_ARE,
        like: Source | None = None,
    ) -> None:
        """
        Args:
            paths: relative to ``root``, the folder named in messages.
            like: a source to take channels, size and range from; None samples the images.
        """
        self.root, self.paths, self.reading = root, list(paths), reading
        self.span: Span | None = like.span if isinstance(like, EncodedSource) else None
        self.notices: tuple[str, ...] = ()
        channels, size = self._peek() if like is None else (like.channels, like.size)
        super().__init__(
            name,
            channels=channels,
            size=size,
            labels=labels,
            classes=classes,
            orientation_matters=orientation_matters,
        )
        # Of a gray set: whether a colour image has been met, by any of the processes that load data.
        self._met_colour = torch.zeros(1, dtype=torch.bool).share_memory_() if channels == 1 else None

    def __len__(self) -> int:
        return len(self.paths)

    def fetch(self, index: Tensor) -> list[Tensor]:
        self._read_ahead(positions := index.tolist())
        return [self._read(i) for i in positions]

    def look(self, index: Tensor) -> list[Seen]:
        """The images at ``index`` with their sizes: those of JPEGs from their headers, the others are decoded.

        Raises:
            UnreadableError: for the first one of which not even that can be read.
        """
        self._read_ahead(index.tolist())
        return [self._seen(i) for i in index.tolist()]

    def decode(self, seen: Sequence[Seen], factors: Sequence[int]) -> list[Tensor]:
        """These images as :meth:`fetch` returns them, but with their sides divided by factors of 1, 2 or 4 and rounded
        up. Whole are those that are decoded already, and those that only Pillow can decode.

        Raises:
            UnreadableError: for the first one that cannot be read.
        """
        images = []
        for (i, _, _, image), factor in zip(seen, factors, strict=True):
            if not isinstance(image, Tensor):
                with self._telling(i):
                    image = self._pixels(image, factor)
            images.append(image)
        return images

    def fingerprint(self) -> str:
        """Contents are the sizes of all files and the first bytes of a sample; dates do not count."""
        names = "\n".join(self.paths).encode("utf-8", "surrogateescape")
        sizes = self._sizes().astype(np.int64).tobytes()
        self._read_ahead(drawn := self._drawn())
        return f"{digest(names, self.label_bytes)}.{digest(sizes, *map(self._start, drawn))}"

    @abstractmethod
    def _file(self, i: int) -> ImageData:
        """The encoded image at a position; its ``str`` is its name in messages."""

    @abstractmethod
    def _sizes(self) -> NDArray[np.integer]:
        """Of the encoded images in bytes, [N]; -1 for one that is gone."""

    @abstractmethod
    def _start(self, i: int) -> bytes:
        """The first :data:`START` bytes of an encoded image; none if it cannot be read."""

    def _read_ahead(self, positions: Sequence[int]) -> None:
        """Prepare to read the images at these positions."""

    def _read(self, i: int) -> Tensor:
        with self._telling(i):
            return self._decode(self._file(i))

    def _seen(self, i: int) -> Seen:
        with self._telling(i):
            file = self._file(i)
            with opened(file) as image:
                size = jpeg_size(image, self.channels)
            if size is not None:
                return Seen(i, *size, file)
            pixels = self._decode(file)
            return Seen(i, pixels.shape[1], pixels.shape[2], pixels)

    @contextlib.contextmanager
    def _telling(self, i: int) -> Iterator[None]:
        """Tell which image cannot be read, and why."""
        name = str(self.root / self.paths[i])
        try:
            yield
        except (MemoryError, UserError):  # of the machine, not of the file
            raise
        except Exception as e:  # damaged files raise almost anything (OSError, struct.error, ...)
            reason = str(e).replace(name, "the file") or type(e).__name__
            raise UnreadableError(i, self.paths[i], reason) from e

    def _decode(self, file: ImageData) -> Tensor:
        return self._pixels(file, 1)

    def _pixels(self, file: ImageData, factor: int) -> Tensor:
        with opened(file) as image:
            mode = image.mode
            pixels = decoded(image, self.channels, self.reading.background, self.span, factor)
        if self._met_colour is not None and mode not in GRAY_MODES and not self._met_colour:
            self._met_colour.fill_(True)
            warnings.warn(
                f"images of {self.name} are taken for gray, but {file} has colour: it is averaged", stacklevel=2
            )
        return torch.from_numpy(pixels).permute(2, 0, 1)

    def _peek(self) -> tuple[int, int]:
        """Channels, and the median of the shorter sides, in the headers of a sample of the files."""
        headers = self._sample(_header)
        modes, sides = {mode for mode, _ in headers}, sorted(side for _, side in headers)
        if any(map(is_deep, modes)):
            self._look_at_ranges()
        elif self.reading.stretch:
            self.notices = (f"{self.root}: no image of more than 8 bits is among the sampled ones to --stretch",)
        return (1 if modes <= GRAY_MODES else 3), sides[len(sides) // 2]

    def _look_at_ranges(self) -> None:
        """The range of the pixels of those files of the sample that have more than 8 bits."""
        ranges = [each for each in self._sample(_range) if each is not None]
        if not ranges:
            return
        low, high = min(low for low, _, _ in ranges), max(high for _, high, _ in ranges)
        white = max(white for _, _, white in ranges)
        seen = f"{self.root}: the pixels of {len(ranges)} files of more than 8 bits lie from {low:,.4g} to {high:,.4g}"
        if self.reading.stretch:
            self.span = low, high
            self.notices = (f"{seen}, which become black and white",)
        elif low < 0 or high > white:
            self.notices = (f"{seen}: what is outside 0 to {white:,} is lost; scale them with --stretch",)
        elif high < white * DARK:
            self.notices = (f"{seen}, where white is {white:,}: they are almost black; scale them with --stretch",)

    def _sample(self, look: Callable[[ImageData], Found]) -> list[Found]:
        """What ``look`` finds in files drawn at random from the set, the same ones each time, without those that cannot
        be read.

        Raises:
            UserError: none of them can.
        """
        found = []
        self._read_ahead(drawn := self._drawn())
        for i in drawn:
            try:
                found.append(look(self._file(i)))
            except (UserError, MemoryError):
                raise
            except Exception:  # counted when it is fetched
                continue
        if not found:
            kind = self.modality.plural
            raise UserError(f"none of the {kind} sampled from {self.root} can be read, for example {self.paths[0]}")
        return found

    def _drawn(self) -> list[int]:
        """Positions drawn at random from the set, the same ones each time, in order."""
        return permutation(0, 0, len(self.paths))[:PEEK].sort()[0].tolist()


def _header(file: ImageData) -> tuple[str, int]:
    """Mode and shorter side of an image file."""
    with opened(file) as image:
        return image.mode, min(image.size)


def _range(file: ImageData) -> tuple[float, float, int] | None:
    """The darkest and the brightest pixel of an image of more than 8 bits, and what is white; None for other images,
    and where some pixels are not finite."""
    with opened(file) as image:
        if not is_deep(image.mode):
            return None
        low, high = float((pixels := np.asarray(image)).min()), float(pixels.max())
        return (low, high, 1 if image.mode == "F" else DEEP) if math.isfinite(high - low) else None
