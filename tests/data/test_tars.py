"""Tars from elsewhere: what is read, what is left out, and what is refused."""

import gzip
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from contrastkit.data import open_data
from contrastkit.data.checks import check_shards, write_indexes
from contrastkit.data.index import INDEX, Index
from contrastkit.data.pack import make_shards
from contrastkit.errors import UserError
from tests.data.pictures import png


def picture(value: int = 0, kind: str = "PNG", size: tuple[int, int] = (6, 4)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (value, 0, 0)).save(file, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return file.getvalue()


def tar(path: Path, members: dict[str, bytes] | list[tuple[str, bytes]], **how: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **how) as archive:  # type: ignore[call-overload]
        for name, data in members.items() if isinstance(members, dict) else members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


# ----------------------------------------------------------------------------------------------------- what is read


def test_the_kinds_of_images_and_labels(tmp_path: Path) -> None:
    tar(
        tmp_path / "b.tar", {"x.jpeg": picture(1, "JPEG"), "x.cls": b"7", "y.WEBP": picture(2, "WEBP"), "y.cls": b"5\n"}
    )
    tar(tmp_path / "a.tar", {"z.cls": b"7", "z.png": picture(3), "z.json": b"{}", "w.jpg": picture(4, "JPEG")})
    data = open_data(str(tmp_path))
    assert data.train.paths == ["z.png", "w.jpg", "x.jpeg", "y.WEBP"], "tar by tar, by name"
    assert [int(image[0, 0, 0]) for image in data.train.fetch(torch.arange(4))] == pytest.approx([3, 4, 1, 2], abs=2)
    assert data.train.labels.tolist() == [1, -1, 1, 0] and data.train.classes == ("5", "7")
    assert data.notices == (
        f"{tmp_path} has no index: `contrastkit shards index {tmp_path}` saves reading the tars' headers",
        f"{tmp_path}: 1 of 4 images have no label in .cls",
        f"{tmp_path}: left out .json (1)",
    )
    assert sorted(os.listdir(tmp_path)) == ["a.tar", "b.tar"], "nothing is written beside data of others"


@pytest.mark.parametrize(
    ("kind", "texts", "labels", "classes"),
    [
        ("cls", ["0", "1", "0", "1"], [0, 1, 0, 1], None),
        ("cls", ["10", "9", "010", "-1"], [1, 0, 1, -1], ("9", "10")),
        ("cls", ["ant", "bee", "7", "ant"], [1, 2, 0, 1], ("7", "ant", "bee")),
        ("json", ['{"label": 3}', '{"cls": 2, "label": 9}', '"x"', "4"], [1, 0, 3, 2], ("2", "3", "4", "x")),
        ("json", ['{"label": "a", "class": 1}', '{"class": "b"}', "{", "[1]"], [0, 1, -1, -1], ("a", "b")),
        ("json", ['{"label": true}', '{"label": [1]}', '{"caption": "x"}', "[" * 99999], None, None),
        ("txt", ["1", "0", "1", "2"], [1, 0, 1, 2], None),
        ("txt", ["a b", "c", "a b", "c"], [0, 1, 0, 1], ("a b", "c")),
        ("txt", ["a dog runs", "a cat", "two cats", "the sea"], None, None),  # captions
        ("cls", ["", "\n", "1\n2", "x" * 1000], None, None),
    ],
)
def test_labels(
    tmp_path: Path, kind: str, texts: list[str], labels: list[int] | None, classes: tuple[str, ...] | None
) -> None:
    members = {
        f"{k}.{end}": data for k, text in enumerate(texts) for end, data in ((kind, text.encode()), ("png", b"x"))
    }
    index = Index.scanned(tmp_path, [tar(tmp_path / "x.tar", members).name])
    assert (index.captions is not None) == (kind == "txt" and labels is None)
    assert (None if index.labels is None else index.labels.tolist()) == labels
    expected = classes or (() if labels is None else tuple(map(str, range(max(labels) + 1))))
    assert index.classes == expected


def test_captions_are_texts_that_mostly_differ(tmp_path: Path) -> None:
    """Several lines are several captions; an image without one is left out; labels stand beside them."""
    members = {f"{k}.png": picture(k) for k in range(6)} | {f"{k}.cls": b"%d" % (k % 2) for k in range(6)}
    texts = ["a  dog\truns \r\n\n two dogs\n", "a cat", " \n", "caf\u00e9", "x" * 1000]
    members |= {f"{k}.txt": text.encode() for k, text in enumerate(texts)}
    first = tar(tmp_path / "a.tar", members)
    found = [open_data(str(tmp_path))]
    assert write_indexes(tmp_path)[str(tmp_path / INDEX)].captions is not None
    found.append(open_data(str(tmp_path)))  # by its index
    for data in found:
        source = data.train
        assert source.paths == ["0.png", "1.png", "3.png", "4.png"] and source.labels.tolist() == [0, 1, 1, 0]
        told = [source.captions.of(i) for i in range(4)]
        assert told == [("a dog runs", "two dogs"), ("a cat",), ("caf\u00e9",), ("x" * 1000,)]
        assert [int(image[0, 0, 0]) for image in source.fetch(torch.arange(4))] == [0, 1, 3, 4]
        assert f"{tmp_path}: 2 of 6 images have no caption in .txt and are left out" in data.notices
        assert not any("left out .txt" in notice for notice in data.notices), "the empty one is told of already"
    check, n = check_shards(tmp_path, lambda *_: None)
    assert (check, n) == ([], 6)
    with np.load(tmp_path / INDEX) as file:
        assert file["format"] == 2
    for few in (1, 3):  # not most images
        kept = {name: data for name, data in members.items() if not name.endswith(".txt") or int(name[0]) < few}
        tar(tmp_path / f"few{few}" / "a.tar", kept)
        data = open_data(str(tmp_path / f"few{few}"))
        assert len(data.train) == 6 and data.train.captions is None
        assert f"{tmp_path / f'few{few}'}: left out .txt ({few})" in data.notices
        assert str(write_indexes(tmp_path / f"few{few}")) and np.load(tmp_path / f"few{few}" / INDEX)["format"] == 1
    assert first.exists()


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_format_of_tars(tmp_path: Path, format: int) -> None:
    long = f"{'d' * 90}/{'e' * 60}" if format == tarfile.USTAR_FORMAT else f"{'ö' * 200}/{'e' * 200}"
    tar(tmp_path / "x.tar", {f"./{long}.png": picture(9), f"{long}.cls": b"3", "y.png": picture(8)}, format=format)
    source = open_data(str(tmp_path)).train
    assert source.paths == [f"{long}.png", "y.png"] and source.labels.tolist() == [0, -1]
    assert [int(image[0, 0, 0]) for image in source.fetch(torch.arange(2))] == [9, 8]


@pytest.mark.skipif(shutil.which("tar") is None, reason="no tar")
def test_what_gnu_tar_writes(tmp_path: Path) -> None:
    for k in range(3):
        png(tmp_path / "set" / "a" / f"{k}.png", (k, 0, 0))
    with open(tmp_path / "set" / "holes.png", "wb") as file:
        file.write(picture())
        file.truncate(1 << 20)
    (tmp_path / "set" / "link.png").symlink_to("a/0.png")
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "--sparse", "--sort=name", "-cf", tmp_path / "out" / "x.tar", "-C", tmp_path / "set", "."])
    data = open_data(str(tmp_path / "out"))
    assert data.train.paths == ["a/0.png", "a/1.png", "a/2.png"]
    assert data.notices[1] == f"{tmp_path / 'out'}: left out links, devices and sparse files (2)"
    assert [int(image[0, 0, 0]) for image in data.train.fetch(torch.arange(3))] == [0, 1, 2]


