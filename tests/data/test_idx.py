"""MNIST's files."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from contrastkit.data import open_data
from contrastkit.errors import UserError
from tests.data.pictures import images_of


def idx(path: Path, array: np.ndarray) -> None:
    """LeCun's format: two zeros, type 8 (bytes), number of dimensions, their sizes big-endian, the bytes."""
    raw = bytes([0, 0, 8, array.ndim]) + b"".join(int(s).to_bytes(4, "big") for s in array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)


def test_other_labels_are_numbered_and_no_test_part_can_be_chosen(tmp_path: Path) -> None:
    for part, labels in (("train", [3, 9, 3]), ("t10k", [9, 5])):
        idx(tmp_path / f"{part}-images-idx3-ubyte", np.zeros((len(labels), 4, 4), np.uint8))
        idx(tmp_path / f"{part}-labels-idx1-ubyte", np.array(labels, np.uint8))
    data = open_data(str(tmp_path))
    assert data.test is not None and data.train.classes == data.test.classes == ("3", "5", "9")
    assert [part.label(torch.arange(len(part))).tolist() for part in (data.train, data.test)] == [[0, 2, 0], [2, 1]]
    with pytest.raises(UserError, match="--test-part and --hold-out choose among folders beside train/"):
        open_data(str(tmp_path), test_part="val")


@pytest.mark.parametrize("end", ["", ".gz"])
def test_idx_files_of_mnists_kind(tmp_path, end):
    generator = np.random.default_rng(0)
    arrays = {"train": (30, 28, 28), "t10k": (8, 28, 28)}
    images = {part: generator.integers(0, 256, shape, dtype=np.uint8) for part, shape in arrays.items()}
    folder = tmp_path / "fashion-mnist"
    folder.mkdir()
    for part, array in images.items():
        idx(folder / f"{part}-images-idx3-ubyte{end}", array)
        idx(folder / f"{part}-labels-idx1-ubyte{end}", np.arange(len(array), dtype=np.uint8) % 10)
    for data in (open_data(str(folder)), open_data("fashion-mnist", data_dir=tmp_path)):
        assert torch.equal(images_of(data.train)[:, 0], torch.from_numpy(images["train"]))
        assert torch.equal(images_of(data.test)[:, 0], torch.from_numpy(images["t10k"]))
        assert data.train.labels[:3].tolist() == [0, 1, 2]
        assert not data.train.orientation_matters
    for base in (tmp_path, folder):  # the files of one set must not be taken for another's
        with pytest.raises(UserError, match="mnist is not in"):
            open_data("mnist", data_dir=base)
    good = (folder / f"train-images-idx3-ubyte{end}").read_bytes()
    for head in ([0, 0, 8, 3, *[255] * 12], [0, 0, 8, 255], [0, 0, 8, 3, *[0] * 12], [0, 0, 8], [0, 0, 13, 3], []):
        raw = bytes(head)
        (folder / f"train-images-idx3-ubyte{end}").write_bytes(gzip.compress(raw) if end else raw)
        with pytest.raises(UserError, match="train-images-idx3-ubyte.* cannot be read"):
            open_data(str(folder))
    (folder / f"train-images-idx3-ubyte{end}").write_bytes(good)
    broken = folder / f"train-images-idx3-ubyte{end}"
    broken.write_bytes(broken.read_bytes()[:-100])
    with pytest.raises(UserError, match="train-images-idx3-ubyte"):
        open_data(str(folder))
