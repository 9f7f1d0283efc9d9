"""Arrays of images in .npz files, valid and invalid."""

import zipfile

import numpy as np
import pytest

from contrastkit.data import open_data
from contrastkit.errors import UserError
from tests.data.pictures import images_of


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((5, 7, 9), (5, 1, 7, 9)),
        ((5, 7, 9, 3), (5, 3, 7, 9)),
        ((5, 3, 7, 9), (5, 3, 7, 9)),
        ((5, 6, 8, 5), (5, 5, 6, 8)),
    ],
)
def test_npz_shapes(tmp_path, shape, expected):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.savez(tmp_path / "x.npz", images=pixels, labels=np.arange(5))
    source = open_data(str(tmp_path / "x.npz")).train
    assert images_of(source).shape == expected
    want = (
        pixels
        if pixels.ndim == 4 and shape[1] < shape[3]
        else pixels.reshape(5, shape[1], shape[2], -1).transpose(0, 3, 1, 2)
    )
    assert np.array_equal(images_of(source).numpy(), want)
    assert source.labels.tolist() == list(range(5))


def test_npz_floats_text_labels_and_test_part(tmp_path):
    pixels = np.linspace(0, 1, 4 * 8 * 8, dtype=np.float32).reshape(4, 8, 8)
    np.savez(
        tmp_path / "x.npz",
        images=pixels,
        labels=np.array(["dog", "ant", "dog", "cow"]),
        test_images=pixels[:2],
        test_labels=np.array(["cow", "ant"]),
    )
    data = open_data(str(tmp_path / "x.npz"))
    assert images_of(data.train).flatten()[[0, -1]].tolist() == [0, 255]
    assert data.train.classes == ("ant", "cow", "dog")
    assert data.train.labels.tolist() == [2, 0, 2, 1]
    assert data.test.labels.tolist() == [1, 0]
    np.savez_compressed(tmp_path / "bare.npz", images=pixels)
    assert open_data(str(tmp_path / "bare.npz")).train.labels is None


IMAGES = np.zeros((4, 8, 8), np.uint8)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"pictures": IMAGES}, "no array called 'images' .*pictures"),
        ({"images": np.zeros((4, 8), np.uint8)}, r"images must be .*not \(4, 8\)"),
        ({"images": np.zeros((0, 8, 8), np.uint8)}, r"not \(0, 8, 8\)"),
        ({"images": np.zeros((4, 8, 8, 8), np.uint8)}, "cannot tell channels from height"),
        ({"images": IMAGES.astype(np.int64)}, "must be uint8.*int64"),
        ({"images": IMAGES + 7.5}, r"must lie in \[0, 1\]"),
        ({"images": np.full((4, 8, 8), np.nan)}, r"must lie in \[0, 1\]"),
        ({"images": IMAGES, "labels": np.arange(3)}, "one integer >= 0 for each of the 4"),
        ({"images": IMAGES, "labels": np.arange(4) - 2}, "one integer >= 0"),
        ({"images": IMAGES, "labels": np.arange(4) / 2}, "labels must be integers or text, not float64"),
        ({"images": IMAGES, "test_images": np.zeros((4, 9, 9), np.uint8)}, "test_images are"),
        ({"images": np.array([None, 1], dtype=object)}, "cannot be read"),
    ],
)
def test_npz_that_is_wrong(tmp_path, arrays, says):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(UserError, match=says):
        open_data(str(tmp_path / "x.npz"))


@pytest.mark.parametrize("damage", ["cut", "flip", "text", "empty", "member", "npy"])
def test_npz_that_is_damaged(tmp_path, damage):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, images=np.random.default_rng(0).integers(0, 256, (9, 8, 8), dtype=np.uint8))
    raw = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(raw[: len(raw) // 2])
    elif damage == "flip":
        raw[200:260] = bytes(60)
        path.write_bytes(raw)
    elif damage == "text":
        path.write_text("hello")
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "npy":
        with open(path, "wb") as file:
            np.save(file, np.zeros((9, 8, 8), np.uint8))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("images.npy", b"no array")
    with pytest.raises(UserError, match="x.npz"):
        open_data(str(path))