def test_what_is_left_out_is_told_and_no_code_is_run(tmp_path: Path) -> None:
    pickled = b"cos\nsystem\n(S'touch " + str(tmp_path / "run").encode() + b"'\ntR."
    members = {"a.png": picture(), "a.pyd": pickled, "a.pth": pickled, "a.pickle": pickled, "a.seg.png": picture()}
    members |= {"._a.png": b"?", "__MACOSX/a.png": b"?", "README": b"?", "b.cls": b"1"}
    tar(tmp_path / "set" / "x.tar", members)
    data = open_data(str(tmp_path / "set"))
    assert data.train.paths == ["a.png"] and data.train.labels is None
    said = data.notices[1].partition("left out ")[2].split(", ")
    assert set(said) == {"hidden files (2)", ".pyd (1)", ".pth (1)", ".pickle (1)", "other kinds (3)"}
    data.train.fetch(torch.tensor([0]))
    assert not (tmp_path / "run").exists()


def test_tars_that_number_their_own_images(tmp_path: Path) -> None:
    for name in ("a.tar", "b.tar"):
        tar(tmp_path / name, {"0.png": picture(), "1.png": picture()})
    assert open_data(str(tmp_path)).train.paths == ["a.tar/0.png", "a.tar/1.png", "b.tar/0.png", "b.tar/1.png"]


