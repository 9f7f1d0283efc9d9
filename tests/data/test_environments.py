"""DIR/ENVIRONMENT/CLASS: classes and environments of the images, the one that is held out, what is said and refused."""

from pathlib import Path

import pytest

from contrastkit.data import open_data
from contrastkit.errors import UserError
from contrastkit.training.plan import absolute
from tests.data.pictures import paths_of, png

CLASSES = ("ant", "bee", "cow")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for k, place in enumerate(("photo", "sketch", "painting")):
        for name in CLASSES[: 2 if place == "painting" else 3]:
            for i in range(2 + k):
                png(tmp_path / "set" / place / name / ("deep" if i else "") / f"{i}.png")
    return tmp_path / "set"


def test_the_first_level_is_the_environment_and_the_second_the_class(root: Path) -> None:
    data = open_data(f"{root}/ENVIRONMENT/CLASS")
    assert (data.name, data.test, data.train.classes) == ("set", None, CLASSES)
    assert data.train.environment is not None and data.train.labels is not None and data.pretrain is data.train
    found = zip(paths_of(data.train), data.train.environment, data.train.labels, strict=True)
    assert {(str(e), CLASSES[y]) for path, e, y in found if path.startswith("sketch/bee")} == {("sketch", "bee")}
    for path, e, y in zip(paths_of(data.train), data.train.environment, data.train.labels, strict=True):
        assert path.split("/")[:2] == [e, CLASSES[y]]
    assert len(data.train) == 3 * 2 + 3 * 3 + 2 * 4
    assert data.notices == (
        "3 environments, painting (8 images), photo (6 images), sketch (9 images), of 3 classes, ant, bee, cow",
        "no images of cow in painting",
    )


def test_an_environment_is_held_out(root: Path) -> None:
    data = open_data(f"{root}/ENVIRONMENT/CLASS/", test_part="Sketch")
    assert data.test is not None and data.pretrain is data.train
    assert {path.split("/")[0] for path in paths_of(data.train)} == {"painting", "photo"}
    assert {path.split("/")[0] for path in paths_of(data.test)} == {"sketch"} and len(data.test) == 9
    assert data.test.environment is not None and data.test.environment.tolist() == ["sketch"] * 9
    assert data.notices[-1] == "held out to test on: sketch (9 images); training: the other 14"
    other = open_data(f"{root}/ENVIRONMENT/CLASS", test_part="photo")
    assert data.fingerprint() != other.fingerprint(), "else accuracies on both would be compared"


def test_held_out_images_of_every_environment(root: Path) -> None:
    data = open_data(f"{root}/ENVIRONMENT/CLASS", val_fraction=0.4, seed=3)
    assert data.test is not None and data.test.environment is not None
    assert [path.split("/")[0] for path in paths_of(data.test)] == data.test.environment.tolist()


def test_a_run_finds_them_from_any_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    assert absolute("set/ENVIRONMENT/CLASS") == f"{root}/ENVIRONMENT/CLASS"


def test_a_folder_of_that_name_is_a_folder(tmp_path: Path) -> None:
    for name in CLASSES:
        png(tmp_path / "ENVIRONMENT" / "CLASS" / name / "1.png")
    assert open_data(f"{tmp_path}/ENVIRONMENT/CLASS").train.classes == CLASSES


def test_folders_that_look_like_environments_are_told(root: Path) -> None:
    """They stay classes: a class may have the same folders as another."""
    (line,) = open_data(str(root)).notices[:1] or [""]
    assert "ENVIRONMENT" not in line, "painting has no cow"
    png(root / "painting" / "cow" / "0.png")
    data = open_data(str(root))
    assert data.train.classes == ("painting", "photo", "sketch") and data.train.environment is None
    assert data.notices[0].endswith(
        f"has the same folders, ant, bee, cow: if these are the classes, of several environments, give "
        f"{root}/ENVIRONMENT/CLASS"
    )


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ([], "no images in"),
        (["a/x/1.png", "a/y/1.png"], "has a alone: give at least two environments"),
        (["a/x/1.png", "b/x/1.png"], "has x alone: give at least two classes"),
        (["a/x/1.png", "a/y/1.png", "b/x/1.png", "b/2.png"], "1 of the 4 images in .* for example b/2.png"),
        (["train/a/x/1.png"], "has a training part: give .*/train/ENVIRONMENT/CLASS"),
    ],
)
def test_what_is_no_set_of_environments_is_refused(files: list[str], says: str, tmp_path: Path) -> None:
    for file in files:
        png(tmp_path / file)
    with pytest.raises(UserError, match=says):
        open_data(f"{tmp_path}/ENVIRONMENT/CLASS")


def test_an_environment_that_is_not_there(root: Path) -> None:
    with pytest.raises(
        UserError, match="--hold-out sketches: .* has no such folder, did you mean 'sketch'.*it has painting"
    ):
        open_data(f"{root}/ENVIRONMENT/CLASS", test_part="sketches")
    with pytest.raises(UserError, match="nowhere is not a folder"):
        open_data("nowhere/ENVIRONMENT/CLASS")


@pytest.mark.parametrize("words", ["CLASS/ENVIRONMENT", "environment/class", "Class/Environment"])
def test_words_in_another_order_or_case_are_told(words: str, root: Path) -> None:
    with pytest.raises(UserError, match=f"for environments, give {root}/ENVIRONMENT/CLASS, in these words"):
        open_data(f"{root}/{words}")


def test_an_environment_of_a_folder_without_the_words(root: Path) -> None:
    with pytest.raises(UserError, match=f"does not have: if these are .* give {root}/ENVIRONMENT/CLASS$"):
        open_data(str(root), test_part="sketch")
    with pytest.raises(UserError, match="ant does not have$"):  # no two levels of folders
        open_data(str(root / "sketch" / "ant"), test_part="deep")
