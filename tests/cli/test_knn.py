"""knn as a command: printed table, written files, and errors."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from contrastkit.cli.main import main
from tests.schemas import read_report


def test_a_run_beside_its_baselines(moco_run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["knn", str(moco_run), "--baselines", f"--json={tmp_path / 'knn.json'}"]) == 0
    printed = capsys.readouterr().out
    assert "kNN on hard, k = 20, T = 0.1, 210 training and 70 test images of 16 px" in printed
    assert "untrained tiny" in printed and "raw pixels" in printed and "95 % interval" in printed
    report = read_report("knn", tmp_path / "knn.json")
    assert report == json.loads((moco_run / "knn.json").read_text())
    assert list(report["accuracy"]) == [str(moco_run), "untrained tiny", "raw pixels"]
    pixels = report["accuracy"]["raw pixels"]
    assert f"{100 * pixels['top1']:.2f} %" in printed
    classes = report["per_class"]["raw pixels"]
    assert len(classes) == 7
    right = sum(result["answers"].get(name, 0) for name, result in classes.items())
    assert pixels["top1"] == right / sum(result["n"] for result in classes.values())
    for what in ("confusion", "neighbours"):
        assert f"{moco_run / f'knn-{what}.png'}" in printed
        assert (moco_run / f"knn-{what}.png").read_bytes().startswith(b"\x89PNG")


def test_pictures_go_where_they_are_asked_for(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of an encoder without a run, nowhere else."""
    given = ["knn", "--encoder=pixels", f"--data={images}", "--val-fraction=0.2"]
    assert main(given) == 0
    assert "confusion matrix: " not in capsys.readouterr().out
    assert main([*given, f"--confusion={tmp_path / 'c'}", f"--neighbours={tmp_path / 'n'}"]) == 0
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in "cn")


def test_of_many_classes_the_lowest_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    y = np.arange(120) % 12
    pixels = np.random.default_rng(0).integers(0, 200, (2, 120, 8, 8, 3)).astype(np.uint8)
    pixels[:, y == 3] = 255  # right, all of them
    np.savez(tmp_path / "x.npz", images=pixels[0], labels=y, test_images=pixels[1], test_labels=y)
    assert main(["knn", "--encoder=pixels", f"--data={tmp_path / 'x.npz'}", "--k=5"]) == 0
    table = capsys.readouterr().out.split("the 10 lowest of 12 classes")[1]
    names = [line.split()[1] for line in table.splitlines() if line.startswith("│")]
    assert len(names) == 10 and "3" not in names


def test_classes_that_differ_by_their_tint_are_told_apart_by_pixels(images: Path, tmp_path: Path) -> None:
    options = [f"--data={images}", "--val-fraction=0.2", f"--json={tmp_path / 'x.json'}"]
    assert main(["knn", "--encoder=pixels", *options]) == 0
    assert json.loads((tmp_path / "x.json").read_text())["accuracy"]["raw pixels"]["top1"] > 0.9


def test_only_its_own_set_is_reported_in_the_run(images: Path, moco_run: Path) -> None:
    assert main(["knn", str(moco_run)]) == 0
    before = (moco_run / "knn.json").read_bytes()
    assert main(["knn", str(moco_run), f"--data={images}", "--val-fraction=0.5"]) == 0
    assert (moco_run / "knn.json").read_bytes() == before


def test_notices_are_printed(moco_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["knn", str(moco_run), "--val-fraction=0.3"]) == 0
    assert "was trained on images that it is evaluated on here" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["knn", "probe"])
def test_labels_of_two_classes_and_a_test_part_are_needed(
    command: str, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(images) as file:
        np.savez(tmp_path / "bare.npz", images=file["images"])
        np.savez(tmp_path / "x.npz", images=file["images"], labels=file["labels"], test_images=file["images"][:9])
        parts = {"images": file["images"], "test_images": file["images"][:9]}
        np.savez(tmp_path / "alike.npz", **parts, labels=file["labels"] * 0, test_labels=file["labels"][:9] * 0)
    for data, error in (
        (images, "noise has no test part: hold one out with --val-fraction 0.1"),
        (tmp_path / "bare.npz", "bare has no labels to evaluate with: put the images in one folder per class"),
        (tmp_path / "x.npz", "the test part of x has no labels to evaluate with"),
        (tmp_path / "alike.npz", "all labels of alike are the same: give images of at least two classes"),
    ):
        assert main([command, "--encoder=tiny", f"--data={data}"]) == 2
        assert capsys.readouterr().err == f"error: {error}\n"


def test_a_run_that_cannot_be_written_is_evaluated_all_the_same(
    moco_run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A folder in the place of each report stands for a folder without permission, which root has anyway."""
    run = Path(shutil.copytree(moco_run, tmp_path / "run"))
    for name in ("knn.json", "knn-confusion.png", "knn-neighbours.png", "probe.json", "probe.png"):
        (run / name).unlink(missing_ok=True)
        (run / name).mkdir()
    for command, reports in (
        (["knn"], ["knn-confusion.png", "knn-neighbours.png", "knn.json"]),
        (["probe", "--epochs=2"], ["probe.png", "probe.json"]),
    ):
        assert main([*command, str(run), "--device=cpu", f"--json={tmp_path / 'mine.json'}"]) == 0
        printed = capsys.readouterr().out
        assert "top-1" in printed
        for report in reports:
            assert f"{run / report} is not written: Is a directory" in printed.split("top-1", 1)[1]
        assert json.loads((tmp_path / "mine.json").read_text())["data"] == "hard"


def test_a_report_that_was_asked_for_and_cannot_be_written_is_an_error(
    moco_run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "full").symlink_to("/dev/full")
    assert main(["knn", str(moco_run), "--device=cpu", f"--json={tmp_path / 'full'}"]) == 2
    printed = capsys.readouterr()
    assert "top-1" in printed.out and "no space left to write" in printed.err
