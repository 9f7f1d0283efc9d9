"""JPEGs by simplejpeg are bit for bit what they are by Pillow; what Pillow refuses is refused in its words."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

from contrastkit.data import ArraySource, FileSource, UnreadableError

DATA = Path(os.environ.get("CONTRASTKIT_DATA", "nowhere"))
pytestmark = pytest.mark.filterwarnings("ignore:images of x are taken for gray")


def ours(path: Path, channels: int) -> NDArray[np.uint8] | str:
    """The image of a file as its source returns it, [H, W, channels], or why it cannot be read."""
    like = ArraySource("x", torch.zeros(1, channels, 1, 1, dtype=torch.uint8))
    try:
        (image,) = FileSource("x", [path.name], root=path.parent, like=like).fetch(torch.tensor([0]))
    except UnreadableError as error:
        return error.reason
    assert image.untyped_storage().nbytes() == image.numel(), "it holds its own pixels, and no others"
    return image.permute(1, 2, 0).numpy()


def by_pillow(path: Path, channels: int) -> NDArray[np.uint8] | str:
    """The same by Pillow alone; of strips the middle, 64 times as long as wide."""
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert("L" if channels == 1 else "RGB")
    except Exception as error:
        return str(error).replace(str(path), "the file")
    most = 64 * min(upright.size)
    left, top = (max(0, (side - most) // 2) for side in upright.size)
    upright = upright.crop((left, top, min(upright.width, left + most), min(upright.height, top + most)))
    return np.asarray(upright).reshape(upright.height, upright.width, channels)


def check(path: Path) -> NDArray[np.uint8] | str:
    """Compare the two in sets of one channel and of three; returns the latter."""
    for channels in (1, 3):
        expected = by_pillow(path, channels)
        assert np.array_equal(ours(path, channels), expected), (path.name, channels)
    return expected


def picture(rng: np.random.Generator, height: int, width: int, channels: int) -> Image.Image:
    """Smooth shapes under some noise."""
    coarse = rng.integers(0, 256, (height // 16 + 2, width // 16 + 2, 3), np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    pixels = (smooth + rng.integers(-20, 21, smooth.shape)).clip(0, 255).astype(np.uint8)
    return Image.fromarray(pixels if channels == 3 else pixels[:, :, 0])


def random_jpeg(rng: np.random.Generator) -> bytes:
    """Of random size, quality and options."""
    height, width = rng.choice([1, 2, 7, 8, 9, 15, 16, 17, 33, int(rng.integers(34, 120))], 2)
    options: dict[str, Any] = {"quality": int(rng.integers(1, 101)), "progressive": rng.random() < 0.4}
    if rng.random() < 0.3:
        options["restart_marker_blocks"] = int(rng.integers(1, 9))
    image = picture(rng, height, width, channels := int(rng.choice([1, 3, 3, 3])))
    if channels == 3:
        kind = int(rng.integers(4))  # 4:4:4, 4:2:2, 4:2:0; no YCbCr
        options |= {"subsampling": kind} if kind < 3 else {"keep_rgb": True}
    image.save(file := io.BytesIO(), "JPEG", **options)
    return file.getvalue()


def test_random_jpegs(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        (tmp_path / "x.jpg").write_bytes(random_jpeg(rng))
        assert not isinstance(check(tmp_path / "x.jpg"), str)


@pytest.mark.parametrize("subsampling", ["444", "422", "420", "440", "411"])
def test_subsampling(tmp_path: Path, subsampling: str) -> None:
    rng = np.random.default_rng(1)
    for height, width in [(1, 1), (1, 50), (50, 1), (17, 33), (64, 48)]:
        pixels = np.asarray(picture(rng, height, width, 3))
        (tmp_path / "x.jpg").write_bytes(simplejpeg.encode_jpeg(pixels, 80, "RGB", subsampling))
        assert not isinstance(check(tmp_path / "x.jpg"), str)


def test_pillow_decodes_no_sound_jpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no pixels are copied, if the picture is not turned."""
    made: list[int] = []
    decode = simplejpeg.decode_jpeg

    def noted(*how: Any) -> NDArray[np.uint8]:
        pixels = decode(*how)
        made.append(pixels.ctypes.data)
        return pixels

    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda *_: pytest.fail("Pillow decodes it"))
    monkeypatch.setattr(simplejpeg, "decode_jpeg", noted)
    for orientation, shape in ((1, (20, 30, 3)), (6, (30, 20, 3))):
        picture(np.random.default_rng(2), 20, 30, 3).save(tmp_path / "x.jpg", exif=oriented(orientation))
        assert (pixels := ours(tmp_path / "x.jpg", 3)).shape == shape
        assert (pixels.ctypes.data == made[-1]) == (orientation == 1)


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("orientation", range(11))
@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_orientation(tmp_path: Path, orientation: int, ending: str) -> None:
    image = picture(np.random.default_rng(3), 20, 30, 3)
    image.save(path := tmp_path / f"x.{ending}", exif=oriented(orientation))
    assert check(path).shape == ((30, 20, 3) if 5 <= orientation <= 8 else (20, 30, 3))


