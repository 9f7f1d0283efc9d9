"""Image files, and their pixels as 8 bits: JPEGs by simplejpeg, everything else by Pillow."""

import contextlib
import functools
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, PngImagePlugin
from PIL.ImageFile import ImageFile

from contrastkit.errors import UserError
from contrastkit.memory import available_memory

with contextlib.suppress(ImportError):  # here, so that each process that loads data can read .heic
    import pillow_heif

    pillow_heif.register_heif_opener()

GRAY_MODES = {"1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"}
ALPHA_MODES = {"LA", "La", "PA", "RGBA", "RGBa"}
NO_RASTERS = {"EPS", "MPEG", "PDF", "WMF", "BUFR", "GRIB", "HDF5"}  # pages, films, and what Pillow only recognises
DEEP = 65535  # the white of 16 bits, and of Pillow's 32
TEXT = 1 << 26  # bytes of text in a PNG: image generators store whole workflows there
LARGE = 178_956_970  # pixels from which Pillow refuses a file, as it may be a bomb
PIXELS_PER_BYTE = 10_000  # more than any photograph: such a large file is a bomb
BYTES_PER_PIXEL = 12  # while a file is decoded
STRIP = 64  # longest side, in shorter sides

Span = tuple[float, float]


class Member(io.BytesIO):
    """The bytes of an image that is a part of a larger file, with a name for messages."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return repr(self.name)


ImageData = Path | Member


@functools.cache
def image_formats() -> tuple[str, ...]:
    """Pillow's names of the image formats that the installed one reads, in its order; HEIF too where pillow-heif is."""
    Image.preinit()  # puts the usual ones first: they are tried in turn
    Image.init()
    return tuple(kind for kind in Image.ID if kind not in NO_RASTERS)


@functools.cache
def image_suffixes() -> frozenset[str]:
    """The endings of files in these formats, as in ".jpg"."""
    formats = {*image_formats(), "MPO"}  # which is opened as JPEG
    return frozenset(end for end, kind in Image.registered_extensions().items() if kind in formats)


@contextlib.contextmanager
def opened(file: ImageData) -> Iterator[ImageFile]:
    """An image, in a file or in memory. Of Pillow's limits against bombs, that of text is raised, and that of pixels
    replaced: a file may be as large as memory permits, unless it claims far more pixels than its bytes can hold.

    Raises:
        ValueError: it claims far more.
        UserError: it does not fit in memory.
    """
    limits = Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK
    Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK = None, TEXT
    try:
        # The content decides, whatever the ending: for a page, Pillow would run Ghostscript.
        with Image.open(file, formats=image_formats()) as image:
            _require_room(file, image.width * image.height)
            yield image
    finally:
        Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK = limits


def _require_room(file: ImageData, n: int) -> None:
    if n <= LARGE:
        return
    if n > PIXELS_PER_BYTE * (size := _size(file)):
        raise ValueError(f"it claims {n:,} pixels, in a file of {size:,} bytes")
    if n * BYTES_PER_PIXEL > (free := available_memory()):
        raise UserError(
            f"{file} has {n:,} pixels, which take {n * BYTES_PER_PIXEL / 1e9:,.0f} GB of memory to read, of which "
            f"{free / 1e9:,.0f} GB are free: make it smaller, or remove it"
        )


def _size(file: ImageData) -> int:
    return file.stat().st_size if isinstance(file, Path) else file.getbuffer().nbytes


def decoded(
    image: ImageFile, channels: int, background: str, span: Span | None = None, factor: int = 1
) -> NDArray[np.uint8]:
    """The pixels of an opened file, upright and in memory of their own: [H, W, channels].

    Args:
        channels: 3, or 1, to which colour is averaged.
        background, span: as of :func:`eight_bits`.
        factor: 2 or 4 if its sides, rounded up, may be a half or a quarter: it must have a :func:`jpeg_size`. A file
            about which Pillow has to decide is whole all the same.
    """
    mode = _mode(channels)
    pixels = _of_jpeg(image, mode, factor)
    if pixels is None:
        image.load()  # only then do some formats know their mode, size and orientation
        shown = eight_bits(image, background, span).convert(mode)
        pixels = np.asarray(shown).reshape(shown.height, shown.width, channels)
    upright = _upright(pixels, image.getexif().get(ExifTags.Base.Orientation, 1))
    return np.require(upright, requirements=("C", "W", "O"))  # copies what is strided, a part, or Pillow's


