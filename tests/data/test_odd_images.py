"""Real image files that are odd: turned, deep, transparent, damaged, or made to harm their reader."""

import csv
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from contrastkit.data import ArraySource, FileSource, UnreadableError
from contrastkit.data.dataset import Reading

FOLDER = Path(os.environ.get("CONTRASTKIT_DATA", "nowhere")) / "odd_images"  # manifest.csv says what to expect
pytestmark = [
    pytest.mark.skipif(not FOLDER.is_dir(), reason="$CONTRASTKIT_DATA has no odd_images"),
    pytest.mark.filterwarnings("ignore"),  # of damaged metadata, and of colour in sets of gray images
]


def rows() -> list[dict[str, str]]:
    if not FOLDER.is_dir():
        return []
    with open(FOLDER / "manifest.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("row", rows(), ids=lambda row: row["file"])
def test_an_odd_image_is_read_or_counted(row: dict[str, str], channels: int) -> None:
    like = ArraySource("x", torch.zeros(1, channels, 1, 1, dtype=torch.uint8))
    deep = row["mode"] == "F"  # floating-point pixels of any range need --stretch
    source = FileSource("x", [row["file"]], root=FOLDER, like=None if deep else like, reading=Reading(stretch=deep))
    channels = source.channels
    try:
        (image,) = source.fetch(torch.tensor([0]))
    except UnreadableError:
        assert row["expect"] in ("reject", "either")
        return
    assert row["expect"] in ("decode", "either") and image.dtype == torch.uint8
    if row["size_after_transpose"]:
        width, height = map(int, row["size_after_transpose"].split("x"))
        assert image.shape == (channels, height, width)


def read(name: str) -> Tensor:
    like = ArraySource("x", torch.zeros(1, 3, 1, 1, dtype=torch.uint8))
    (image,) = FileSource("x", [name], root=FOLDER, like=like).fetch(torch.tensor([0]))
    return image.float()


def test_turned_pictures_look_alike() -> None:
    upright = read("pillow/hopper.jpg")
    turned = sorted((FOLDER / "pillow").glob("hopper_orientation_*"))
    assert len(turned) > 5
    for path in turned:
        assert (read(f"pillow/{path.name}") - upright).abs().mean() < 8, path.name


@pytest.mark.parametrize("name", ["hopper.webp", "hopper.bmp", "hopper.tif", "hopper.gif", "hopper.Lab.tif"])
def test_a_picture_looks_the_same_in_every_format(name: str) -> None:
    assert (read(f"pillow/{name}") - read("pillow/hopper.jpg")).abs().mean() < 8


def test_cmyk_is_no_negative() -> None:
    assert (read("pillow/pil_sample_cmyk.jpg") - read("pillow/pil_sample_rgb.jpg")).abs().mean() < 25
