"""Folders of images: classes, parts, and errors."""

import pytest
import torch

from contrastkit.data import open_data
from contrastkit.errors import UserError
from tests.data.pictures import paths_of, png


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
    assert paths_of(data.train) == ["ant/z.png", "cat/b.png", "cat/more/deep/a.PNG", "loose.png"]
    assert data.train.labels.tolist() == [0, 1, 1, -1]
    assert (data.train.channels, data.train.size) == (3, 9)


def test_flat_folder_has_no_labels(tmp_path):
    for k in range(3):
        png(tmp_path / f"{k}.png")
    source = open_data(str(tmp_path)).train
    assert source.labels is None
    assert source.classes is None
    assert source.label(torch.arange(3)).tolist() == [-1] * 3
    png(tmp_path / "nested" / "images" / "4.png")  # a single folder is no class
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
    with pytest.raises(UserError, match="class 'c', which is not in the training part"):
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