# ------------------------------------------------------------------------------------------------- which folders


def test_a_tar_among_images_is_left_out_as_before(tmp_path: Path) -> None:
    png(tmp_path / "loose" / "x.png")
    png(tmp_path / "classes" / "a" / "x.png")
    for folder in ("loose", "classes"):
        tar(tmp_path / folder / "backup.tar", {"y.png": picture()})
        data = open_data(str(tmp_path / folder))
        assert len(data.train) == 1 and data.notices[-1].endswith("left out .tar (1)")


def test_parts(tmp_path: Path) -> None:
    labelled = {"a.png": picture(), "a.cls": b"b", "b.png": picture(), "b.cls": b"a"}
    for part in ("train", "val", "more"):
        tar(tmp_path / part / "0.tar", labelled)
    tar(tmp_path / "test" / "0.tar", {"a.png": picture()})
    data = open_data(str(tmp_path))
    assert data.notices[0] == "train/ -> training (2 images), val/ -> test (2); more/, test/ not used"
    assert data.train.classes == data.test.classes == ("a", "b") and data.test.labels.tolist() == [1, 0]
    assert len(open_data(str(tmp_path), test_part="Test").test) == 1
    (tmp_path / "dev").mkdir()
    with pytest.raises(UserError, match="--test-part dev: .*dev has no tars, as train/ has"):
        open_data(str(tmp_path), test_part="dev")
    with pytest.raises(UserError, match="beside train/ or of environments, which .* does not have"):
        open_data(str(tmp_path / "train"), test_part="val")
    tar(tmp_path / "val" / "1.tar", {"c.png": picture(), "c.cls": b"c"})
    with pytest.raises(UserError, match="val has the class 'c', which is not in the training part"):
        open_data(str(tmp_path))
    tar(tmp_path / "training" / "0.tar", labelled)
    with pytest.raises(UserError, match="several training parts, train, training"):
        open_data(str(tmp_path))


def test_labels_of_parts_are_matched_by_their_texts(tmp_path: Path) -> None:
    tar(tmp_path / "train" / "0.tar", {"a.png": picture(), "a.cls": b"30", "b.png": picture(), "b.cls": b"4"})
    tar(tmp_path / "val" / "0.tar", {"a.png": picture(), "a.cls": b"30", "b.png": picture()})
    data = open_data(str(tmp_path))
    assert data.train.labels.tolist() == [1, 0] and data.test.labels.tolist() == [1, -1]
    assert data.train.classes == data.test.classes == ("4", "30")


# ------------------------------------------------------------------------------------------------- what is refused


def pair(folder: Path) -> Path:
    return tar(folder / "x.tar", {"a.png": picture(), "b.png": picture(7, size=(50, 50))})


def cut(path: Path, n: int) -> None:
    os.truncate(path, path.stat().st_size - n)


def overwrite(path: Path, place: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(place)
        file.write(data)


def squeeze(path: Path) -> None:
    path.write_bytes(gzip.compress(path.read_bytes()))


def twice(path: Path) -> None:
    path.write_bytes(path.read_bytes() * 2)


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda path: path.write_bytes(b"no tar" * 500), "x.tar cannot be read as a tar .damaged, or no tar.: "),
        (lambda path: path.write_bytes(b""), "x.tar cannot be read as a tar .*: empty file"),
        (lambda path: path.write_bytes(bytes(10240)), "no images in the tars of "),
        (lambda path: os.truncate(path, 1100), "x.tar is truncated: it lacks the mark at the end"),
        (lambda path: os.truncate(path, 1024), "x.tar is truncated: it lacks the mark at the end"),
        (lambda path: os.truncate(path, 1700), "x.tar is truncated: it ends within b.png"),
        (lambda path: overwrite(path, 1024, b"\1" * 512), "x.tar has something after byte 1,024 that is no member"),
        (squeeze, "x.tar is packed by gzip: unpack it"),
        (twice, "x.tar has something after byte .*: damaged, or two tars in one file"),
        (lambda path: tar(path, {"../x.png": picture()}), "x.tar has a member outside of it, '../x.png'"),
        (lambda path: tar(path, {"/x.png": picture()}), "x.tar has a member outside of it, '/x.png'"),
        (lambda path: tar(path, {"a/../../x.png": picture()}), "x.tar has a member outside of it"),
        (lambda path: tar(path, [("x.png", picture())] * 2), "x.tar has two members for x.png: one image"),
        (
            lambda path: tar(path, {"x.png": picture(), "x.jpg": picture()}),
            "x.tar has two members for x.jpg: one image",
        ),
        (lambda path: tar(path, [("x.png", b""), ("x.cls", b"1"), ("x.cls", b"2")]), "two members for x.cls"),
        (lambda path: tar(path, {"x.txt": b"1", "y.pth": b"2"}), r"no images in the tars of .*, but .*\.pth \(1\)"),
        (
            lambda path: tar(path, {"x.png": b"none"}),
            "none of the images sampled from .* can be read, for example x.png",
        ),
    ],
)
def test_damaged_tars(tmp_path: Path, harm: Callable[[Path], object], says: str) -> None:
    harm(pair(tmp_path))
    with pytest.raises(UserError, match=says) as told:
        open_data(str(tmp_path))
    assert "\n" not in str(told.value)


