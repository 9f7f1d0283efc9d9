"""Arrays of images in .npz files, valid and invalid."""

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from contrastkit.cli.main import main
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
        ((5, 9, 9, 64), (5, 64, 9, 9)),
        ((5, 64, 9, 9), (5, 64, 9, 9)),
    ],
)
def test_npz_shapes(tmp_path, shape, expected):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.savez(tmp_path / "x.npz", images=pixels, labels=np.arange(5))
    source = open_data(str(tmp_path / "x.npz")).train
    assert images_of(source).shape == expected
    want = (
        pixels
        if pixels.ndim == 4 and shape[1] == expected[1]
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
        ({"images": np.zeros((4, 9, 64, 9), np.uint8)}, "--layout NHWC or NCHW"),
        ({"images": np.zeros((4, 64, 48, 200), np.uint8)}, "cannot tell channels from height"),
        ({"images": IMAGES.astype(np.complex64)}, "must be uint8.*complex64"),
        ({"images": IMAGES.astype([("r", "u1"), ("g", "u1")])}, "must be uint8"),
        ({"images": IMAGES, "labels": np.arange(4) * 1j}, "labels must be integers or text, not complex"),
        ({"images": IMAGES, "labels": np.zeros(4, [("a", "i4"), ("b", "i4")])}, "labels must be integers or text"),
        (
            {"images": IMAGES, "labels": np.arange(4), "test_images": IMAGES, "test_labels": np.array(list("abcd"))},
            "both be integers, or both text",
        ),
        ({"images": IMAGES.astype(np.int64)}, "must be uint8.*int64"),
        ({"images": IMAGES + 7.5}, r"must lie in \[0, 1\]"),
        ({"images": np.full((4, 8, 8), np.nan)}, r"must lie in \[0, 1\]"),
        ({"images": IMAGES, "labels": np.arange(3)}, "one integer >= 0 for each of the 4"),
        ({"images": IMAGES, "labels": np.arange(4) - 2}, "one integer >= 0"),
        ({"images": IMAGES, "labels": np.arange(4) / 2}, "labels must be integers or text, not float64"),
        ({"images": IMAGES, "test_images": np.zeros((4, 9, 9), np.uint8)}, "test_images are"),
        ({"images": np.array([None, 1], dtype=object)}, "cannot be read"),
        ({"images": IMAGES, "test_labels": np.arange(4)}, "has test_labels, but no test_images"),
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
    with pytest.raises(UserError, match="x.npz") as caught:
        open_data(str(path))
    assert "unsafe" not in str(caught.value), "numpy's advice"


def test_arrays_of_other_names_are_told(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=IMAGES, y=np.arange(4), train_labels=np.arange(4))
    data = open_data(str(tmp_path / "x.npz"))
    assert data.train.labels is None and data.notices[0].endswith(
        "x.npz: arrays of other names are not used: y, train_labels"
    )


def test_labels_may_be_bytes_or_truth_values(tmp_path: Path) -> None:
    """Bytes as h5py has them, beside text of numpy's own."""
    parts: dict[str, Any] = {"images": IMAGES, "test_images": IMAGES[:2]}
    labels = np.array([b"b", b"\xff", b"a", b"\xfe"])
    np.savez(tmp_path / "x.npz", **parts, labels=labels, test_labels=np.array(["a", "b"]))
    data = open_data(str(tmp_path / "x.npz"))
    assert data.test is not None and data.train.labels is not None and data.test.labels is not None
    assert data.train.classes == (r"\xfe", r"\xff", "a", "b")
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == ([3, 1, 2, 0], [2, 3])
    np.savez(tmp_path / "x.npz", **parts, labels=np.array([True, False, True, True]), test_labels=np.array([1, 0]))
    data = open_data(str(tmp_path / "x.npz"))
    assert data.train.label(torch.arange(4)).tolist() == [1, 0, 1, 1] and data.train.classes is None


def test_the_layout_can_be_said(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 4), dtype=np.uint8)
    path = str(tmp_path / "x.npz")
    np.savez(path, images=pixels)
    assert np.array_equal(images_of(open_data(path, layout="NCHW").train).numpy(), pixels)
    assert np.array_equal(images_of(open_data(path, layout="NHWC").train).numpy(), pixels.transpose(0, 3, 1, 2))
    for wrong in ("HWC", "nchw"):
        with pytest.raises(UserError, match="must be NHWC or NCHW"):
            open_data(path, layout=wrong)
    with pytest.raises(UserError, match="--layout is for the arrays of an .npz file"):
        open_data("digits", layout="NCHW")


