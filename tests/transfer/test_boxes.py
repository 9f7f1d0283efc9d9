"""Sets for detection: what is read, and what is refused."""

import os
from pathlib import Path

import pytest
import torch

from contrastkit.errors import UserError
from contrastkit.transfer.boxes import open_boxes
from tests.transfer.sets import write_boxes, xml

CAT = [("cat", 1, 1, 10, 20)]
ONE = {"trainval": {"a": xml(CAT)}, "test": {"b": xml(CAT)}}


def test_boxes_labels_and_difficult_objects_are_those_of_the_files(tmp_path: Path) -> None:
    objects = [("dog", 5, 6, 20, 25), ("cat", 1, 1, 40, 30), ("dog", 7.5, 2, 9, 30)]
    data = open_boxes(write_boxes(tmp_path, ONE | {"trainval": {"a": xml(objects, difficult=[2]), "e": xml([])}}))
    assert data.classes == ("cat", "dog")
    image, boxes = data.train.read(0, 3)
    # VOC's pixels 5 ... 20 are those from 4 to 20, counted from 0.
    assert boxes.box.tolist() == [[4, 5, 20, 25], [0, 0, 40, 30], [6.5, 1, 9, 30]]
    assert boxes.label.tolist() == [2, 1, 2]
    assert boxes.difficult.tolist() == [False, False, True]
    assert image.shape == (3, 30, 40)
    assert data.train.read(1, 1)[0].shape == (1, 30, 40)
    assert data.train.boxes[1].box.shape == (0, 4)
    assert "trainval: 2 images, 3 boxes, 1 images without a box" in data.notices[0]


def test_boxes_without_an_area_are_left_out_and_counted(tmp_path: Path) -> None:
    """bccd has two, whose corners coincide; others lie beside their image."""
    flat = [("cat", 453, 81, 453, 81), ("cat", 3, 3, 3, 9), ("cat", 50, 1, 60, 9), ("cat", 9, 9, 3, 3)]
    data = open_boxes(write_boxes(tmp_path, ONE | {"trainval": {"a": xml(CAT + flat), "c": xml(flat[:1])}}))
    assert [len(each.box) for each in data.train.boxes] == [1, 0]
    assert "left out boxes without an area in their image (5): a, a, ..., c" in data.notices


def test_boxes_are_cut_at_the_edge_of_their_image_which_is_told(tmp_path: Path) -> None:
    data = open_boxes(write_boxes(tmp_path, ONE | {"trainval": {"a": xml([("cat", -5, 2, 80, 31), *CAT])}}))
    assert data.train.boxes[0].box.tolist() == [[0, 1, 40, 30], [0, 0, 10, 20]]
    assert "cut boxes that reach beyond their image (1): a" in data.notices
    edge = open_boxes(write_boxes(tmp_path, ONE | {"trainval": {"a": xml([("cat", 0, 0, 40, 30)])}}))
    assert edge.train.boxes[0].box.tolist() == [[0, 0, 40, 30]]
    assert not any(line.startswith("cut") for line in edge.notices)  # numbers from 0 are usual


def test_lists_are_chosen_by_their_usual_names(tmp_path: Path) -> None:
    lists = {name: {name[0] + name: xml(CAT)} for name in ("train", "val", "trainval", "test", "mine")}
    root = write_boxes(tmp_path / "VOC2012", lists)

    def chosen(**how: str) -> tuple[str, ...]:
        return tuple(line.split(":")[0] for line in open_boxes(tmp_path, **how).notices[:2])

    assert chosen() == ("VOC2012/trainval", "VOC2012/test")
    assert chosen(train="mine", test="train") == ("VOC2012/mine", "VOC2012/train")
    (root / "Annotations" / "ttest.xml").unlink()  # as VOC2012's own test images have none
    assert chosen() == ("VOC2012/train", "VOC2012/val")
    with pytest.raises(UserError, match=r"--test-list: no list .*nine.txt, did you mean 'mine'"):
        chosen(test="nine")


def test_years_beside_each_other_are_joined_as_voc07_12(tmp_path: Path) -> None:
    write_boxes(tmp_path / "VOC2007", {"trainval": {"a": xml(CAT)}, "test": {"b": xml(CAT)}})
    write_boxes(tmp_path / "VOC2012", {"trainval": {"a": xml(CAT), "d": xml([("dog", 1, 1, 9, 9)])}})
    data = open_boxes(tmp_path)
    assert [len(part) for part in (data.train, data.test)] == [3, 1]
    assert data.classes == ("cat", "dog")
    assert data.notices[0].startswith("VOC2007/trainval + VOC2012/trainval: 3 images")