def test_headers_of_any_bytes_end_in_a_line(tmp_path: Path) -> None:
    """Whatever they claim: names and sizes of extended headers, chains of them, negative sizes."""
    rng = np.random.default_rng(0)
    member = {"a.png": picture(), f"{'n' * 300}.png": picture()}
    for format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        whole = tar(tmp_path / "x.tar", member, format=format).read_bytes()
        for _ in range(150):
            data = bytearray(whole)
            for place in rng.integers(0, len(whole), rng.integers(1, 4)):
                data[place] = rng.integers(256)
            (tmp_path / "x.tar").write_bytes(data)
            try:
                open_data(str(tmp_path)).train.take_readable(torch.tensor([0]))
            except UserError as error:
                assert "\n" not in str(error)
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 0
    (tmp_path / "x.tar").write_bytes(header.tobuf() * 5000)
    with pytest.raises(UserError, match="x.tar cannot be read as a tar"):
        open_data(str(tmp_path))


def test_a_tar_itself_is_no_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="x.tar is one tar: put it into a folder of its own, and give that"):
        open_data(str(pair(tmp_path)))


def test_packed_tars_alone(tmp_path: Path) -> None:
    pair(tmp_path).rename(tmp_path / "x.tar.gz")
    with pytest.raises(UserError, match="x.tar.gz is packed: unpack it to a .tar"):
        open_data(str(tmp_path))


def test_parts_in_one_folder(tmp_path: Path) -> None:
    for name in ("imagenet1k-train-0000.tar", "imagenet1k-validation-00.tar"):
        tar(tmp_path / name, {"x.png": picture()})
    with pytest.raises(
        UserError, match="tars of several parts .imagenet1k-train-0000.tar, imagenet1k-val.*into folders"
    ):
        open_data(str(tmp_path))
    (tmp_path / "imagenet1k-validation-00.tar").unlink()
    assert len(open_data(str(tmp_path)).train) == 1


# ------------------------------------------------------------------------------------------------------ the index


@pytest.fixture
def indexed(tmp_path: Path) -> Path:
    """Two tars of three images, with an index that knows their bytes."""
    for k in range(6):
        noise = np.random.default_rng(k).integers(0, 256, (40, 40, 3), np.uint8)
        (tmp_path / "set").mkdir(exist_ok=True)
        Image.fromarray(noise).save(tmp_path / "set" / f"{k}.png")
    make_shards(open_data(str(tmp_path / "set")), tmp_path / "out", per_shard=3)
    return tmp_path / "out"


def checked(folder: Path) -> list[str]:
    return check_shards(folder, lambda task, done, total: None)[0]


def last_member(folder: Path) -> tuple[str, int, int]:
    """The name, place and size of the last image of the first tar."""
    index = Index.read(folder / INDEX)
    i = max(np.flatnonzero(index.shard == 0).tolist(), key=lambda i: index.offset[i])
    return index.names[i], int(index.offset[i]), int(index.size[i])


def renamed(folder: Path) -> str:
    """Give the last image of the first tar another name, with the sum of the header mended."""
    name, offset, size = last_member(folder)
    header = tarfile.TarInfo(name.replace(".png", ".gif"))
    header.size = size
    overwrite(folder / "00000.tar", offset - 512, header.tobuf())
    return f"00000.tar lacks {name}"


