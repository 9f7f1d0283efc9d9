"""The values of --data, errors, and the validation part."""

from pathlib import Path

import pytest
import torch

from contrastkit.data import open_data
from contrastkit.errors import UserError
from contrastkit.training.plan import absolute
from tests.data.pictures import images_of, paths_of, png


def test_an_unknown_name_suggests_the_nearest(tmp_path):
    with pytest.raises(UserError, match="'cifar-10', did you mean 'cifar10'"):
        open_data("cifar-10")
    with pytest.raises(UserError, match="no data set or path"):
        open_data(str(tmp_path / "nowhere"))
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UserError, match="neither a folder of images nor an .npz"):
        open_data(str(tmp_path / "notes.txt"))


@pytest.mark.parametrize(("path", "says"), [("", "a path is empty"), ("~nobody-of-this-name/set", "no such user")])
def test_a_path_of_nothing_or_nobody(path: str, says: str) -> None:
    """An empty one is not the current folder."""
    for data in (path, f"rgb={path},depth={path}") if path else (path,):
        with pytest.raises(UserError, match=says):
            open_data(data)
        with pytest.raises(UserError, match=says):
            absolute(data)


def test_validation_part():
    whole = open_data("digits").train
    data = open_data("digits", val_fraction=0.2, seed=3)
    assert (len(data.train), len(data.test)) == (1150, 287)
    assert data.pretrain is data.train
    both = torch.cat([images_of(data.train), images_of(data.test)]).flatten(1)
    assert sorted(both.tolist()) == sorted(images_of(whole).flatten(1).tolist())
    again, other = open_data("digits", val_fraction=0.2, seed=3), open_data("digits", val_fraction=0.2, seed=4)
    assert again.test.fingerprint() == data.test.fingerprint() != other.test.fingerprint()
    assert whole.fingerprint() != data.train.fingerprint()


def test_validation_part_keeps_the_poses_of_a_digit_together():
    data = open_data("affdigits", val_fraction=0.1, seed=1)
    whole = open_data("affdigits").train
    digit = {image.numpy().tobytes(): k % 1437 for k, image in enumerate(images_of(whole))}  # pose by pose
    train, held_out = (
        {digit[image.numpy().tobytes()] for image in images_of(part)} for part in (data.train, data.test)
    )
    assert len(held_out) == 144 and len(data.test) == 6 * 144
    assert len(train) == 1437 - 144 and not train & held_out


def test_validation_part_of_files(tmp_path):
    for k in range(10):
        png(tmp_path / "ab"[k % 2] / f"{k}.png", (k, 0, 0))
    data = open_data(str(tmp_path), val_fraction=0.3)
    assert len(data.test) == 3
    assert set(paths_of(data.train)) | set(paths_of(data.test)) == set(paths_of(open_data(str(tmp_path)).train))
    assert not set(paths_of(data.train)) & set(paths_of(data.test))
    for source in (data.train, data.test):
        assert [source.classes[k] for k in source.labels.tolist()] == [p[0] for p in paths_of(source)]


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1e-6])
def test_validation_part_that_leaves_nothing(fraction):
    with pytest.raises(UserError, match="leaves a part empty"):
        open_data("digits", val_fraction=fraction)


def test_a_name_is_the_set_even_beside_a_folder_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_data("digits").notices == ()
    (tmp_path / "digits").mkdir()
    assert open_data("digits").notices == ("digits is the set of that name; for the folder give ./digits",)