@pytest.mark.parametrize("size", [(5000, 3), (3, 5000)])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_the_middle_of_a_turned_strip(tmp_path: Path, size: tuple[int, int], orientation: int) -> None:
    picture(np.random.default_rng(4), *size, 3).save(path := tmp_path / "x.jpg", exif=oriented(orientation))
    assert sorted(check(path).shape) == [3, 3, 64 * 3]


@pytest.mark.filterwarnings("ignore:Truncated File Read")
def test_damaged_jpegs(tmp_path: Path) -> None:
    """Cut off, with bytes changed, or followed by anything: readable to Pillow or not."""
    rng = np.random.default_rng(5)
    outcomes = set()
    for k in range(300):
        data = bytearray(random_jpeg(rng))
        if k % 3 == 0:
            data = data[: rng.integers(2, len(data))]
        elif k % 3 == 1:
            for at in rng.integers(2, len(data), rng.integers(1, 4)):
                data[at] = rng.integers(256)
        else:
            data += rng.bytes(int(rng.integers(1, 5000)))
        (tmp_path / "x.jpg").write_bytes(data)
        result = check(tmp_path / "x.jpg")
        outcomes.add((k % 3, result.split(" (")[0] if isinstance(result, str) else "read"))
    assert {(0, "image file is truncated"), (1, "read"), (2, "read")} <= outcomes
    assert {what for kind, what in outcomes if kind == 2} == {"read"}


def test_a_scan_that_ends_early_is_no_gray_picture(tmp_path: Path) -> None:
    picture(np.random.default_rng(6), 64, 64, 3).save(path := tmp_path / "x.jpg")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert check(path).startswith("image file is truncated")
    with pytest.raises(ValueError, match="Premature end"):
        simplejpeg.decode_jpeg(path.read_bytes())


def test_a_jpeg_that_claims_to_be_huge_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(np.random.default_rng(7), 8, 8, 3).save(path := tmp_path / "x.jpg")
    data = path.read_bytes()
    path.write_bytes(data.replace(bytes([0, 8, 0, 8, 3]), bytes([0xFF, 0, 0xFF, 0, 3])))  # height and width
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *_: pytest.fail("it is decoded"))
    assert ours(path, 3).startswith("it claims 4,261,478,400 pixels, in a file of ")


def test_other_kinds_of_jpeg(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    one, two = (picture(rng, 24, 40, 3) for _ in range(2))
    one.save(tmp_path / "two.mpo", save_all=True, append_images=[two])
    one.convert("CMYK").save(tmp_path / "cmyk.jpg")
    one.save(tmp_path / "a.png", "JPEG")
    for name in ("two.mpo", "cmyk.jpg", "a.png"):
        assert check(tmp_path / name).shape == (24, 40, 3)


@pytest.mark.parametrize(
    ("pattern", "every"),
    [
        ("imagenette224/*/*/*", 10),
        pytest.param("imagenette224/*/*/*", 1, marks=pytest.mark.slow),
        ("odd_images/*/*.jp*g", 1),
    ],
)
def test_real_jpegs(pattern: str, every: int) -> None:
    files = sorted(DATA.glob(pattern))[::every]
    if not files:
        pytest.skip(f"$CONTRASTKIT_DATA has no {pattern.split('/')[0]}")
    for path in files:
        check(path)