def flipped(folder: Path) -> str:
    name, offset, _ = last_member(folder)
    overwrite(folder / "00000.tar", offset + 2000, b"flipped")
    return f"00000.tar: the bytes of {name} are not those of {INDEX}"


def exchanged(folder: Path) -> str:
    os.rename(folder / "00000.tar", folder / "t")
    os.rename(folder / "00001.tar", folder / "00000.tar")
    os.rename(folder / "t", folder / "00001.tar")
    return "begins otherwise than that of"


def test_a_check_finds_nothing_or_all(indexed: Path) -> None:
    assert checked(indexed) == [] == checked(indexed.parent), "also as a part"


@pytest.mark.parametrize("harm", [renamed, flipped])
def test_harm_that_only_a_check_sees(indexed: Path, harm: Callable[[Path], str]) -> None:
    says = harm(indexed)
    (line, *rest) = checked(indexed)
    assert line == f"{indexed}/{says}" and not rest
    open_data(str(indexed))


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda folder: (folder / "00001.tar").unlink(), "00001.tar is missing"),
        (lambda folder: shutil.copy(folder / "00001.tar", folder / "2.tar"), "2.tar is not in index.npz"),
        (lambda folder: cut(folder / "00000.tar", 600), r"00000.tar has [\d,]+ bytes, not the [\d,]+ of index.npz"),
        (exchanged, "00000.tar begins otherwise than that of index.npz"),
    ],
)
def test_a_stale_index_is_refused(indexed: Path, harm: Callable[[Path], object], says: str) -> None:
    harm(indexed)
    with pytest.raises(UserError, match=f"{says}: bring the shards of the index back, or remove it") as told:
        open_data(str(indexed))
    assert "\n" not in str(told.value)
    assert any(line in str(told.value) for line in checked(indexed))


def test_an_index_is_kept_on_request(tmp_path: Path) -> None:
    for part in ("train", "val"):
        tar(tmp_path / part / "0.tar", {"a.png": picture(), "a.cls": b"x", "b.png": picture(), "b.pth": b"?"})
    before = open_data(str(tmp_path))
    written = write_indexes(tmp_path)
    assert list(written) == [str(tmp_path / part / INDEX) for part in ("train", "val")]
    after = open_data(str(tmp_path))
    assert after.train.fingerprint() == before.train.fingerprint()
    assert after.notices == tuple(line for line in before.notices if "no index" not in line)
    assert checked(tmp_path) == []
    with pytest.raises(UserError, match="has an index: remove index.npz"):
        write_indexes(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"shard": np.array([0, 0, 0, 0, 0, 9])},
        {"shard": np.array([0, 0, 0, 0, 0, -1])},
        {"offset": np.full(6, 10**9)},
        {"offset": np.full(6, -5)},
        {"offset": np.full(5, 512)},
        {"size": np.full(6, 2**62)},
        {"size": np.full(6, 0.5)},
        {"labels": np.full(6, 3)},
        {"crc": np.zeros((6, 2), np.int64)},
        {"shards": np.frombuffer(b"../a.tar\0b.tar", np.uint8)},
        {"names": np.frombuffer(b"a\0b", np.uint8)},
        {"more": np.zeros(3)},
        {"format": None},
        {"names": None},
    ],
    ids=lambda change: next(iter(change)),
)
def test_an_index_that_is_none(indexed: Path, change: dict[str, np.ndarray | None]) -> None:
    with np.load(indexed / INDEX) as file:
        arrays = dict(file) | change
    np.savez(indexed / INDEX, **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(UserError, match="index.npz is no index of shards, or damaged: make the shards anew, or remove"):
        open_data(str(indexed))


def test_an_index_of_a_newer_version_or_none_at_all(indexed: Path) -> None:
    with np.load(indexed / INDEX) as file:
        np.savez(indexed / INDEX, **dict(file) | {"format": np.int64(3)})
    with pytest.raises(UserError, match="has format 3, this version reads formats up to 2"):
        open_data(str(indexed))
    (indexed / INDEX).write_bytes(b"?")
    with pytest.raises(UserError, match="cannot be read as an index of shards"):
        open_data(str(indexed))
    (indexed / INDEX).unlink()
    with pytest.raises(UserError, match="has no index to compare its tars with"):
        checked(indexed)
    (indexed / "empty").mkdir()
    with pytest.raises(UserError, match="empty has no tars"):
        checked(indexed / "empty")
