"""What --data takes: names, folders, arrays; and what is said when it is wrong."""

import gzip
import pickle
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import wavfile

from contrastkit.data import data_names, open_data, plain_batches
from contrastkit.errors import UserError


def png(
    path: Path, colour: tuple[int, ...] | int = (10, 20, 30), size: tuple[int, int] = (12, 9), mode: str = "RGB"
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


def idx(path: Path, array: np.ndarray) -> None:
    """LeCun's format: two zeros, type 8 (bytes), number of dimensions, their sizes big-endian, the bytes."""
    raw = bytes([0, 0, 8, array.ndim]) + b"".join(int(s).to_bytes(4, "big") for s in array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)


# --------------------------------------------------------------------------------------------------------------- names


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    data = open_data("digits")
    assert (len(data.train), len(data.test)) == (1437, 360)
    assert data.pretrain is data.train
    assert (data.train.channels, data.train.size, data.train.digits) == (1, 8, True)
    both = torch.cat([data.train.images, data.test.images]).flatten(1).double() * 16 / 255
    labels = torch.cat([data.train.labels, data.test.labels])
    got = sorted((tuple(image), label) for image, label in zip(both.round().tolist(), labels.tolist(), strict=True))
    bunch = load_digits()
    assert got == sorted(
        (tuple(image), label) for image, label in zip(bunch.data.tolist(), bunch.target.tolist(), strict=True)
    )


def test_affdigits():
    data, plain = open_data("affdigits"), open_data("digits")
    train, test = data.train, data.test
    assert train.images.shape == (8622, 1, 32, 32)
    assert test.images.shape == (2160, 1, 32, 32)
    assert train.digits
    assert torch.equal(train.labels.view(6, -1), plain.train.labels.expand(6, -1))
    assert torch.equal(test.labels.view(6, -1), plain.test.labels.expand(6, -1))
    # Poses differ, and no digit is cut: ink keeps its amount, which grows with the square of the magnification only.
    assert train.images.unique(dim=0).shape[0] == len(train)
    ink = train.images.double().sum((1, 2, 3)) / plain.train.images.double().sum((1, 2, 3)).repeat(6)
    assert ink.min() > 2.5**2 * 0.8**2 * 0.9
    assert ink.max() < 2.5**2 * 1.2**2 * 1.1
    assert abs(ink.mean() - 2.5**2) < 0.4  # bicubic overshoot below black is clipped: a little more ink
    # Shifted all over the canvas.
    weight = train.images.double()[:, 0]
    centre = (weight.sum(1) @ torch.arange(32.0, dtype=torch.float64)) / weight.sum((1, 2))
    assert centre.min() < 12
    assert centre.max() > 20
    assert open_data("affdigits").train.fingerprint() == train.fingerprint()


def test_cifar10_from_its_own_files(tmp_path):
    """torchvision's loader on a small set in CIFAR's format, checksums aside."""
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
    assert torch.equal(data.train.images, torch.from_numpy(pixels[:5].reshape(100, 3, 32, 32)))
    assert data.train.labels[:3].tolist() == [0, 1, 2]


def test_a_torchvision_set_of_files(tmp_path):
    for part in ("train", "val"):
        for k, wnid in enumerate(("n01440764", "n02102040")):
            png(tmp_path / "imagenette2-160" / part / wnid / "a.JPEG", (k * 100, 0, 0))
    data = open_data("imagenette", data_dir=tmp_path)
    assert (len(data.train), len(data.test)) == (2, 2)
    assert sorted(data.train.labels.tolist()) == [0, 1]
    assert data.train.fetch(torch.tensor([0]))[0].shape == (3, 9, 12)


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
    assert torch.equal(data.train.images[0].mT, torch.from_numpy(pixels["train"][0]))  # stored column by column
    assert (len(held_out.train), len(held_out.test), len(held_out.pretrain)) == (7, 3, 14)
    seen = {image.numpy().tobytes() for image in held_out.pretrain.images}
    assert not any(image.numpy().tobytes() in seen for image in held_out.test.images)


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
        assert torch.equal(data.train.images[:, 0], torch.from_numpy(images["train"]))
        assert torch.equal(data.test.images[:, 0], torch.from_numpy(images["t10k"]))
        assert data.train.labels[:3].tolist() == [0, 1, 2]
        assert not data.train.digits
    for base in (tmp_path, folder):  # the files of one set must not pass for another's
        with pytest.raises(UserError, match="mnist is not in"):
            open_data("mnist", data_dir=base)
    broken = folder / f"train-images-idx3-ubyte{end}"
    broken.write_bytes(broken.read_bytes()[:-100])
    with pytest.raises(UserError, match="train-images-idx3-ubyte"):
        open_data(str(folder))


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


def test_an_unknown_name_suggests_the_nearest(tmp_path):
    with pytest.raises(UserError, match="'cifar-10', did you mean 'cifar10'"):
        open_data("cifar-10")
    with pytest.raises(UserError, match="no data set and no path"):
        open_data(str(tmp_path / "nowhere"))
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UserError, match="neither a folder of images nor an .npz"):
        open_data(str(tmp_path / "notes.txt"))


