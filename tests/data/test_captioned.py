"""Images with captions: the formats, the parts, what is left out, and what is refused."""

import pytest
import torch

from contrastkit.data import Captions, open_data
from contrastkit.errors import UserError
from tests.data.pictures import paths_of, png


def folder(root, images=("a.png", "b.png", "c.png", "d.png"), below="images"):
    for name in images:
        png(root / below / name)
    return root


def texts(source):
    return [source.captions.of(i) for i in range(len(source))]


def test_flickrs_format_with_lists(tmp_path):
    lines = [f"{name}.png#{k}\tThe  {name}, no. {k}\n" for name in "abcd" for k in range(2)]
    (folder(tmp_path) / "captions.token").write_text("".join(lines))
    (tmp_path / "train.txt").write_text("c.png\na.png\na.png\n\n")
    (tmp_path / "test.txt").write_text("images/b.png\r\n")
    (tmp_path / "val.txt").write_text("d.png")
    (tmp_path / "readme.txt").write_text("no list")
    data = open_data(str(tmp_path))
    assert paths_of(data.train) == ["images/c.png", "images/a.png"]
    assert texts(data.train) == [("The c, no. 0", "The c, no. 1"), ("The a, no. 0", "The a, no. 1")]
    assert texts(data.test) == [("The b, no. 0", "The b, no. 1")]
    assert data.train.labels is None and data.pretrain is data.train
    assert data.notices == (
        "train.txt -> training (2 images, 4 captions), test.txt -> test (1 images, 2 captions); val.txt not used",
    )
    assert texts(open_data(str(tmp_path), test_part="val").test) == [("The d, no. 0", "The d, no. 1")]
    with pytest.raises(UserError, match=r"--test-part dev: .* has no dev.txt \(it has test, val\)"):
        open_data(str(tmp_path), test_part="dev")


@pytest.mark.parametrize("below", ["images", "."])
def test_a_table_in_the_folder(tmp_path, below):
    root = folder(tmp_path, ["a.png", "b.png"], below)
    rows = [("b.png", "two, of them"), (f"{below}/a.png", "one"), ("b.png", 'a "b"')]
    quoted = [f'{path},"{text.replace(chr(34), chr(34) * 2)}"' for path, text in rows if not path.startswith("./")]
    quoted += ["a.png,one"] if below == "." else []
    (root / "captions.csv").write_text("\n".join(["path,caption", *quoted]))
    source = open_data(str(root)).train
    assert dict(zip((path[-5:] for path in source.paths), texts(source), strict=True)) == {
        "b.png": ("two, of them", 'a "b"'),
        "a.png": ("one",),
    }


def test_a_table_anywhere(tmp_path):
    png(tmp_path / "here" / "a.png")
    png(tmp_path / "there" / "b.png")
    table = tmp_path / "here" / "list.csv"
    table.write_text(f"caption,other,path\nfirst,1,a.png\nsecond,2,{tmp_path}/there/b.png\n\nthird,3,a.png\n")
    data = open_data(str(table))
    assert (data.name, data.test, texts(data.train)) == ("list", None, [("first", "third"), ("second",)])
    assert data.train.take(torch.arange(2))[0][1].shape[0] == 3


def test_without_a_list_for_training(tmp_path):
    """The images in no list; where there are none, those of the part that is preferred less to test on."""
    (folder(tmp_path) / "captions.csv").write_text("path,caption\n" + "".join(f"{n}.png,{n}\n" for n in "abcd"))
    (tmp_path / "test.txt").write_text("b.png\n")
    (tmp_path / "val.txt").write_text("d.png\n")
    data = open_data(str(tmp_path))
    assert (texts(data.train), texts(data.test)) == ([("a",), ("c",)], [("b",)])
    assert data.notices[0].startswith(
        "images in no list -> training (2 images, 2 captions), test.txt -> test (1 images"
    )
    (tmp_path / "val.txt").write_text("d.png\na.png\nc.png")
    data = open_data(str(tmp_path))
    assert (texts(data.train), texts(data.test)) == ([("d",), ("a",), ("c",)], [("b",)])
    assert data.notices[0].startswith(
        "for want of train.txt, val.txt -> training (3 images, 3 captions), test.txt -> te"
    )
    data = open_data(str(tmp_path), test_part="val")
    assert (texts(data.train), len(data.test)) == ([("b",)], 3)


