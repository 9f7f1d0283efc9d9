"""Which folder is for training, which for testing, and which has no labels."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from contrastkit.data import open_data
from contrastkit.errors import UserError
from contrastkit.training import Options
from tests.data.pictures import paths_of, png


def parts(root: Path, *folders: str, classes: tuple[str, ...] = ("ant", "bee")) -> None:
    """Two images of each class in each folder; a folder that ends in "-" has no classes."""
    for folder in folders:
        for place in [""] if folder.endswith("-") else classes:
            for k in range(2):
                png(root / folder.rstrip("-") / place / f"{k}.png")


@pytest.mark.parametrize(
    ("training", "test"),
    [
        ("Train", "Test"),
        ("TRAIN", "TEST"),
        ("training", "testing"),
        ("train", "dev"),
        ("train", "Eval"),
        ("train2017", "val2017"),
        ("training_set", "test_set"),
        ("TrainImages", "TestImages"),
    ],
)
def test_the_parts_are_known_by_the_usual_words(tmp_path: Path, training: str, test: str) -> None:
    parts(tmp_path, training, test)
    data = open_data(str(tmp_path))
    assert data.test is not None and data.train.classes == data.test.classes == ("ant", "bee")
    assert (len(data.train), len(data.test), len(data.pretrain)) == (4, 4, 4)
    assert data.notices == (f"{training}/ -> training (4 images), {test}/ -> test (4)",)


@pytest.mark.parametrize("name", ["trainer", "test1", "latest", "train_station", "evaluations", "dev_ops"])
def test_other_words_are_classes(tmp_path: Path, name: str) -> None:
    parts(tmp_path, name, "zebra", classes=("",))
    assert open_data(str(tmp_path)).train.classes == tuple(sorted([name, "zebra"]))


def test_a_part_with_classes_is_tested_on(tmp_path: Path) -> None:
    parts(tmp_path, "train", "val", "test-", "extra")  # as in ImageNet
    data = open_data(str(tmp_path))
    assert data.test is not None and data.test.labels is not None and data.test.labels.tolist() == [0, 0, 1, 1]
    assert data.notices == (
        "train/ -> training (4 images), val/ -> test (4); test/ has no class folders: not used; extra/ not used",
    )
    parts(tmp_path, "test")
    data = open_data(str(tmp_path))
    assert "test/ -> test (6); val/ not used" in data.notices[0], "of two with classes, test/"


def test_files_beside_the_parts_are_told(tmp_path: Path) -> None:
    parts(tmp_path, "train", "test")
    for name in ("a.png", "b.PNG"):
        png(tmp_path / name)
    (tmp_path / "README.txt").write_text("?")
    assert open_data(str(tmp_path)).notices[0].endswith("; files beside train/ (2) not used")


def test_the_test_part_can_be_chosen(tmp_path: Path) -> None:
    parts(tmp_path, "train", "Val", "test", "extra", classes=("ant", "bee"))
    png(tmp_path / "extra" / "ant" / "more.png")
    for name, n in (("val", 4), ("extra", 5)):
        data = open_data(str(tmp_path), test_part=name)
        assert data.test is not None and len(data.test) == n
    with pytest.raises(
        UserError, match="--test-part vall.*has no such folder, did you mean 'Val'.*it has Val, extra, test"
    ):
        open_data(str(tmp_path), test_part="vall")
    with pytest.raises(UserError, match="give one of them"):
        open_data(str(tmp_path), test_part="val", val_fraction=0.5)
    for other in (str(tmp_path / "train"), "digits"):
        with pytest.raises(UserError, match="beside train/ or of environments, which .* does not have"):
            open_data(other, test_part="val")


def test_parts_without_one_to_train_on_are_refused(tmp_path: Path) -> None:
    parts(tmp_path, "Test", "val")
    with pytest.raises(UserError, match=r"has Test, val, but no training part: rename .* or give .*Test itself"):
        open_data(str(tmp_path))
    parts(tmp_path, "train", "training")
    parts(tmp_path / "no_training", "unlabelled-", "test")
    with pytest.raises(UserError, match=r"has test, unlabelled, but no training part: .* or give .*no_training/test "):
        open_data(str(tmp_path / "no_training"))
    with pytest.raises(UserError, match="several training parts, train, training"):
        open_data(str(tmp_path))


def test_parts_at_another_level_are_not_taken_together_silently(tmp_path: Path) -> None:
    parts(tmp_path / "outer" / "archive", "train", "test")
    with pytest.raises(UserError, match="outer/archive has a training part of its own: give .*outer/archive$"):
        open_data(str(tmp_path / "outer"))
    parts(tmp_path / "twice" / "train", "train", "test")  # as some archives unpack
    with pytest.raises(UserError, match="twice/train has a training part of its own: give .*twice/train$"):
        open_data(str(tmp_path / "twice"))
    parts(tmp_path / "twice" / "train", "bus-", "ship-")
    assert open_data(str(tmp_path / "twice")).train.classes == ("bus", "ship", "test", "train"), "a vehicle, perhaps"
    parts(tmp_path / "inner", "bottle/train", "bottle/test", "cable/train")
    (notice,) = open_data(str(tmp_path / "inner")).notices
    assert "inside its folders are taken together" in notice
    parts(tmp_path / "mixed", "cat", "dog", "test")
    data = open_data(str(tmp_path / "mixed"))
    assert data.train.classes == ("cat", "dog", "test") and "test is taken for a class" in data.notices[0]
    parts(tmp_path / "mixed", "val")
    assert "test, val are taken for classes" in open_data(str(tmp_path / "mixed")).notices[0]


@pytest.mark.parametrize("word", ["unlabelled", "unlabeled", "Unsup"])
def test_unlabelled_images_among_the_classes_are_no_class(tmp_path: Path, word: str) -> None:
    parts(tmp_path, "train", "test")
    parts(tmp_path / "train", f"{word}-")
    data = open_data(str(tmp_path))
    assert data.train.classes == ("ant", "bee") and len(data.pretrain) == 6
    tops = [path.split("/")[0] for path in paths_of(data.pretrain)]
    labels = data.pretrain.label(torch.arange(6)).tolist()
    assert set(zip(tops, labels, strict=True)) == {("ant", 0), ("bee", 1), (word, -1)}


def test_a_held_out_part_replaces_the_sets_own(tmp_path: Path) -> None:
    parts(tmp_path, "train", "test")
    data = open_data(str(tmp_path), val_fraction=0.5)
    assert data.test is not None and len(data.test) == 2
    assert data.notices[1] == "the test part is 2 images of the training part (--val-fraction), not the set's own"


def test_the_options_of_a_run_reach_its_data(tmp_path: Path) -> None:
    parts(tmp_path, "train", "test", "val")
    png(tmp_path / "val" / "ant" / "clear.png", (9, 9, 9, 0), mode="RGBA")
    options = Options(data=str(tmp_path), test_part="val", background="#010203")
    data = options.open_data()
    assert data.test is not None and len(data.test) == 5
    assert data.test.fetch(torch.tensor([paths_of(data.test).index("ant/clear.png")]))[0][:, 0, 0].tolist() == [1, 2, 3]
    Image.new("I;16", (4, 4), 500).save(tmp_path / "train" / "ant" / "dark.png")
    assert (
        Options(data=str(tmp_path), stretch=True)
        .open_data()
        .notices[1]
        .endswith("from 500 to 500, which become black and white")
    )
    np.savez(tmp_path / "x.npz", images=np.zeros((2, 5, 5, 5), np.uint8))
    assert Options(data=str(tmp_path / "x.npz"), layout="NCHW").open_data().train.channels == 5