@pytest.mark.parametrize(
    ("labels", "expected", "classes"),
    [
        ([20231201, 20231130, 20231201, 20240101], [1, 0, 1, 2], ("20231130", "20231201", "20240101")),
        ([5, 19, 12, 5], [0, 2, 1, 0], ("5", "12", "19")),
        ([2**62, -1, 0, 2**62], [1, -1, 0, 1], ("0", str(2**62))),
        ([1, 2, 3, -1], [0, 1, 2, -1], ("1", "2", "3")),
        ([0, 2, 1, -1], [0, 2, 1, -1], None),
    ],
)
def test_labels_are_numbered_and_keep_their_names(tmp_path, labels, expected, classes):
    np.savez(tmp_path / "x.npz", images=IMAGES, labels=np.array(labels))
    source = open_data(str(tmp_path / "x.npz")).train
    assert source.labels.tolist() == expected and source.labels.dtype == torch.int64
    assert source.classes == classes


def test_both_parts_have_the_same_numbers(tmp_path):
    labels, test_labels = np.array([5, 12, 5, 12]), np.array([19, 12, 5, 5], np.uint64)
    np.savez(tmp_path / "x.npz", images=IMAGES, labels=labels, test_images=IMAGES, test_labels=test_labels)
    data = open_data(str(tmp_path / "x.npz"))
    assert data.train.labels.tolist() == [0, 1, 0, 1] and data.test.labels.tolist() == [2, 1, 0, 0]
    assert data.train.classes == data.test.classes == ("5", "12", "19")


def test_numbers_from_0_keep_their_fingerprint(tmp_path):
    """That of a run trained before other labels were numbered: a hash of the shape, the images and the labels."""
    labels = np.array([0, 1, 2, 1], np.int64)
    np.savez(tmp_path / "x.npz", images=IMAGES, labels=labels.astype(np.int32))
    expected = hashlib.sha256(b"(4, 1, 8, 8)" + IMAGES.tobytes() + labels.tobytes()).hexdigest()[:16]
    assert open_data(str(tmp_path / "x.npz")).train.fingerprint() == expected


def header(shape, dtype=np.uint8):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape})
    return file.getvalue()


def test_arrays_that_do_not_fit_in_memory_are_not_read(tmp_path, capsys):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", header((10**9, 1000, 1000, 3)) + bytes(100))
    assert main(["knn", "--encoder=pixels", f"--data={path}"]) == 2
    error = capsys.readouterr().err
    assert "images take 3,000,000.0 GB of memory" in error and error.count("\n") == 1


def test_only_the_arrays_that_are_needed_are_read(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, images=IMAGES)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("features.npy", header((10**9, 1000, 1000, 3)))
        archive.writestr("damaged.npy", b"no array")
    assert len(open_data(str(path)).train) == 4


def test_damaged_compression_is_one_line(tmp_path, capsys):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, images=np.random.default_rng(0).integers(0, 9, (90, 8, 8), dtype=np.uint8))
    raw = bytearray(path.read_bytes())
    raw[300:400] = bytes(100)
    path.write_bytes(raw)
    assert main(["knn", "--encoder=pixels", f"--data={path}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_environment_of_each_image_is_kept(tmp_path: Path) -> None:
    images, labels = np.zeros((6, 4, 4), np.uint8), np.arange(6) % 2
    environment = np.array([0.1, 0.1, 0.1, 0.2, 0.2, 0.2])
    arrays: dict[str, Any] = {"images": images, "labels": labels, "environment": environment}
    arrays["test_images"] = images[:2]
    np.savez(tmp_path / "some.npz", **arrays, test_environment=np.array([0.9, 0.9]))
    data = open_data(str(tmp_path / "some.npz"))
    assert data.test is not None and data.test.environment is not None and data.test.environment.tolist() == [0.9, 0.9]
    part = data.train.subset(torch.tensor([5, 0]))
    assert part.environment is not None and part.environment.tolist() == [0.2, 0.1]
    np.savez(tmp_path / "wrong.npz", **{**arrays, "environment": environment[:5]})
    with pytest.raises(UserError, match="environment must have one value for each of the 6 images"):
        open_data(str(tmp_path / "wrong.npz"))
    np.savez(tmp_path / "nan.npz", **{**arrays, "environment": np.where(environment > 0.1, np.nan, environment)})
    with pytest.raises(UserError, match="environment is NaN for 3 of the 6 images: name it, or leave them out"):
        open_data(str(tmp_path / "nan.npz"))
