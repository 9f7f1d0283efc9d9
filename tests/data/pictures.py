"""Small image files."""

from pathlib import Path

from PIL import Image


def png(
    path: Path, colour: tuple[int, ...] | int = (10, 20, 30), size: tuple[int, int] = (12, 9), mode: str = "RGB"
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)
