"""Small image files, and the contents of sources."""

from pathlib import Path

from PIL import Image
from torch import Tensor

from contrastkit.data import ArraySource, FileSource, Source


def png(
    path: Path, colour: tuple[int, ...] | int = (10, 20, 30), size: tuple[int, int] = (12, 9), mode: str = "RGB"
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


def images_of(source: Source) -> Tensor:
    """The images of a source in memory, uint8 [N, C, H, W]."""
    assert isinstance(source, ArraySource)
    return source.images


def paths_of(source: Source) -> list[str]:
    """The files of a source on disk, relative to its root."""
    assert isinstance(source, FileSource)
    return list(source.paths)
