"""Image files of every mode become uint8 pixels."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from contrastkit.data import ArraySource, FileSource, open_data
from tests.data.pictures import png


def pixel(path: Path, channels: int) -> list[int]:
    """The first pixel of a file as its source returns it."""
    like = ArraySource("x", torch.zeros(1, channels, 1, 1, dtype=torch.uint8))
    source = FileSource("x", [path.name], root=path.parent, like=like)
    return source.fetch(torch.tensor([0]))[0][:, 0, 0].tolist()


def test_modes_of_image_files(tmp_path):
    where = tmp_path / "x.png"
    png(where, 77, mode="L")
    assert pixel(where, 1) == [77]
    assert pixel(where, 3) == [77] * 3
    png(where, (200, 100, 50), mode="RGB")
    assert pixel(where, 3) == [200, 100, 50]
    assert pixel(where, 1) == [round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)]
    png(where, (200, 100, 50, 128), mode="RGBA")
    assert pixel(where, 3) == [200, 100, 50]
    png(where, (90, 255), mode="LA")
    assert pixel(where, 1) == [90]
    png(where, 1, mode="1")
    assert pixel(where, 1) == [255]
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 9, 8, 7])
    palette.save(where, transparency=0)
    assert pixel(where, 3) == [9, 8, 7]
    Image.fromarray(np.full((4, 4), 257 * 130, np.uint16)).save(where)
    assert pixel(where, 1) == [130]
    assert pixel(where, 3) == [130] * 3
    Image.fromarray(np.full((4, 4), 0.4, np.float32)).save(tmp_path / "x.tiff")
    assert pixel(tmp_path / "x.tiff", 1) == [102]
    Image.new("CMYK", (4, 4), (0, 0, 0, 0)).save(tmp_path / "x.jpg")
    assert pixel(tmp_path / "x.jpg", 3) == [255] * 3


def test_gray_folders_have_one_channel(tmp_path):
    for k in range(3):
        png(tmp_path / f"{k}.png", k, mode="L")
    Image.fromarray(np.full((9, 9), 257, np.uint16)).save(tmp_path / "deep.png")
    assert open_data(str(tmp_path)).train.channels == 1
    png(tmp_path / "colour.png")
    assert open_data(str(tmp_path)).train.channels == 3


def test_exif_orientation(tmp_path):
    image = Image.new("RGB", (20, 10))
    image.paste((255, 255, 255), (0, 0, 10, 10))  # left half white
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    image.save(tmp_path / "turned.png", exif=exif)
    (upright,) = open_data(str(tmp_path)).train.fetch(torch.tensor([0]))
    assert upright.shape == (3, 20, 10)
    assert upright[:, :10].min() == 255
    assert upright[:, 10:].max() == 0
