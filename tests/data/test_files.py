"""Image files of every mode become uint8 pixels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from contrastkit.data import ArraySource, FileSource, UnreadableError, open_data, pixels, plain_batches
from contrastkit.data.pixels import opened
from contrastkit.errors import UserError
from tests.data.pictures import png


def pixel(path: Path, channels: int) -> list[int]:
    """The first pixel of a file as its source returns it."""
    like = ArraySource("x", torch.zeros(1, channels, 1, 1, dtype=torch.uint8))
    source = FileSource("x", [path.name], root=path.parent, like=like)
    return source.fetch(torch.tensor([0]))[0][:, 0, 0].tolist()


@pytest.mark.filterwarnings("ignore:images of x are taken for gray")
def test_modes_of_image_files(tmp_path):
    where = tmp_path / "x.png"
    png(where, 77, mode="L")
    assert pixel(where, 1) == [77]
    assert pixel(where, 3) == [77] * 3
    png(where, (200, 100, 50), mode="RGB")
    assert pixel(where, 3) == [200, 100, 50]
    assert pixel(where, 1) == [round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)]
    png(where, (200, 100, 50, 128), mode="RGBA")
    assert pixel(where, 3) == [round((c * 128 + 255 * 127) / 255) for c in (200, 100, 50)]
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


def loaded(path: Path, **how: Any) -> Tensor:
    """The first image of a folder."""
    return open_data(str(path), **how).train.fetch(torch.tensor([0]))[0]


@pytest.mark.parametrize(
    ("mode", "clear"), [("RGBA", (9, 9, 9, 0)), ("LA", (9, 0)), ("P", 0), ("L", 9), ("RGB", (9, 9, 9))]
)
def test_transparent_pixels_show_the_background(tmp_path: Path, mode: str, clear: Any) -> None:
    image = Image.new(mode, (4, 4), clear)
    if mode == "P":
        image.putpalette([9, 9, 9])
    if mode in ("P", "L", "RGB"):
        image.info["transparency"] = clear
    image.save(tmp_path / "x.png")
    assert loaded(tmp_path)[:, 0, 0].unique().tolist() == [255]
    assert loaded(tmp_path, background="black")[:, 0, 0].unique().tolist() == [0]
    if mode == "RGBA":
        assert loaded(tmp_path, background="#010203")[:, 0, 0].tolist() == [1, 2, 3]
    with pytest.raises(UserError, match="--background: 'blakc' is no colour"):
        open_data(str(tmp_path), background="blakc")


def deep(folder: Path, *arrays: Any, suffix: str = "tif") -> None:
    for k, array in enumerate(arrays):
        Image.fromarray(np.asarray(array)).save(folder / f"{k}.{suffix}")


@pytest.mark.parametrize(
    ("dtype", "high", "suffix"), [(np.uint16, 4095, "tif"), (np.int32, 255, "tif"), (np.uint16, 255, "png")]
)
def test_dark_images_of_many_bits(tmp_path: Path, dtype: Any, high: int, suffix: str) -> None:
    ramp = np.linspace(0, high, 64).round().astype(dtype).reshape(8, 8)
    deep(tmp_path, ramp, ramp // 2, suffix=suffix)
    data = open_data(str(tmp_path))
    assert f"lie from 0 to {high:,}, where white is 65,535" in data.notices[0] and "--stretch" in data.notices[0]
    assert loaded(tmp_path).max() < 20
    expected = (ramp.astype(np.float64) / high * 255).round()
    assert np.array_equal(loaded(tmp_path, stretch=True)[0].numpy(), expected)
    (second,) = open_data(str(tmp_path), stretch=True).train.fetch(torch.tensor([1]))
    assert 120 < second.max() < 130, "by the range of all, not of each"


def test_pixels_outside_the_range_of_their_type(tmp_path: Path) -> None:
    deep(tmp_path, np.linspace(-1000, 3000, 64).astype(np.int32).reshape(8, 8))
    assert "outside 0 to 65,535 is lost" in open_data(str(tmp_path)).notices[0]
    assert loaded(tmp_path, stretch=True)[0, [0, 7], [0, 7]].tolist() == [0, 255]
    deep(tmp_path, np.linspace(-2, 6, 64).astype(np.float32).reshape(8, 8))
    assert "outside 0 to 1 is lost" in open_data(str(tmp_path)).notices[0]
    assert loaded(tmp_path, stretch=True)[0, [0, 7], [0, 7]].tolist() == [0, 255]
    deep(tmp_path, np.linspace(0, 60000, 64).astype(np.uint16).reshape(8, 8))
    assert open_data(str(tmp_path)).notices == ()


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_an_image_that_is_not_finite_stretches_no_other(tmp_path: Path, odd: float) -> None:
    good = np.linspace(0, 5, 64, dtype=np.float32).reshape(8, 8)
    bad = good.copy()
    bad[3, 3] = odd
    deep(tmp_path, bad, good)
    source = open_data(str(tmp_path), stretch=True).train
    assert source.take_readable(torch.arange(2))[0][0][0, [0, 7], [0, 7]].tolist() == [0, 255]
    assert source.unreadable[0] == ("0.tif", "some pixels are not finite")


def test_a_stretch_of_8_bits_is_told(tmp_path: Path) -> None:
    png(tmp_path / "x.png")
    assert "no image of more than 8 bits" in open_data(str(tmp_path), stretch=True).notices[0]
    assert loaded(tmp_path, stretch=True)[:, 0, 0].tolist() == [10, 20, 30]


def test_a_page_is_no_image_whatever_its_ending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    png(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *args, **how: pytest.fail("it is run"))
    source = open_data(str(tmp_path)).train
    with pytest.raises(UnreadableError, match="cannot identify image file"):
        source.fetch(torch.tensor([1]))


def test_the_test_part_is_stretched_as_the_training_part(tmp_path: Path) -> None:
    for part, value in (("train", 1000), ("test", 500)):
        (tmp_path / part).mkdir()
        deep(tmp_path / part, np.linspace(0, value, 64).astype(np.uint16).reshape(8, 8))
    data = open_data(str(tmp_path), stretch=True)
    assert data.test is not None and 126 <= int(data.test.fetch(torch.tensor([0]))[0].max()) <= 129


def test_colour_is_found_wherever_it_lies(tmp_path: Path) -> None:
    """Every third file, for one, where each third file, or each sixth, was looked at."""
    for k in range(600):
        if k % 18 == 1:
            png(tmp_path / f"{k:03}.png", (200, 0, 0), (3, 3))
        else:
            png(tmp_path / f"{k:03}.png", 200, (3, 3), "L")
    assert open_data(str(tmp_path)).train.channels == 3


def test_a_colour_file_met_later_is_told_once(tmp_path: Path) -> None:
    for k in range(3):
        png(tmp_path / f"{k}.png", k, mode="L")
    source = open_data(str(tmp_path)).train
    for k in range(3):
        png(tmp_path / f"{k}.png")
    with pytest.warns(UserWarning, match="^images of .* are taken for gray, but .*0.png has colour") as told:
        source.fetch(torch.arange(3))
        source.subset(torch.tensor([1])).fetch(torch.tensor([0]))
    assert len(told) == 1


@pytest.mark.parametrize("size", [(60000, 1), (1, 60000), (12000, 2)])
def test_the_middle_of_a_strip(tmp_path: Path, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0]), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    image = loaded(tmp_path)[0].numpy()
    short = min(size)
    assert sorted(image.shape) == [short, 64 * short]
    across = np.moveaxis(pixels, np.argmax(pixels.shape), 0)
    start = (max(size) - 64 * short) // 2
    assert np.array_equal(np.moveaxis(image, np.argmax(image.shape), 0), across[start : start + 64 * short])
    (batch,) = plain_batches(open_data(str(tmp_path)).train, size=224)
    assert batch.views[0].shape == (1, 1, 224, 224)


def test_a_strip_up_to_64_times_as_long_is_whole(tmp_path: Path) -> None:
    png(tmp_path / "x.png", size=(640, 10))
    assert loaded(tmp_path).shape == (3, 10, 640)


def test_png_with_much_text(tmp_path: Path) -> None:
    text = PngInfo()
    text.add_text("workflow", "x" * 2_000_000, zip=True)
    Image.new("L", (5, 4), 7).save(tmp_path / "x.png", pnginfo=text)
    limits = Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK
    assert loaded(tmp_path).unique().tolist() == [7]
    assert limits == (Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK), "Pillow's own limits are as they were"


def test_an_image_may_be_as_large_as_memory_permits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """180 million pixels, of one bit each."""
    Image.new("1", (18_000, 10_000)).save(tmp_path / "x.png")
    with open(tmp_path / "x.png", "ab") as file:
        file.write(bytes(20_000))  # as a photograph, not as a bomb
    with opened(tmp_path / "x.png") as image:
        assert image.size == (18_000, 10_000)
    monkeypatch.setattr(pixels, "available_memory", lambda: 10**9)
    like = ArraySource("x", torch.zeros(1, 1, 1, 1, dtype=torch.uint8))
    source = FileSource("x", ["x.png"], root=tmp_path, like=like)
    with pytest.raises(UserError, match="180,000,000 pixels, which take 2 GB .*, of which 1 GB are free"):
        source.take(torch.tensor([0]))


def test_want_of_memory_is_no_damaged_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    png(tmp_path / "x.png")
    source = open_data(str(tmp_path)).train

    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image.Image, "convert", full)
    with pytest.raises(MemoryError):
        source.take(torch.tensor([0]))
    assert source.unreadable == {}
    monkeypatch.setattr("contrastkit.data.encoded.opened", full)
    with pytest.raises(MemoryError):  # nor is it a folder without readable images
        open_data(str(tmp_path))