def test_what_is_left_out_is_counted(tmp_path):
    lines = ["a.png#0\tone", "a.png#1\t  ", "b.png#0\t\t", "gone.png#0\ttwo", "gone.png#1\tthree", "c.png#0\tfour"]
    (folder(tmp_path) / "captions.token").write_text("\n".join(lines))
    data = open_data(str(tmp_path))
    assert texts(data.train) == [("one",), ("four",)]
    assert data.notices == (
        "images -> training (2 images, 2 captions)",
        f"{tmp_path}/captions.token: left out empty captions (2), captions without an image (2, such as those of "
        "gone.png), images without a caption (2, such as images/b.png)",
    )


def test_a_part_keeps_the_captions_of_its_images(tmp_path):
    (folder(tmp_path) / "captions.csv").write_text("path,caption\n" + "".join(f"{n}.png,{n}\n" * 2 for n in "abcd"))
    source = open_data(str(tmp_path)).train
    assert texts(source.subset(torch.tensor([2, 0]))) == [("c", "c"), ("a", "a")]
    data = open_data(str(tmp_path), val_fraction=0.5)
    assert sorted(texts(data.train) + texts(data.test)) == [(n, n) for n in "abcd"]
    assert [path[-5] for path in data.train.paths] == [text for text, _ in texts(data.train)]
    assert source.captions.image.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_other_captions_are_other_data(tmp_path):
    table = folder(tmp_path) / "captions.csv"
    table.write_text("path,caption\na.png,one\na.png,two\nb.png,three\n")
    before = open_data(str(tmp_path)).train
    assert before.changed_since(before.fingerprint()) == ""
    for other in ("a.png,one\na.png,2\nb.png,three\n", "a.png,one\nb.png,two\nb.png,three\n"):
        table.write_text("path,caption\n" + other)
        after = open_data(str(tmp_path)).train
        assert after.changed_since(before.fingerprint()) == "other images, labels or captions"
    assert Captions([["a", "b"], ["c"]]).bytes != Captions([["a"], ["b", "c"]]).bytes


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("captions.token", "a.png#0 one", r"line 1 of .*token is not NAME#NUMBER<TAB>CAPTION"),
        ("captions.token", "a.png#0\tone\nb.png\ttwo", "line 2 of .* is not NAME#NUMBER<TAB>CAPTION"),
        (
            "captions.token",
            "x.png#0\tone",
            r"no caption of an image that is there: captions without an image \(1, such as",
        ),
        ("captions.token", "a.png#0\t ", r"no caption of an image that is there: empty captions \(1\), images without"),
        ("captions.token", "", "no caption of an image that is there: images without a caption"),
        (
            "captions.csv",
            "file,caption\na.png,one",
            "has no column path: a table of captions has the columns path, capt",
        ),
        ("captions.csv", "path,caption\na.png", "line 2 of .* has no caption"),
        ("captions.csv", 'path,caption\na.png,"one', "line 2 of .* cannot be read: unexpected end of data"),
    ],
)
def test_damaged_captions_are_refused(tmp_path, name, text, says):
    (folder(tmp_path) / name).write_text(text)
    with pytest.raises(UserError, match=says):
        open_data(str(tmp_path))


def test_damaged_folders_are_refused(tmp_path):
    (folder(tmp_path) / "captions.csv").write_text("path,caption\na.png,one\nb.png,two\n")
    (tmp_path / "test.txt").write_text("c.png\n")
    with pytest.raises(UserError, match=r"test.txt names no image with captions: give one name a line, such as a.png"):
        open_data(str(tmp_path))
    (tmp_path / "test.txt").write_text("a.png\n")
    (tmp_path / "train.txt").write_text("b.png\na.png\n")
    with pytest.raises(UserError, match=r"images/a.png is both in train.txt and in test.txt"):
        open_data(str(tmp_path))
    (tmp_path / "training.txt").write_text("b.png\n")
    with pytest.raises(UserError, match="several lists for training, train, training"):
        open_data(str(tmp_path))
    (tmp_path / "train.txt").unlink()
    (tmp_path / "training.txt").unlink()
    (tmp_path / "test.txt").write_text("a.png\nb.png")
    with pytest.raises(UserError, match="nothing but test.txt to train on"):
        open_data(str(tmp_path))
    (tmp_path / "captions.token").write_text("a.png#0\tone")
    with pytest.raises(UserError, match="has both captions.token and captions.csv"):
        open_data(str(tmp_path))
    (tmp_path / "captions.csv").write_bytes(b"path,caption\na.png,\xff\n")
    (tmp_path / "captions.token").unlink()
    with pytest.raises(UserError, match="is not in UTF-8"):
        open_data(str(tmp_path))
