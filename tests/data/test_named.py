"""Data sets that torchvision provides by name, from their original files."""

import pickle

import numpy as np
import pytest
import torch

from contrastkit.data import data_names, open_data
from contrastkit.errors import UserError
from tests.data.pictures import images_of, png


def test_cifar10_from_its_own_files(tmp_path):
    """torchvision's loader on a small set in CIFAR's format, without checksums."""
    import torchvision

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (6, 20, 3072), dtype=np.uint8)
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    for name, part in zip(names, pixels, strict=True):
        (folder / name).write_bytes(pickle.dumps({"data": part, "labels": [k % 10 for k in range(20)]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torchvision.datasets.CIFAR10, "_check_integrity", lambda self: True)
        patch.setattr("torchvision.datasets.cifar.check_integrity", lambda *a: True)
        data = open_data("cifar10", data_dir=tmp_path)
    assert (len(data.train), len(data.test), data.train.channels, data.train.size) == (100, 20, 3, 32)
    assert data.train.classes == tuple("abcdefghij")
    assert torch.equal(images_of(data.train), torch.from_numpy(pixels[:5].reshape(100, 3, 32, 32)))
    assert data.train.labels[:3].tolist() == [0, 1, 2]


def test_a_torchvision_set_of_files(tmp_path, monkeypatch):
    for part in ("train", "val"):
        for k, wnid in enumerate(("n01440764", "n02102040")):
            png(tmp_path / "imagenette2-160" / part / wnid / "a.JPEG", (k * 100, 0, 0))
    data = open_data("imagenette", data_dir=tmp_path)
    assert (len(data.train), len(data.test)) == (2, 2)
    assert sorted(data.train.labels.tolist()) == [0, 1]
    assert data.train.fetch(torch.tensor([0]))[0].shape == (3, 9, 12)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("CONTRASTKIT_DATA", str(tmp_path / "elsewhere"))
    assert len(open_data("imagenette", recorded_dir=tmp_path).train) == 2
    monkeypatch.setenv("CONTRASTKIT_DATA", str(tmp_path))
    assert len(open_data("imagenette").train) == 2


def test_stl10_pretrains_on_the_unlabelled_too(tmp_path):
    import torchvision

    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    generator = np.random.default_rng(0)
    size = {"train": 10, "test": 4, "unlabeled": 7}
    pixels = {part: generator.integers(0, 256, (n, 3, 96, 96), dtype=np.uint8) for part, n in size.items()}
    for part, array in pixels.items():
        (folder / f"{part}_X.bin").write_bytes(array.tobytes())
        if part != "unlabeled":
            (folder / f"{part}_y.bin").write_bytes(bytes(k % 10 + 1 for k in range(len(array))))
    (folder / "class_names.txt").write_text("\n".join("abcdefghij"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torchvision.datasets.STL10, "_check_integrity", lambda self: True)
        data = open_data("stl10", data_dir=tmp_path)
        held_out = open_data("stl10", data_dir=tmp_path, val_fraction=0.3)
    assert (len(data.train), len(data.test), len(data.pretrain)) == (10, 4, 17)
    assert data.pretrain.labels[10:].tolist() == [-1] * 7
    assert torch.equal(images_of(data.train)[0].mT, torch.from_numpy(pixels["train"][0]))  # stored column-major
    assert (len(held_out.train), len(held_out.test), len(held_out.pretrain)) == (7, 3, 14)
    seen = {image.numpy().tobytes() for image in images_of(held_out.pretrain)}
    assert not any(image.numpy().tobytes() in seen for image in images_of(held_out.test))


def test_every_name_has_a_torchvision_class():
    import torchvision

    from contrastkit.data.names import TORCHVISION

    assert all(hasattr(torchvision.datasets, row.dataset) for row in TORCHVISION.values())
    assert {"digits", "affdigits", "mnist", "fashion-mnist", "kmnist", "cifar10", "cifar100", "svhn", "stl10"} < set(
        data_names()
    )


@pytest.mark.parametrize(
    "name", ["cifar10", "mnist", "svhn", "stl10", "imagenet", "imagenette", "food101", "pets", "dtd"]
)
def test_a_named_set_that_is_not_there(name, tmp_path):
    with pytest.raises(UserError, match=f"{name} is not in .*--data-dir, or (add --download|see torchvision)"):
        open_data(name, data_dir=tmp_path)
    assert not any(tmp_path.iterdir())
    with pytest.raises(UserError, match="--data-dir .*CONTRASTKIT_DATA"):
        open_data(name)
