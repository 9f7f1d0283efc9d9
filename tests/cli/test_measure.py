"""measure as a command: what it prints and writes, and its options."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image

from contrastkit import measure as library
from contrastkit.cli.main import app, main
from contrastkit.errors import UserError
from contrastkit.evaluate import EvaluationSubject
from contrastkit.evaluate.made import file_hash
from contrastkit.evaluate.origin import encoder_hash
from contrastkit.export.trained import TrainedEncoder
from contrastkit.measure import similarity
from tests.cli.test_options import BASELINES, ENCODER, SUBJECT
from tests.schemas import read_report

FEW = ["--images=60", "--views-per-image=2", "--device=cpu"]


def test_measure(moco_run: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = [f"--json={tmp_path / 'x.json'}", f"--shift-chart={tmp_path / 'x.png'}"]
    more = ["--shift", f"--shift-data={images}", f"--cka={moco_run}"]
    assert main(["measure", str(moco_run), *FEW, *more, *out]) == 0
    printed, report = capsys.readouterr().out, read_report("measure", tmp_path / "x.json")
    assert report == json.loads((moco_run / "measure.json").read_text())
    own = report["numbers"][str(moco_run)]
    for row in (
        "RankMe",
        "LiDAR",
        "alpha-ReQ",
        "uniformity",
        "alignment",
        "NMI of k-means",
        "NMI by chance",
        "ARI of k-means",
    ):
        assert row in printed
    assert f"{own['rankme']:.1f}" in printed and f"{own['alignment']:.3f}" in printed
    assert "N = 60 train images, n = 60 of them under 2 views" in " ".join(printed.split())
    assert [report["cka"]["values"][i][i] for i in range(4)] == pytest.approx([1] * 4)
    shift = report["shift"]
    assert sorted(shift["corrupted"][str(moco_run)]) == ["blur", "brightness", "contrast", "jpeg", "noise"]
    assert len(shift["corrupted"][str(moco_run)]["blur"]) == 5
    assert shift["elsewhere"]["classes"] == ["0", "1", "2", "3"] and shift["elsewhere"]["lacking"] == ["4", "5", "6"]
    first = shift["clean"][str(moco_run)]["knn"]
    assert f"{100 * first['top1']:.2f} (" in printed and "mean of all corruptions: kNN" in printed
    for picture in (tmp_path / "x.png", moco_run / "cka.png"):
        assert f": {picture}" in printed
        with Image.open(picture) as opened:
            assert opened.format == "PNG"
    assert not (moco_run / "shift.png").exists()
    made, file = report["made"], moco_run / "measure.json"
    pictures = {"x.png": tmp_path / "x.png", "cka.png": moco_run / "cka.png"}
    assert made["pictures"] == {name: file_hash(picture) for name, picture in pictures.items()}
    assert made["weights"] == encoder_hash(TrainedEncoder.open(moco_run).encoder) and len(report["views"]) == 2
    assert (report["seed"], report["views_of"], report["modality"]) == (0, "the run's own", "image")
    (moco_run / "shift.png").write_bytes(b"old")
    assert main(["measure", str(moco_run), *FEW, "--seed=3", "--views=byol"]) == 0
    printed, report = " ".join(capsys.readouterr().out.split()), json.loads(file.read_text())
    for name in ("cka.png", "shift.png"):
        assert f"{name} is of an earlier call, not of this one" in printed
        (moco_run / name).unlink()
    assert report["made"]["pictures"] == {} and report["seed"] == 3 and report["views_of"] == "byol's"
    assert report["views"][1]["solarize_p"] > 0


def test_a_picture_that_fails_takes_no_numbers_with_it(
    moco_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise UserError("no picture")

    monkeypatch.setattr(similarity, "cka_chart", fail)
    words = ["measure", str(moco_run), *FEW, f"--cka={moco_run}", f"--cka-chart={tmp_path / 'x.png'}"]
    assert main([*words, f"--json={tmp_path / 'x.json'}"]) == 2
    report = json.loads((tmp_path / "x.json").read_text())
    assert report["cka"]["images"] == 60 and report["made"]["pictures"] == {}


def test_without_labels_a_shift_is_refused_and_nothing_is_written(
    moco_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "bare.npz", images=np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), np.uint8))
    words = ["measure", str(moco_run), f"--data={tmp_path / 'bare.npz'}", *FEW, f"--json={tmp_path / 'x.json'}"]
    assert main([*words, "--shift"]) == 2
    assert "error: --shift needs labels and a test part" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["bare.npz"]
    assert main(words) == 0
    report = read_report("measure", tmp_path / "x.json")
    assert report["shift"] is None and report["numbers"][str(moco_run)]["nmi"] is None
    assert "no NMI and ARI: the images have no labels" in capsys.readouterr().out


# --------------------------------------------------------------------------------------------------------- options

OWN: dict[str, tuple[str, Any]] = {
    "--split=test": ("split", "test"),
    "--images=9": ("images", 9),
    "--views-per-image=4": ("views_per_image", 4),
    "--views=byol": ("views", "byol"),
    "--cka=other": ("cka", Path("other")),
    "--shift": ("shift", True),
    "--shift-data=set": ("shift_data", "set"),
    "--data-dir=folder": ("data_dir", Path("folder")),
    "--seed=5": ("seed", 5),
}


def test_each_option_reaches_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: dict[str, Any] = {}
    arguments: dict[str, Any] = {}

    class Subject:
        notices = ()

    def subject(**how: Any) -> Subject:
        opened.update(how)
        return Subject()

    def measure(subject: Any, *, on_progress: Any, **how: Any) -> None:
        arguments.update(how)
        raise UserError("enough")

    monkeypatch.setattr(EvaluationSubject, "open", subject)
    monkeypatch.setattr(library, "measure", measure)
    assert main(["measure", "RUN"]) == 2
    defaults = [dict(opened), dict(arguments)]
    assert defaults[0]["run"] == Path("RUN") and defaults[1]["images"] == 5000
    for option, (name, value) in (SUBJECT | ENCODER | BASELINES).items():
        assert main(["measure", "RUN", option]) == 2
        assert opened == {**defaults[0], name: value} and defaults[0][name] != value, option
    for option, (name, value) in OWN.items():
        assert main(["measure", "RUN", option]) == 2
        assert arguments == {**defaults[1], name: value} and defaults[1][name] != value, option


def test_charts_are_of_what_is_computed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", "RUN", "--cka-chart=x.png"]) == 2
    assert "--cka-chart draws what --cka RUN computes: add it" in capsys.readouterr().err
    assert main(["measure", "RUN", "--shift-data=x", "--shift-chart=x.png"]) == 2
    assert "--shift-chart draws what --shift computes: add it" in capsys.readouterr().err


def test_every_option_is_in_a_table() -> None:
    group: Any = typer.main.get_command(app)
    elsewhere = {"run", "json", "debug", "cka_chart", "shift_chart"}  # tested above
    flags = {option.split("=")[0][2:].replace("-", "_") for option in (*OWN, *SUBJECT, *ENCODER, *BASELINES)}
    assert {parameter.name for parameter in group.get_command(None, "measure").params} - elsewhere == flags