def jpeg_size(image: ImageFile, channels: int) -> tuple[int, int] | None:
    """The height and width of an opened JPEG as :func:`decoded` returns it whole; None for what cannot be decoded at
    less than its size: other files, and those of which only the middle is used."""
    if not _is_jpeg(image, _mode(channels)) or max(image.size) > STRIP * min(image.size):
        return None
    turned = image.getexif().get(ExifTags.Base.Orientation, 1) in SIDEWAYS
    return image.size if turned else (image.height, image.width)


def _mode(channels: int) -> str:
    return "L" if channels == 1 else "RGB"


def _is_jpeg(image: ImageFile, mode: str) -> bool:
    """Whether simplejpeg decodes it as Pillow does: not colour to be averaged, of which a JPEG has a brightness of its
    own."""
    return image.format == "JPEG" and image.mode in ("L", "RGB") and (image.mode, mode) != ("RGB", "L")


def _of_jpeg(image: ImageFile, mode: str, factor: int) -> NDArray[np.uint8] | None:
    """The pixels of a JPEG, bit for bit as Pillow has them, but faster; None where Pillow has to decode: other files,
    and damaged ones, about which it decides."""
    if not _is_jpeg(image, mode):
        return None
    assert image.fp is not None
    image.fp.seek(0)
    size = -(-image.height // factor), -(-image.width // factor)
    smaller = () if factor == 1 else (False, False, *size, factor)  # of the factors, the one that gives this size
    try:
        pixels = simplejpeg.decode_jpeg(image.fp.read(), "GRAY" if mode == "L" else "RGB", *smaller)
    except ValueError:  # an error, or a mere warning of libjpeg
        return None
    return pixels if pixels.shape[:2] == size else None


TURNS: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {  # EXIF's orientations, of [H, W, C]
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels.swapaxes(0, 1)[:, ::-1],
    7: lambda pixels: pixels.swapaxes(0, 1)[::-1, ::-1],
    8: lambda pixels: pixels.swapaxes(0, 1)[::-1],
}
SIDEWAYS = (5, 6, 7, 8)  # those that exchange height and width


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """An image as its EXIF orientation says; of one that is longer than 64 of its shorter sides, the middle.

    No view shows more of such a strip: the plain view is a square in its middle, and so are random ones, because a crop
    with a twentieth of its area does not fit into it. Scaled as a whole, it would not fit into memory.
    """
    if orientation in TURNS:
        turned = TURNS[orientation](pixels)
        pixels = np.empty_like(turned, order="C")
        for channel in range(turned.shape[2]):  # faster than all at once, which would take longer than decoding
            pixels[:, :, channel] = turned[:, :, channel]
    height, width, _ = pixels.shape
    most = STRIP * min(width, height)
    if max(width, height) <= most:
        return pixels
    top, left = max(0, (height - most) // 2), max(0, (width - most) // 2)
    return pixels[top : top + most, left : left + most]


def is_deep(mode: str) -> bool:
    """Whether the pixels of images of this mode have more than 8 bits."""
    return mode.startswith("I") or mode == "F"


def eight_bits(image: Image.Image, background: str, span: Span | None = None) -> Image.Image:
    """The image in a mode without alpha and of 8 bits that ``convert("L")`` and ``convert("RGB")`` take.

    Args:
        background: the colour under transparent pixels.
        span: the pixels of a deeper image that become black and white; by default 0 and 65,535, or, where they are
            floating-point, 0 and 1.

    Raises:
        ValueError: floating-point pixels outside [0, 1] without a span, or not finite.
    """
    if is_deep(image.mode):
        return Image.fromarray(_scaled(np.asarray(image), span))
    if image.mode == "LAB":
        lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, rgb, outputMode="RGB")
        assert converted is not None
        return converted
    if image.mode in ALPHA_MODES or (image.mode in ("1", "L", "P", "RGB") and "transparency" in image.info):
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, background), image).convert("RGB")
    return image.convert("RGB") if image.mode == "P" else image


def _scaled(pixels: NDArray[Any], span: Span | None) -> NDArray[np.uint8]:
    if pixels.dtype.kind == "f":
        if not np.isfinite(pixels).all():
            raise ValueError("some pixels are not finite")
        if span is None and not (pixels.min() >= 0 and pixels.max() <= 1):
            raise ValueError("floating-point pixels outside [0, 1]: add --stretch to scale them")
        if span is None:
            return (pixels * 255).round().astype(np.uint8)
    black, white = span or (0, DEEP)
    scaled = (pixels.astype(np.float64) - black) * (255 / max(white - black, 1e-12))
    return scaled.round().clip(0, 255).astype(np.uint8)
