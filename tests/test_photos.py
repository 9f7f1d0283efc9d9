"""The tutorial of docs/photos.md: its commands, run as they stand there on a part of its photographs, and what it
says of their results."""

import json
import os
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from contrastkit.cli.main import main
from tests.test_docs import COMMANDS

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("CONTRASTKIT_DATA", "nowhere"))
PAGE = "docs/photos.md"
NEEDS = ("imagenette224", "oxford-iiit-pet", "weights/efficientnet_lite0_imagenet.safetensors")
SIDES = ("xmin", "ymin", "xmax", "ymax")  # of a box
KEPT = 8  # every eighth photograph; these, and shorter trainings, so that it takes minutes
SHORTER = {"train": ("--epochs=1",), "finetune": ("--epochs=2", "--lr=0.03", "--seeds=1")}
TUTORIAL = [command.words for command in COMMANDS if command.page == PAGE and command.whole]


def test_the_tutorial_goes_through_all_of_it_in_the_order_of_work() -> None:
    stages = ("views", "train", "knn", "probe", "finetune", "transfer", "embed", "search", "export")
    names = [words[0] for words in TUTORIAL]
    assert [name for name in dict.fromkeys(names) if name in stages] == list(stages)
    assert {"duplicates", "cluster", "map", "attend"} <= set(names)


def test_each_picture_of_the_page_is_small() -> None:
    pictures = list((ROOT / "docs" / "photos").iterdir())
    assert pictures
    assert sum(path.stat().st_size for path in pictures) < 600_000


def test_cells_are_cut_out_whole_and_as_many_of_each_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two photographs of noise; one box lies in a corner, one has no area, and one class has a box more."""
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.photo_sets import make

    root = tmp_path / "bccd" / "VOCdevkit" / "VOC2007"
    boxes = {"RBC": [(0, 0, 8, 6), (10, 12, 18, 20), (3, 3, 3, 9)], "WBC": [(30, 20, 40, 30)]}
    pixels = np.random.default_rng(0).integers(0, 256, size=(32, 40, 3), dtype=np.uint8)
    for part, photo in (("trainval", "a"), ("test", "b")):
        items = "".join(
            f"<object><name>{kind}</name><bndbox>"
            + "".join(f"<{side}>{value}</{side}>" for side, value in zip(SIDES, box, strict=True))
            + "</bndbox></object>"
            for kind, found in boxes.items()
            for box in found
        )
        for file, text in (
            (root / "Annotations" / f"{photo}.xml", f"<annotation>{items}</annotation>"),
            (root / "ImageSets" / "Main" / f"{part}.txt", f"{photo}\n"),
        ):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        (root / "JPEGImages").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(root / "JPEGImages" / f"{photo}.jpg", "PNG")  # its pixels as they are
    notes = make("cells", tmp_path, tmp_path / "out")
    assert notes[0] == "2 boxes without area are left out"
    for part, photo in (("train", "a"), ("test", "b")):
        files = sorted((tmp_path / "out" / "cells" / part).glob("*/*"))
        assert [file.relative_to(tmp_path / "out" / "cells" / part).as_posix() for file in files] == [
            f"RBC/{photo}-0-0.png",
            f"WBC/{photo}-30-20.png",
        ]
        corner, edge = (np.asarray(Image.open(file)) for file in files)
        np.testing.assert_array_equal(corner, pixels[:10, :10])  # 1.25 x 8, moved into the photograph
        np.testing.assert_array_equal(edge, pixels[19:31, 28:40])  # round(12.5) = 12, centred at 35 and 25: 29 to 41


@pytest.mark.slow
@pytest.mark.skipif(
    not all((DATA / name).exists() for name in NEEDS), reason=f"$CONTRASTKIT_DATA has not all of {', '.join(NEEDS)}"
)
def test_its_commands_run_and_their_results_are_as_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.photo_sets import make

    make("imagenette224", DATA, Path("sets"))
    for i, photo in enumerate(sorted(Path("sets/imagenette224").glob("*/*/*"))):
        if i % KEPT == 0:
            kept = Path("my/photos", *photo.parts[2:])
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(photo, kept)
    Path("my/masks").symlink_to(DATA / NEEDS[1])
    Path("weights.safetensors").symlink_to(DATA / NEEDS[2])
    shutil.copy(next(Path("sets/imagenette224/test/golf-ball").iterdir()), "photo.jpg")
    for words in TUTORIAL:
        assert main([*words, *SHORTER.get(words[0], ())]) == 0, f"{shlex.join(words)}: {capsys.readouterr().err}"
    few = "results", "runs/{}, linear probe"
    for file, *keys in (("knn", "accuracy", "runs/{}"), ("probe", "probe", "runs/{}", "accuracy"), ("finetune", *few)):
        photos, adapted = (accuracy(Path("runs", run), file, *keys) for run in ("photos", "adapted"))
        assert adapted["interval"][0] > photos["interval"][1], file
    assert Path("runs/adapted/encoder.onnx").is_file()


def accuracy(run: Path, file: str, *keys: str) -> Any:
    """What a report of a run has under these keys, of which some name the run."""
    report = json.loads((run / f"{file}.json").read_text())
    for key in keys:
        report = report[key.format(run.name)]
    return report.get("accuracy", report)