# ------------------------------------------------------------------------------------------------------------- folders


def test_folder_of_classes_at_any_depth(tmp_path):
    png(tmp_path / "cat" / "b.png")
    png(tmp_path / "cat" / "more" / "deep" / "a.PNG")
    png(tmp_path / "ant" / "z.png")
    png(tmp_path / "loose.png")
    png(tmp_path / ".hidden" / "x.png")
    (tmp_path / "ant" / "readme.txt").write_text("no image")
    data = open_data(str(tmp_path))
    assert data.test is None
    assert data.train.classes == ("ant", "cat")
    assert data.train.paths == ["ant/z.png", "cat/b.png", "cat/more/deep/a.PNG", "loose.png"]
    assert data.train.labels.tolist() == [0, 1, 1, -1]
    assert (data.train.channels, data.train.size) == (3, 9)


def test_flat_folder_has_no_labels(tmp_path):
    for k in range(3):
        png(tmp_path / f"{k}.png")
    source = open_data(str(tmp_path)).train
    assert source.labels is None
    assert source.classes is None
    assert source.label(torch.arange(3)).tolist() == [-1] * 3
    png(tmp_path / "nested" / "images" / "4.png")  # one folder alone is no class
    assert open_data(str(tmp_path)).train.labels is None


@pytest.mark.parametrize("second", ["val", "test"])
def test_folder_with_train_and_test(tmp_path, second):
    for part in ("train", second):
        png(tmp_path / part / "b" / "1.png")
    png(tmp_path / "train" / "a" / "1.png")
    data = open_data(str(tmp_path))
    assert data.train.classes == data.test.classes == ("a", "b")
    assert data.test.labels.tolist() == [1]
    png(tmp_path / second / "c" / "1.png")
    with pytest.raises(UserError, match="class 'c', which the training part has not"):
        open_data(str(tmp_path))


def test_empty_folder_and_folder_without_images(tmp_path):
    with pytest.raises(UserError, match="is empty"):
        open_data(str(tmp_path))
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UserError, match="no images in"):
        open_data(str(tmp_path))
    (tmp_path / "x.png").write_text("hello")
    with pytest.raises(UserError, match="can be read"):
        open_data(str(tmp_path))


def pixel(path: Path, channels: int) -> list[int]:
    """The first pixel of a file as a source hands it out."""
    from contrastkit.data import ArraySource, FileSource

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
    (shown,) = open_data(str(tmp_path)).train.fetch(torch.tensor([0]))
    assert shown.shape == (3, 20, 10)
    assert shown[:, :10].min() == 255
    assert shown[:, 10:].max() == 0


# --------------------------------------------------------------------------------------------------------------- arrays


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
    assert source.images.shape == expected
    want = (
        pixels
        if pixels.ndim == 4 and shape[1] < shape[3]
        else pixels.reshape(5, shape[1], shape[2], -1).transpose(0, 3, 1, 2)
    )
    assert np.array_equal(source.images.numpy(), want)
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
    assert data.train.images.flatten()[[0, -1]].tolist() == [0, 255]
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
        ({"images": IMAGES, "labels": np.arange(3)}, "one integer from 0 up for each of the 4"),
        ({"images": IMAGES, "labels": np.arange(4) - 2}, "one integer from 0 up"),
        ({"images": IMAGES, "labels": np.arange(4) / 2}, "labels must be integers or text, not float64"),
        ({"images": IMAGES, "test_images": np.zeros((4, 9, 9), np.uint8)}, "test_images are"),
        ({"images": np.array([None, 1], dtype=object)}, "cannot be read"),
    ],
)
def test_npz_that_is_wrong(tmp_path, arrays, says):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(UserError, match=says):
        open_data(str(tmp_path / "x.npz"))


