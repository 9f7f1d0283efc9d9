"""Shards hold the set that they were made of; their order is local; batches do not depend on who loads them."""

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from contrastkit.augment import named_views
from contrastkit.data import Loader, ShardSource, Source, UnreadableError, extents, open_data, plain_batches, shards
from contrastkit.data.pack import Made, keys_of, make_shards
from contrastkit.data.torch_dataset import open_dataset
from contrastkit.errors import UserError
from tests.data.pictures import paths_of, png

G = np.random.default_rng(0)


def noise(path: Path, size: tuple[int, int] = (12, 9), mode: str = "RGB", **how: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = size[::-1] if mode == "L" else (*size[::-1], len(mode))
    Image.fromarray(G.integers(0, 256, shape, np.uint8), mode if mode != "RGBA" else None).save(path, **how)


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ninety images of every kind in three classes, and one that cannot be read."""
    root = tmp_path_factory.mktemp("set")
    for k in range(14):
        for c in "abc":
            noise(root / c / f"{k:02}.png", (12 + k, 9))
            noise(root / c / f"{k:02}.jpg", (9, 12 + k), quality=90)
    noise(root / "a" / "gray.JPEG", mode="L")
    noise(root / "a" / "many.points.jpg", (40, 30), exif=turned())
    noise(root / "a" / "clear.png", mode="RGBA")
    noise(root / "b" / "clear.webp", mode="RGBA", lossless=True)
    noise(root / "b" / "turned.webp", (20, 10), lossless=True, exif=turned())
    noise(root / "b" / "pixel.png", (1, 1))
    noise(root / "b" / "x.bmp")
    Image.fromarray(G.integers(1000, 40000, (9, 9), np.uint16)).save(root / "c" / "deep.tif")
    Image.fromarray(G.random((9, 9), np.float32)).save(root / "c" / "float.tif")
    Image.fromarray(G.integers(0, 256, (9, 9, 4), np.uint8), "CMYK").save(root / "c" / "ink.tif")
    Image.fromarray(G.integers(0, 256, (9, 9, 4), np.uint8), "CMYK").save(root / "c" / "ink.jpg")
    (root / "c" / "wrong.png").write_bytes((root / "c" / "00.jpg").read_bytes())  # a JPEG, whatever its name
    (root / "c" / "zzz.jpg").write_bytes((root / "c" / "00.jpg").read_bytes()[:300])
    return root


def made(folder: Path, out: Path, per_shard: int = 10) -> ShardSource:
    """The training part of the shards of a folder."""
    make_shards(open_data(str(folder)), out, per_shard=per_shard)
    source = open_data(str(out)).train
    assert isinstance(source, ShardSource)
    return source


@pytest.fixture(scope="module")
def of_shards(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> ShardSource:
    source = made(folder, tmp_path_factory.mktemp("shards"))
    assert len(source) == 96 and len(source.tars.paths) == 10
    return source


def files_alone(folder: Path) -> Source:
    """The images of the folder but for the one that cannot be read."""
    source = open_data(str(folder)).train
    return source.subset(torch.tensor([i for i, path in enumerate(paths_of(source)) if path != "c/zzz.jpg"]))


def all_images(source: Source) -> list[Tensor]:
    return list(source.fetch(torch.arange(len(source))))


def equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return len(a) == len(b) and all(map(torch.equal, a, b))


# -------------------------------------------------------------------------------------------------------- the same set


def test_shards_hold_the_images_of_their_folder_bit_for_bit(folder: Path, of_shards: ShardSource) -> None:
    files = files_alone(folder)
    assert equal(all_images(of_shards), all_images(files))
    assert of_shards.classes == files.classes == ("a", "b", "c")
    assert of_shards.labels.tolist() == files.labels.tolist()
    assert (of_shards.channels, of_shards.size) == (files.channels, files.size)
    for mine, theirs in zip(*(plain_batches(each, size=16, batch=7) for each in (of_shards, files)), strict=True):
        assert torch.equal(mine.views[0], theirs.views[0]) and torch.equal(mine.label, theirs.label)


@pytest.mark.parametrize("how", [{"stretch": True}, {"background": "red"}], ids=str)
def test_they_are_read_as_files_are(tmp_path: Path, how: dict[str, Any]) -> None:
    for k in range(3):
        noise(tmp_path / "set" / f"clear{k}.webp", mode="RGBA", lossless=True)
        for suffix in ("tif", "png"):
            deep = G.integers(1000, 40000, (9, 9), np.uint16)
            Image.fromarray(deep).save(tmp_path / "set" / f"deep{k}_{suffix}.{suffix}")
    data = open_data(str(tmp_path / "set"), **how)
    make_shards(data, tmp_path / "out")
    source = open_data(str(tmp_path / "out"), **how).train
    assert equal(all_images(source), all_images(data.train))
    assert not equal(all_images(source), all_images(open_data(str(tmp_path / "out")).train))


def test_a_read_that_gets_a_part_goes_on(of_shards: ShardSource, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, read = all_images(of_shards), os.pread
    monkeypatch.setattr(os, "pread", lambda file, size, offset: read(file, min(size, 100), offset))
    assert equal(all_images(of_shards), expected)


def test_jpegs_and_pngs_are_kept_as_they_are(folder: Path, of_shards: ShardSource) -> None:
    """By the tar of Python's library, which knows nothing of the index."""
    found = {}
    for path in of_shards.tars.paths:
        with tarfile.open(path) as tar:
            for member in tar:
                assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
                found[member.name] = tar.extractfile(member).read()
    source = files_alone(folder)
    for name, key, label in zip(source.paths, keys_of(source.paths), source.labels.tolist(), strict=True):
        data = (folder / name).read_bytes()
        assert found.pop(f"{key}.cls") == str(label).encode()
        if name.endswith((".webp", ".bmp", ".tif")):
            assert Image.open(io.BytesIO(found.pop(f"{key}.png"))).format == "PNG"
        else:
            suffix = "png" if data.startswith(b"\x89PNG") else "jpg"
            assert found.pop(f"{key}.{suffix}") == data
    assert not found


def test_an_npz_file_and_a_dataset_of_the_same_images_too(tmp_path: Path) -> None:
    images = G.integers(0, 256, (20, 8, 8, 3), np.uint8)
    for k, image in enumerate(images):
        (tmp_path / "set" / "ab"[k // 10]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "set" / "ab"[k // 10] / f"{k:02}.png")
    np.savez(tmp_path / "x.npz", images=images, labels=np.arange(20) // 10)

    class Given(Dataset[Any]):
        targets = np.arange(20) // 10

        def __len__(self) -> int:
            return 20

        def __getitem__(self, i: int) -> Any:
            return images[i], self.targets[i]

    source = made(tmp_path / "set", tmp_path / "out", per_shard=3)
    others = [open_data(str(tmp_path / "x.npz")).train, open_dataset(Given()).train]
    for other in others:
        assert equal(all_images(source), all_images(other)) and torch.equal(source.labels, other.labels)
    batch, of_npz, of_dataset = (
        next(Loader(each, named_views("moco-cifar"), batch=20, seed=1).batches(0, 1)) for each in (source, *others)
    )
    assert same([batch], [of_dataset]) and torch.equal(batch.index, of_npz.index)
    for mine, theirs in zip(batch.views, of_npz.views, strict=True):  # scaled all at once, which adds in another order
        torch.testing.assert_close(mine, theirs, atol=0.02, rtol=0)


def test_what_is_written_is_a_function_of_the_images(folder: Path, tmp_path: Path) -> None:
    for name, workers in (("one", 0), ("two", 2)):
        make_shards(open_data(str(folder)), tmp_path / name, per_shard=10, workers=workers)
    files = sorted(os.listdir(tmp_path / "one"))
    assert files == sorted(os.listdir(tmp_path / "two")) == [*(f"{k:05}.tar" for k in range(10)), "index.npz"]
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_tars_are_samples_of_the_set(of_shards: ShardSource) -> None:
    """Of a set sorted by class, each tar would have one."""
    assert all(len(of_shards.labels[of_shards.shard == k].unique()) > 1 for k in range(9))


def test_larger_images_are_shrunk(tmp_path: Path) -> None:
    """The mean of each quarter stays, in every mode; the others stay as they are."""
    corners = np.kron(np.array([[0, 80], [160, 240]]), np.ones((20, 40)))
    colour = corners[..., None].repeat(3, 2).astype(np.uint8)
    Image.fromarray(colour).save(tmp_path / "a.jpg", quality=100, exif=turned())
    Image.fromarray(colour).save(tmp_path / "b.png")
    Image.fromarray(np.dstack([colour, colour[..., 0]])).save(tmp_path / "c.png")
    Image.fromarray((corners * 257).astype(np.uint16)).save(tmp_path / "d.png")
    Image.fromarray(corners > 100).save(tmp_path / "e.png")
    Image.fromarray(colour).save(tmp_path / "f.webp", lossless=True)
    png(tmp_path / "g.png", size=(20, 20))
    (part,) = make_shards(open_data(str(tmp_path)), tmp_path / "out", max_side=20)
    assert (part.images, part.shrunk, part.recoded) == (7, 6, 6)
    turn, *others, small = all_images(open_data(str(tmp_path / "out")).train)
    assert turn.shape == (3, 20, 10) and small.shape == (3, 20, 20)
    for k, image in zip("bcdef", others, strict=True):
        assert image.shape == (3, 10, 20)
        was = open_data(str(tmp_path)).train
        (before,) = was.fetch(torch.tensor([paths_of(was).index(f"{k}.{'webp' if k == 'f' else 'png'}")]))
        for rows, columns in ((0, 0), (0, 1), (1, 0), (1, 1)):
            now = image[:, 5 * rows + 1 : 5 * rows + 4, 10 * columns + 2 : 10 * columns + 8].float().mean()
            then = before[:, 20 * rows : 20 * rows + 20, 40 * columns : 40 * columns + 40].float().mean()
            assert abs(now - then) < 3, k
    with tarfile.open(tmp_path / "out" / "00000.tar") as tar:
        kinds = {m.name: Image.open(tar.extractfile(m)) for m in tar}
        assert {name: (image.format, image.mode) for name, image in kinds.items()} == {
            "a.jpg": ("JPEG", "RGB"), "b.png": ("PNG", "RGB"), "c.png": ("PNG", "RGBA"), "d.png": ("PNG", "I;16"),
            "e.png": ("PNG", "L"), "f.png": ("PNG", "RGB"), "g.png": ("PNG", "RGB"),
        }  # fmt: skip


def test_keys_have_no_point_and_are_never_the_same() -> None:
    keys = keys_of(["a/x.jpg", "a/x.png", "a/x_png.jpg", "a.b/x.y.jpg", "b/x"])
    assert keys == ["a/x", "a/x_png", "a/x_png_jpg", "a.b/x_y", "b/x"]


def test_names_of_any_length_and_letters(tmp_path: Path) -> None:
    names = [f"{'ä' * 60}/{'b' * 150}.png", "\udcff.png", "sp ace/x.png"]
    for name in names:
        png(tmp_path / "set" / name)
    source = made(tmp_path / "set", tmp_path / "out")
    assert sorted(source.paths) == sorted(names) and len(all_images(source)) == 3
    (tmp_path / "out" / "index.npz").unlink()
    assert sorted(open_data(str(tmp_path / "out")).train.paths) == sorted(names)


def test_parts_and_a_held_out_part(folder: Path, tmp_path: Path) -> None:
    for part in ("train", "val"):
        os.symlink(folder, tmp_path / part)
    files = open_data(str(tmp_path))
    made(tmp_path, tmp_path / "out")
    data = open_data(str(tmp_path / "out"))
    assert data.notices[0] == "train/ -> training (96 images), test/ -> test (96)"
    assert equal(all_images(data.test)[:5], all_images(files.test.subset(torch.arange(5))))
    assert data.test.classes == data.train.classes and data.pretrain is data.train
    held = open_data(str(tmp_path / "out" / "train"), val_fraction=0.25, seed=3)
    assert (len(held.train), len(held.test)) == (72, 24)
    paths = [*held.train.paths, *held.test.paths]
    assert sorted(paths) == sorted(data.train.paths)
    whole = dict(zip(data.train.paths, all_images(data.train), strict=True))
    assert equal([whole[path] for path in paths], [*all_images(held.train), *all_images(held.test)])
    for source in (held.train, held.test):
        assert [source.classes[k] for k in source.labels.tolist()] == [path[0] for path in source.paths]
        assert sorted(source.order(0, 0).tolist()) == list(range(len(source)))


def test_images_without_labels(tmp_path: Path) -> None:
    for place in ("a", "b", "unlabelled"):
        for k in range(3):
            png(tmp_path / "set" / place / f"{k}.png")
    source = made(tmp_path / "set", tmp_path / "out")
    assert sorted(source.labels.tolist()) == [-1] * 3 + [0] * 3 + [1] * 3 and source.classes == ("a", "b")
    assert made(tmp_path / "set" / "a", tmp_path / "bare").labels is None


def test_a_fingerprint_tells_sets_and_contents_apart(tmp_path: Path) -> None:
    for k in range(6):
        noise(tmp_path / "set" / "ab"[k % 2] / f"{k}.png")
    files, source = open_data(str(tmp_path / "set")).train, made(tmp_path / "set", tmp_path / "out", per_shard=4)
    assert source.fingerprint() == files.fingerprint(), "of the same names and contents"
    other = made(tmp_path / "set", tmp_path / "other", per_shard=3)
    assert other.fingerprint() == source.fingerprint(), "however they are packed"
    noise(tmp_path / "set" / "a" / "0.png")
    changed = made(tmp_path / "set", tmp_path / "changed")
    assert changed.changed_since(source.fingerprint()) == "images of the same names with other contents"
    assert "other images or labels" in source.subset(torch.arange(5)).changed_since(source.fingerprint())


# -------------------------------------------------------------------------------------------------------- their order


def test_every_epoch_has_each_image_once_and_few_shards_at_a_time(
    of_shards: ShardSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "WINDOW", 3)
    orders = [of_shards.order(seed, epoch) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    chosen: list[set[int]] = []
    for order in orders:
        assert order.sort()[0].tolist() == list(range(96))
        visited = of_shards.shard[order.numpy()]
        windows: list[set[int]] = [set()]
        for shard in visited.tolist():  # each window is left for good before the next begins
            if len(windows[-1] | {shard}) > 3:
                windows.append(set())
            windows[-1].add(shard)
        assert [len(window) for window in windows] == [3, 3, 3, 1] and len(set.union(*windows)) == 10
        chosen.append(windows[0])
        first = visited[: sum(int((of_shards.shard == k).sum()) for k in windows[0])]
        assert 2 * (np.diff(first) != 0).sum() > len(first), "shuffled, not one shard after another"
    assert not any(torch.equal(a, b) for a, b in ((orders[0], orders[1]), (orders[0], orders[2])))
    assert torch.equal(orders[1], of_shards.order(0, 1))
    assert chosen[0] != chosen[1] and chosen[0] != chosen[2], "other shards together"


def test_a_set_of_few_shards_has_the_order_of_its_files(folder: Path, of_shards: ShardSource) -> None:
    assert torch.equal(of_shards.order(5, 2), files_alone(folder).order(5, 2))


def batches(source: Source, start: int, end: int, **how: Any) -> list[Any]:
    with Loader(source, named_views("moco-cifar"), batch=20, seed=7, **how) as loader:
        return list(loader.batches(start, end))


def same(a: list[Any], b: list[Any]) -> bool:
    return len(a) == len(b) and all(
        torch.equal(x.index, y.index) and torch.equal(x.label, y.label) and equal(x.views, y.views)
        for x, y in zip(a, b, strict=True)
    )


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "WINDOW", 3)
    monkeypatch.setattr(extents, "HANDLES", 2)  # tars are closed and opened again


@pytest.mark.usefixtures("narrow")
def test_batches_depend_on_nobody_who_loads_them(of_shards: ShardSource) -> None:
    whole = batches(of_shards, 0, 9)  # two epochs of four steps, and a part of the third
    again = open_data(str(of_shards.root)).train
    assert same(whole[6:], batches(again, 6, 9)), "after a resume in mid-epoch"
    for workers in (1, 2):  # processes that have the handles of this one
        assert same(whole, batches(of_shards, 0, 9, workers=workers))
    halves = [batches(of_shards, 0, 9, rank=rank, world=2) for rank in range(2)]
    for batch, first, second in zip(whole, *halves, strict=True):
        assert torch.equal(batch.index, torch.cat([first.index, second.index]))
        assert equal(batch.views, [torch.cat(pair) for pair in zip(first.views, second.views, strict=True)])


@pytest.mark.usefixtures("narrow")
def test_batches_of_shards_are_those_of_files_in_their_order(
    folder: Path, of_shards: ShardSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = files_alone(folder)
    monkeypatch.setattr(files, "order", of_shards.order)
    assert same(batches(of_shards, 0, 5), batches(files, 0, 5))


# ------------------------------------------------------------------------------------------------------------- damage


def test_an_image_that_dies_in_mid_scan_has_a_stand_in_as_in_files(tmp_path: Path) -> None:
    for k in range(8):
        noise(tmp_path / "set" / f"{k}.jpg", (32, 32))
    source = made(tmp_path / "set", tmp_path / "out")
    (tmp_path / "out" / "index.npz").unlink()  # which knows what the bytes were
    for path, place in ((tmp_path / "out" / "00000.tar", int(source.offset[3])), (tmp_path / "set" / "3.jpg", 0)):
        with open(path, "r+b") as file:
            file.seek(place + 800)
            file.write(b"\xff\xda")
    shards, files = open_data(str(tmp_path / "out")).train, open_data(str(tmp_path / "set")).train
    at = shards.paths.index("3.jpg")
    (mine, index), _ = shards.take(torch.tensor([at])), files.take(torch.tensor([3]))
    assert index.tolist() == [(at + 1) % 8] and shards.unreadable.keys() == {at}
    assert shards.unreadable[at] == files.unreadable[3] == ("3.jpg", "broken data stream when reading image file")
    assert torch.equal(mine[0], files.fetch(torch.tensor([int(shards.paths[(at + 1) % 8][0])]))[0])


def test_bytes_that_have_changed_are_not_taken_for_the_image(tmp_path: Path) -> None:
    """Another image, in the place of one in the middle of a tar."""
    for k in range(4):
        noise(tmp_path / "set" / f"{k}.png", (40, 40))
    source = made(tmp_path / "set", tmp_path / "out")
    last, other = int(source.offset.argmax()), io.BytesIO()
    Image.new("RGB", (40, 40)).save(other, "PNG")
    with open(tmp_path / "out" / "00000.tar", "r+b") as file:
        file.seek(int(source.offset[last]))
        file.write(other.getvalue().ljust(int(source.bytes[last]), b"\0"))
    with pytest.raises(UnreadableError, match=f"{last}.png: its bytes are not those of index.npz"):
        open_data(str(tmp_path / "out")).train.fetch(torch.tensor([last]))


def test_a_tar_that_is_gone_or_cut_while_it_is_read(tmp_path: Path) -> None:
    for k in range(8):
        noise(tmp_path / "set" / f"{k}.png")
    source = made(tmp_path / "set", tmp_path / "out", per_shard=4)
    assert isinstance(source.tars, extents.LocalTars)
    source.tars._open.clear()
    os.truncate(tmp_path / "out" / "00000.tar", 600)
    (tmp_path / "out" / "00001.tar").unlink()
    images, index = source.take_readable(torch.arange(8))
    assert len(index) == 0
    assert {reason.split(":")[0] for _, reason in source.unreadable.values()} == {
        "00000.tar ends within it", "[Errno 2] No such file or directory"
    }  # fmt: skip


def test_nothing_is_left_after_an_error(tmp_path: Path) -> None:
    for part in ("train", "test"):
        png(tmp_path / "set" / part / "x.png")
    for k in range(3):
        (tmp_path / "set" / "test" / f"{k}.png").write_bytes(b"none")
    (tmp_path / "set" / "test" / "x.png").write_bytes(b"none")
    with pytest.raises(UserError, match="none of the 4 images of .*test can be read, for example .*.png: cannot ident"):
        made(tmp_path / "set", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_shards_are_not_made_of(tmp_path: Path) -> None:
    png(tmp_path / "set" / "x.png")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("?")
    for out, says in (("full", r"is not empty \(it has x\): give a new folder"), ("set/x.png", "is no folder")):
        with pytest.raises(UserError, match=says):
            made(tmp_path / "set", tmp_path / out)
    np.savez(tmp_path / "x.npz", images=G.integers(0, 256, (4, 8, 8, 3), np.uint8))
    with pytest.raises(UserError, match="x has no image files"):
        make_shards(open_data(str(tmp_path / "x.npz")), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_unreadable_images_are_counted_and_named(folder: Path, tmp_path: Path) -> None:
    (part,) = make_shards(open_data(str(folder)), tmp_path / "out", per_shard=50)
    assert part == Made(
        "train", str(tmp_path / "out"), shards=2, images=96, shrunk=0, recoded=6, unreadable=part.unreadable
    )
    ((path, reason),) = part.unreadable
    assert path == "c/zzz.jpg" and "runcated" in reason