def test_a_test_list_of_one_year_decides_for_all(tmp_path: Path) -> None:
    """VOC07+12: VOC2012's val is a part of its trainval, and all of that is trained on."""
    for year, names in (("VOC2007", ("train", "val", "trainval", "test")), ("VOC2012", ("train", "val", "trainval"))):
        images = {name: {f"{year}{name}": xml(CAT)} for name in names}
        images["trainval"] = images["train"] | images["val"]
        write_boxes(tmp_path / year, images)

    def lists(**how: str) -> list[str]:
        return [line.split(":")[0] for line in open_boxes(tmp_path, **how).notices]

    lacking = "nothing to test on in VOC2012"
    assert lists() == ["VOC2007/trainval + VOC2012/trainval", "VOC2007/test", lacking]
    assert lists(train="val", test="test") == ["VOC2007/val + VOC2012/val", "VOC2007/test", lacking]
    assert f"{lacking}: no list test of annotated images" in open_boxes(tmp_path).notices
    assert lists(train="test", test="val")[2:] == ["nothing to train on in VOC2012"]
    with pytest.raises(UserError, match="--train-list: no list .*VOC2007.*mine.txt"):
        open_boxes(tmp_path, train="mine")
    (tmp_path / "VOC2007" / "ImageSets" / "Main" / "test.txt").unlink()
    assert lists() == ["VOC2007/train + VOC2012/train", "VOC2007/val + VOC2012/val"]


@pytest.mark.parametrize(
    ("lists", "says"),
    [
        (ONE | {"test": {"a": xml(CAT)}}, "1 images are in .* and in .*, as a"),
        (ONE | {"test": {"b": xml([("dog", 1, 1, 5, 5)])}}, "b.xml has the class 'dog'"),
        (ONE | {"test": {"b": xml([])}}, "no image of .*test.txt has a box"),
        (ONE | {"trainval": {"a": xml([])}}, "no image of .*trainval.txt has a box|has the class 'cat'"),
        (ONE | {"trainval": {}}, "no list to train on"),
        (ONE | {"trainval": {"a": "<annotation><object>"}}, "a.xml is no XML"),
        (ONE | {"trainval": {"a": xml([("", 1, 1, 5, 5)])}}, "a.xml has an object without a name"),
        (ONE | {"trainval": {"a": xml([("cat", 1, float("nan"), 5, 5)])}}, "bndbox/ymin must be a number, not 'nan'"),
        (ONE | {"trainval": {"a": xml(CAT).replace("<ymin>1</ymin>", "")}}, "bndbox/ymin must be a number, not None"),
    ],
)
def test_a_set_that_cannot_be_used_is_refused(lists, says: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=says):
        open_boxes(write_boxes(tmp_path, lists))


def test_an_image_of_another_size_than_annotated_is_refused_with_its_name(tmp_path: Path) -> None:
    data = open_boxes(write_boxes(tmp_path, ONE | {"trainval": {"a": xml(CAT, size=(30, 40))}}))
    with pytest.raises(UserError, match=r"a.png has 40 x 30 pixels, its annotation says 30 x 40"):
        data.train.read(0, 3)
    unsaid = open_boxes(write_boxes(tmp_path, ONE | {"trainval": {"a": xml(CAT, size=None)}}))
    assert unsaid.train.read(0, 3)[1].size is None


def test_a_folder_without_images_is_refused_with_the_layout(tmp_path: Path) -> None:
    write_boxes(tmp_path / "VOC2007", ONE)
    (write_boxes(tmp_path / "VOC2012", ONE) / "JPEGImages").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="VOC2012 has no folder JPEGImages/ beside Annotations/"):
        open_boxes(tmp_path)


def test_an_image_that_is_not_there_is_refused(tmp_path: Path) -> None:
    root = write_boxes(tmp_path, ONE)
    os.unlink(root / "JPEGImages" / "b.png")
    with pytest.raises(UserError, match="lists b, of which there is no image in"):
        open_boxes(root)


LAUGHS = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 12))
ENTITIES = {
    "billion laughs": f'<!DOCTYPE a [<!ENTITY l0 "ha">{LAUGHS}]><annotation><size>&l11;</size></annotation>',
    "another file": '<!DOCTYPE a [<!ENTITY f SYSTEM "file:///etc/passwd">]><annotation>&f;</annotation>',
    "another address": '<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd"><annotation/>',
}


@pytest.mark.parametrize("text", ENTITIES.values(), ids=ENTITIES)
def test_a_document_type_is_refused_before_anything_is_expanded(text: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="declares a document type"):
        open_boxes(write_boxes(tmp_path, ONE | {"trainval": {"a": text}}))


DATA = os.environ.get("CONTRASTKIT_DATA")


@pytest.mark.skipif(not DATA or not Path(DATA, "bccd").is_dir(), reason="needs bccd in CONTRASTKIT_DATA")
def test_blood_cells_are_those_that_are_published() -> None:
    data = open_boxes(Path(str(DATA), "bccd"))
    assert data.classes == ("Platelets", "RBC", "WBC")
    labels = torch.cat([each.label for part in (data.train, data.test) for each in part.boxes])
    assert torch.bincount(labels).tolist() == [0, 361, 4155 - 2, 372]  # two red cells have no area
    assert "left out boxes without an area in their image (2): BloodImage_00338, BloodImage_00343" in data.notices
