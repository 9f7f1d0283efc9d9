"""Sets for segmentation: what is read, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from contrastkit.errors import UserError
from contrastkit.transfer.masks import IGNORED, open_masks
from tests.transfer.sets import halves, write_masks

LISTS = {"train": {"a": halves(0), "b": halves(1, classes=(2, 1))}, "val": {"c": halves(2)}}


def test_masks_are_those_of_the_files_and_255_is_no_class(tmp_path: Path) -> None:
    mask = halves(0)
    mask[:3] = IGNORED
    data = open_masks(write_masks(tmp_path / "VOC2012", LISTS | {"train": {"a": mask, "b": halves(1, classes=(2, 1))}}))
    image, read = data.train.read(0, 3)
    assert image.shape == (3, 24, 32)
    assert torch.equal(read, torch.from_numpy(mask.astype(np.int64)))
    assert (len(data.train), len(data.test)) == (2, 1)
    assert data.classes[:3] == ("background", "aeroplane", "bicycle")
    counts = sum(np.bincount(each.ravel(), minlength=256)[:255] for each in (mask, halves(1, classes=(2, 1))))
    assert data.commonest == counts.argmax()


def test_names_of_classes_are_told_if_they_are_guessed(tmp_path: Path) -> None:
    root = write_masks(tmp_path / "fields", LISTS)
    numbered = open_masks(root)
    assert numbered.classes == ("0", "1", "2")
    assert any("classes have no names" in line for line in numbered.notices)
    (root / "classes.txt").write_text("soil\nwheat\nmaize\n")
    named = open_masks(root)
    assert named.classes == ("soil", "wheat", "maize")
    assert not any("names" in line for line in named.notices)
    (root / "classes.txt").write_text("soil\nwheat\n")
    with pytest.raises(UserError, match="has the class 2, but only 2 names"):
        open_masks(root)


def test_a_pet_is_1_its_background_0_and_its_border_no_class(tmp_path: Path) -> None:
    trimap = np.array([[1, 2, 3, 3]] * 4, np.uint8)
    data = open_masks(write_masks(tmp_path, {"trainval": {"a": trimap}, "test": {"b": trimap}}, pets=True))
    assert data.train.read(0, 3)[1][0].tolist() == [1, 0, IGNORED, IGNORED]
    assert data.classes == ("background", "pet")
    with pytest.raises(UserError, match=r"a.png is no trimap"):
        open_masks(write_masks(tmp_path, {"trainval": {"a": 0 * trimap}, "test": {"b": trimap}}, pets=True))


def test_a_mask_of_another_size_is_refused_with_its_name(tmp_path: Path) -> None:
    root = write_masks(tmp_path, LISTS)
    Image.fromarray(halves(0, size=(32, 24))).save(root / "SegmentationClass" / "a.png")
    with pytest.raises(UserError, match=r"a.png has 24 x 32 pixels, its image JPEGImages/a.png 32 x 24"):
        open_masks(root)


def test_an_image_that_is_turned_by_exif_is_refused(tmp_path: Path) -> None:
    """Its mask is not turned, or if it is, both have the same size."""
    root = write_masks(tmp_path, LISTS)
    with Image.open(root / "JPEGImages" / "a.png") as image:
        exif = Image.Exif()
        exif[274] = 6
        image.save(root / "JPEGImages" / "a.jpg", exif=exif)
    (root / "JPEGImages" / "a.png").unlink()
    with pytest.raises(UserError, match=r"a.png has 32 x 24 pixels, its image JPEGImages/a.jpg 24 x 32"):
        open_masks(root)


@pytest.mark.parametrize(
    ("mode", "says"),
    [("RGB", "is of mode RGB: a mask holds a class number"), (None, "no mask .*a.png"), ("text", "cannot be read")],
)
def test_what_is_no_mask_is_refused(mode: str | None, says: str, tmp_path: Path) -> None:
    root = write_masks(tmp_path, LISTS)
    file = root / "SegmentationClass" / "a.png"
    if mode == "RGB":
        Image.fromarray(halves(0)).convert("RGB").save(file)
    elif mode is None:
        file.unlink()
    else:
        file.write_text("no image")
    with pytest.raises(UserError, match=says):
        open_masks(root)


def test_a_palette_is_not_looked_up(tmp_path: Path) -> None:
    root = write_masks(tmp_path, LISTS)
    mask = Image.fromarray(halves(0)).convert("P")
    mask.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    mask.save(root / "SegmentationClass" / "a.png")
    assert torch.equal(open_masks(root).train.read(0, 3)[1], torch.from_numpy(halves(0).astype(np.int64)))


@pytest.mark.parametrize(
    ("lists", "says"),
    [
        ({"train": {"a": halves(0)}, "val": {"a": halves(0)}}, "1 images are in .* and in"),
        ({"train": {"a": 0 * halves(0)}, "val": {"b": 0 * halves(0)}}, "have the same class"),
        ({"train": {"a": 0 * halves(0) + 255}, "val": {"b": 0 * halves(0) + 255}}, "have the same class, or none"),
        ({"mine": {"a": halves(0)}, "val": {"b": halves(0)}}, "no list to train on: name one with --train-list"),
        ({"train": {}, "val": {"b": halves(0)}}, "train.txt is empty"),
    ],
)
def test_a_set_that_cannot_be_used_is_refused(lists, says: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=says):
        open_masks(write_masks(tmp_path, lists))


def test_a_folder_without_images_is_refused_with_the_layout(tmp_path: Path) -> None:
    root = write_masks(tmp_path / "set", {"train": {"a": halves(0)}, "val": {"b": halves(1)}})
    (root / "JPEGImages").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="has neither JPEGImages/ and SegmentationClass/ "):
        open_masks(root)


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has neither JPEGImages/ and SegmentationClass/"):
        open_masks(tmp_path)
    with pytest.raises(UserError, match="is no folder"):
        open_masks(tmp_path / "nowhere")
    write_masks(tmp_path / "VOC2007", LISTS)
    write_masks(tmp_path / "VOC2012", LISTS)
    with pytest.raises(UserError, match=r"several sets \(VOC2007, VOC2012\), which may share images"):
        open_masks(tmp_path)
