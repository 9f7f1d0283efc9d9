"""The files below a folder, where links lead to them and other things lie among them."""

import os
from pathlib import Path

import pytest

from contrastkit.data import open_data
from contrastkit.data.walk import walk
from contrastkit.errors import UserError
from tests.data.pictures import paths_of, png

PNG = {".png"}


def test_links_that_go_round_multiply_nothing(tmp_path: Path) -> None:
    for k in range(4):
        png(tmp_path / "set" / "ab"[k % 2] / f"{k}.png")
    (tmp_path / "set" / "a" / "up").symlink_to("..")
    (tmp_path / "set" / "a" / "further").symlink_to("../..")
    (tmp_path / "set" / "b" / "itself").symlink_to("itself")
    (tmp_path / "set" / "also_a").symlink_to("a")
    png(tmp_path / "beside" / "x.png")
    data = open_data(str(tmp_path / "set"))
    assert paths_of(data.train) == ["a/0.png", "a/2.png", "b/1.png", "b/3.png"]
    assert data.train.classes == ("a", "b")
    assert "links to folders that are there already (3)" in data.notices[0]


def test_a_link_out_of_the_training_part_does_not_bring_in_the_test_part(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for name in "ab":
            png(tmp_path / part / name / "0.png")
    (tmp_path / "train" / "a" / "root").symlink_to("../..")
    assert paths_of(open_data(str(tmp_path)).pretrain) == ["a/0.png", "b/0.png"]


def test_links_are_followed_to_what_is_not_there_yet(tmp_path: Path) -> None:
    png(tmp_path / "store" / "x" / "1.png")
    png(tmp_path / "store" / "2.png")
    (tmp_path / "set" / "b").mkdir(parents=True)
    (tmp_path / "set" / "a").symlink_to(tmp_path / "store" / "x")
    (tmp_path / "set" / "b" / "2.png").symlink_to(tmp_path / "store" / "2.png")
    (tmp_path / "set" / "b" / "3.png").symlink_to("2.png")
    listing = walk(tmp_path / "set", PNG)
    assert listing.paths == ["a/1.png", "b/2.png"]
    assert listing.omissions == "links to files that are there already (1)"


def test_the_real_file_is_kept_of_a_link_and_a_file(tmp_path: Path) -> None:
    png(tmp_path / "z" / "real.png")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "link.png").symlink_to("../z/real.png")
    os.link(tmp_path / "z" / "real.png", tmp_path / "z" / "second.png")
    assert walk(tmp_path, PNG).paths == ["z/real.png", "z/second.png"], "hard links are files"


def test_what_is_no_regular_file_is_left_out(tmp_path: Path) -> None:
    png(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe.png")  # opening it would wait for a writer
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    data = open_data(str(tmp_path))
    assert paths_of(data.train) == ["a.png"]
    for words in ("links that lead nowhere (1)", "pipes, sockets and devices (2)"):
        assert words in data.notices[0]


def test_files_of_other_kinds_are_counted(tmp_path: Path) -> None:
    for k in range(6):
        (tmp_path / f"{k}.xyz").write_text("?")
        png(tmp_path / f"{k}.png")
    for name in ("labels.csv", "notes.txt", "LICENSE", ".DS_Store", "a.json"):
        (tmp_path / name).write_text("?")
    assert len(open_data(str(tmp_path)).train) == 6
    (notice,) = open_data(str(tmp_path)).notices
    assert notice.startswith(f"{tmp_path}: left out .xyz (6), ") and notice.endswith("other kinds (2)")
    for path in tmp_path.glob("*.png"):
        path.unlink()
    with pytest.raises(UserError, match="no images in .*, but .xyz .6"):
        open_data(str(tmp_path))


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".JPG", ".apng", ".tga", ".dib", ".j2k", ".pnm", ".mpo", ".ico"])
def test_every_ending_that_pillow_reads_is_an_image(tmp_path: Path, suffix: str) -> None:
    from PIL import Image

    Image.new("RGB", (16, 16), (9, 9, 9)).save(tmp_path / f"x{suffix}")
    source = open_data(str(tmp_path)).train
    assert paths_of(source) == [f"x{suffix}"]


@pytest.mark.parametrize("suffix", [".pdf", ".eps", ".mpg", ".wmf", ".h5"])
def test_pages_and_films_are_no_images(tmp_path: Path, suffix: str) -> None:
    png(tmp_path / "x.png")
    (tmp_path / f"x{suffix}").write_bytes(b"%PDF-1.4")
    assert paths_of(open_data(str(tmp_path)).train) == ["x.png"]