@pytest.mark.parametrize("damage", ["cut", "flip", "text", "empty", "member"])
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
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("images.npy", b"no array")
    with pytest.raises(UserError, match="x.npz"):
        open_data(str(path))


# ---------------------------------------------------------------------------------------------------------- validation


def test_validation_part():
    whole = open_data("digits").train
    data = open_data("digits", val_fraction=0.2, seed=3)
    assert (len(data.train), len(data.test)) == (1150, 287)
    assert data.pretrain is data.train
    both = torch.cat([data.train.images, data.test.images]).flatten(1)
    assert sorted(both.tolist()) == sorted(whole.images.flatten(1).tolist())
    again, other = open_data("digits", val_fraction=0.2, seed=3), open_data("digits", val_fraction=0.2, seed=4)
    assert again.test.fingerprint() == data.test.fingerprint() != other.test.fingerprint()
    assert whole.fingerprint() != data.train.fingerprint()


def test_validation_part_keeps_the_poses_of_a_digit_together():
    data = open_data("affdigits", val_fraction=0.1, seed=1)
    whole = open_data("affdigits").train
    digit = {image.numpy().tobytes(): k % 1437 for k, image in enumerate(whole.images)}  # pose by pose
    train, held = ({digit[image.numpy().tobytes()] for image in part.images} for part in (data.train, data.test))
    assert len(held) == 144 and len(data.test) == 6 * 144
    assert len(train) == 1437 - 144 and not train & held


def test_validation_part_of_files(tmp_path):
    for k in range(10):
        png(tmp_path / "ab"[k % 2] / f"{k}.png", (k, 0, 0))
    data = open_data(str(tmp_path), val_fraction=0.3)
    assert len(data.test) == 3
    assert set(data.train.paths) | set(data.test.paths) == set(open_data(str(tmp_path)).train.paths)
    assert not set(data.train.paths) & set(data.test.paths)
    for source in (data.train, data.test):
        assert [source.classes[k] for k in source.labels.tolist()] == [p[0] for p in source.paths]


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1e-6])
def test_validation_part_that_leaves_nothing(fraction):
    with pytest.raises(UserError, match="leaves one part empty"):
        open_data("digits", val_fraction=fraction)


# ---------------------------------------------------------------------------------------------------------- evaluation


def test_plain_batches_are_the_images_in_order():
    source = open_data("digits").test
    batches = list(plain_batches(source, size=8, batch=100))
    assert [len(b.index) for b in batches] == [100, 100, 100, 60]
    assert torch.equal(torch.cat([b.index for b in batches]), torch.arange(360))
    assert torch.equal(torch.cat([b.label for b in batches]), source.labels)
    assert torch.equal(torch.cat([b.views[0] for b in batches]), source.images / 255)


def test_plain_batches_convert_channels(tmp_path):
    from torchvision.transforms.v2 import functional as tvf

    source = open_data("digits").test
    (batch,) = plain_batches(source, size=8, channels=3, batch=360)
    assert torch.equal(batch.views[0], (source.images / 255).expand(-1, 3, -1, -1))
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", images=pixels)
    colour = open_data(str(tmp_path / "x.npz")).train
    (batch,) = plain_batches(colour, size=8, channels=1)
    want = tvf.rgb_to_grayscale(colour.images / 255)
    torch.testing.assert_close(batch.views[0], want, atol=1e-6, rtol=0)
    with pytest.raises(UserError, match="has 3 channels, the encoder takes 4"):
        next(plain_batches(colour, size=8, channels=4))


@pytest.mark.parametrize(("side", "size", "short"), [((40, 60), 28, 32), ((40, 60), 39, 39), ((20, 30), 32, 32)])
def test_plain_batches_resize_and_crop_as_torchvision(tmp_path, side, size, short):
    from torchvision.transforms import v2

    pixels = np.random.default_rng(0).integers(0, 256, (3, *side, 3), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", images=pixels)
    (tmp_path / "files").mkdir()
    for k, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / "files" / f"{k}.png")
    pipeline = v2.Compose([v2.Resize(short, antialias=True), v2.CenterCrop(size)])
    for path in ("x.npz", "files"):
        source = open_data(str(tmp_path / path)).train
        (batch,) = plain_batches(source, size=size)
        want = pipeline(torch.from_numpy(pixels).permute(0, 3, 1, 2)) / 255
        assert batch.views[0].shape == (3, 3, size, size)
        assert (batch.views[0] - want).abs().mean() < 0.02


