"""Pictures for the page: drawn by the functions of the toolkit, or found in the run folder, and made small."""

import base64
import io
import tempfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from contrastkit.report.content import Picture

PALETTE = 256  # colours of a PNG of one byte a pixel
LARGE = 300_000  # bytes of a PNG above which a JPEG is tried
QUALITY = 90


def drawn(draw: Callable[[Path], object], *, alt: str, caption: str = "") -> Picture:
    """The picture that a function draws to a file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "picture.png"
        draw(file)
        return found(file, alt=alt, caption=caption)


def found(file: Path, *, alt: str, caption: str = "") -> Picture:
    """The picture in a file."""
    with Image.open(file) as image:
        pixels = image.convert("RGB")
    kind, data = _small(pixels)
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return Picture(source, *pixels.size, alt, caption)


def _small(image: Image.Image) -> tuple[str, bytes]:
    """Format and bytes: a PNG, of at most :data:`PALETTE` colours with a palette; where it is large, as of photographs,
    a JPEG, if that is less than half of it. Charts stay PNGs: a JPEG blurs letters, and is hardly smaller."""
    few = image.getcolors(PALETTE) is not None
    png = _saved(image.quantize(PALETTE, dither=Image.Dither.NONE) if few else image, "PNG", optimize=True)
    if len(png) > LARGE:
        jpeg = _saved(image, "JPEG", quality=QUALITY, subsampling=0)
        if len(jpeg) < len(png) / 2:
            return "jpeg", jpeg
    return "png", png


def _saved(image: Image.Image, kind: str, **how: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return buffer.getvalue()