def test_names_do_not_import_torch():
    code = (
        "import sys, contrastkit.names, contrastkit.data; contrastkit.data.data_names(); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# ---------------------------------------------------------------------------------------------------- several senses


def scenes(root: Path, names: list[str], *, gray: bool, size: tuple[int, int] = (8, 6), suffix: str = "png") -> None:
    """Images whose first pixel tells which scene they are of."""
    for i, name in enumerate(names):
        pixels = np.full((size[1], size[0]) + (() if gray else (3,)), 10 * i + (5 if gray else 0), np.uint8)
        path = root / f"{name}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def test_senses_of_a_scene_are_the_channels_of_one_image(tmp_path: Path) -> None:
    names = ["kitchen/b", "kitchen/a", "office/c"]
    root = tmp_path / "a,b"  # a comma that parts nothing
    scenes(root / "rgb", names, gray=False, size=(8, 6))
    scenes(root / "depth", names, gray=True, size=(16, 12), suffix="bmp")
    data = open_data(f"rgb={root / 'rgb'},depth={root / 'depth'}")
    source = data.train
    assert (data.name, source.channels, source.size, data.test) == ("rgb+depth", 4, 6, None)
    assert source.modalities == {"rgb": 3, "depth": 1} and source.classes == ("kitchen", "office")
    images, _ = source.take(torch.arange(3))
    first = [image[:, 0, 0].tolist() for image in images]
    assert all(image.shape == (4, 6, 8) for image in images)
    assert first == [[10, 10, 10, 15], [0, 0, 0, 5], [20, 20, 20, 25]], "a before b, each with its own depth"
    part = source.subset(torch.tensor([2, 0]))
    assert [image[3, 0, 0].item() for image in part.take(torch.arange(2))[0]] == [25, 15]
    assert part.modalities == source.modalities and part.fingerprint() != source.fingerprint()
    assert source.labels is not None and part.labels is not None
    assert part.labels.tolist() == source.labels[[2, 0]].tolist()


def test_a_test_part_is_aligned_too(tmp_path: Path) -> None:
    for part, names in (("train", ["a", "b"]), ("val", ["c", "d", "e"])):
        scenes(tmp_path / "rgb" / part, names, gray=False)
        scenes(tmp_path / "ir" / part, names, gray=True)
    data = open_data(f"rgb={tmp_path / 'rgb'},ir={tmp_path / 'ir'}")
    assert (len(data.train), data.test and len(data.test)) == (2, 3)
    held = open_data(f"rgb={tmp_path / 'rgb'},ir={tmp_path / 'ir'}", val_fraction=0.5)
    assert held.test is not None and (len(held.train), len(held.test), len(held.pretrain)) == (1, 1, 1)


def test_a_damaged_file_of_one_sense_takes_the_whole_scene(tmp_path: Path) -> None:
    scenes(tmp_path / "rgb", ["a", "b", "c"], gray=False)
    scenes(tmp_path / "depth", ["a", "b", "c"], gray=True)
    source = open_data(f"rgb={tmp_path / 'rgb'},depth={tmp_path / 'depth'}").train
    (tmp_path / "depth" / "b.png").write_bytes(b"no image")
    images, index = source.take(torch.arange(3))
    assert index.tolist() == [0, 2, 2] and [image[:, 0, 0].tolist() for image in images][1] == [20, 20, 20, 25]
    (path, _), *others = source.bad.values()
    assert path == "depth: b.png" and not others


def test_what_is_not_aligned_is_said(tmp_path: Path) -> None:
    scenes(tmp_path / "rgb", ["a", "b", "c"], gray=False)
    scenes(tmp_path / "depth", ["a", "c"], gray=True)
    rgb, depth = tmp_path / "rgb", tmp_path / "depth"
    for data, says in (
        (f"rgb={rgb},depth={depth}", "1 files have no partner: b is in rgb, not in depth"),
        (f"rgb={rgb},depth={rgb / 'none'}", "is no folder: several senses are given as NAME=DIR,NAME=DIR"),
        (f"rgb={rgb}", "with two names or more"),
        (f"rgb={rgb},rgb={depth}", "with two names or more"),
        (f"rgb={rgb},{depth}", "with two names or more"),
    ):
        with pytest.raises(UserError, match=re.escape(says)):
            open_data(data)
    scenes(depth, ["b"], gray=True)
    scenes(depth, ["b"], gray=True, suffix="bmp")
    with pytest.raises(UserError, match="two files for the scene b"):
        open_data(f"rgb={rgb},depth={depth}")
    (depth / "b.bmp").unlink()
    scenes(depth / "test", ["x"], gray=True)
    scenes(depth / "train", ["x"], gray=True)
    with pytest.raises(UserError, match="depth has a test part, rgb has none"):
        open_data(f"rgb={rgb},depth={depth}")


# ------------------------------------------------------------------------------------------------------------- sounds


def test_sounds_of_every_kind_become_one(tmp_path: Path) -> None:
    """8, 16 and 32 bits, floats, and stereo: the same wave; 24 bits are written by hand, scipy does not."""
    wave = np.array([0.0, 0.5, -0.5, 0.25, -1.0, 0.75])
    kinds = {
        "a8": np.round(wave * 128 + 128).clip(0, 255).astype(np.uint8),
        "b16": (wave * 2**15).astype(np.int16),
        "c32": (wave * 2**31).astype(np.int32),
        "d32f": wave.astype(np.float32),
        "e64f": wave,
        "fstereo": np.stack([wave + 0.1, wave - 0.1], 1).clip(-1, 1).astype(np.float32),
    }
    for name, samples in kinds.items():
        wavfile.write(tmp_path / f"{name}.wav", 8000, samples)
    body = b"".join(int(w * 2**23).to_bytes(3, "little", signed=True) for w in wave)
    head = b"WAVEfmt " + (16).to_bytes(4, "little")
    for value, size in ((1, 2), (1, 2), (8000, 4), (24000, 4), (3, 2), (24, 2)):
        head += value.to_bytes(size, "little")
    head += b"data" + len(body).to_bytes(4, "little") + body
    (tmp_path / "g24.WAV").write_bytes(b"RIFF" + len(head).to_bytes(4, "little") + head)
    source = open_data(str(tmp_path)).train
    assert (source.rate, source.channels, source.size, len(source)) == (8000, 1, 6, 7)
    expected = torch.tensor((wave * 2**15).round())
    for path, clip in zip(sorted([*kinds, "g24"]), source.take(torch.arange(7))[0], strict=True):
        assert clip.dtype == torch.int16 and clip.shape == (1, 1, 6), path
        worst = (clip.flatten().double() - expected).abs()
        if path == "fstereo":
            worst[4] = 0  # clipped on one side
        assert worst.max() <= 1, path


def test_other_rates_are_resampled_to_the_most_frequent(tmp_path: Path) -> None:
    for name, rate in (("a", 8000), ("b", 16000), ("c", 8000)):
        t = np.arange(rate) / rate
        wavfile.write(tmp_path / f"{name}.wav", rate, (0.5 * np.sin(2 * np.pi * 440 * t)).astype(np.float32))
    source = open_data(str(tmp_path)).train
    a, b, _ = (clip.flatten().double() for clip in source.take(torch.arange(3))[0])
    assert source.rate == 8000 and len(a) == len(b) == 8000
    assert (a - b)[100:-100].abs().max() < 0.01 * 2**15


def test_a_sound_that_cannot_be_read_is_replaced_and_named(tmp_path: Path) -> None:
    for name in "abc":
        wavfile.write(tmp_path / f"{name}.wav", 8000, np.full(50, ord(name), np.int16))
    source = open_data(str(tmp_path)).train
    (tmp_path / "b.wav").write_bytes((tmp_path / "b.wav").read_bytes()[:100])  # cut short
    wavfile.write(tmp_path / "c.wav", 8000, np.zeros(0, np.int16))
    clips, index = source.take(torch.arange(3))
    assert index.tolist() == [0, 0, 0] and [clip[0, 0, 0].item() for clip in clips] == [97] * 3
    assert {path for path, _ in source.bad.values()} == {"b.wav", "c.wav"}


def test_sounds_and_images_are_not_mixed(tmp_path: Path) -> None:
    wavfile.write(tmp_path / "a.wav", 8000, np.zeros(50, np.int16))
    png(tmp_path / "b.png", 3)
    with pytest.raises(UserError, match="holds 1 sounds and 1 images: give a folder of one kind"):
        open_data(str(tmp_path))
    (tmp_path / "b.png").unlink()
    with pytest.raises(UserError, match="aligned senses are images"):
        open_data(f"x={tmp_path},y={tmp_path}")
    (tmp_path / "a.wav").write_bytes(b"no sound at all")
    with pytest.raises(UserError, match="none of the sounds looked at"):
        open_data(str(tmp_path))
