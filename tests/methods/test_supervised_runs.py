"""What is said of runs that have learned from labels, and of others: on screen, report and model card."""

import json
import shutil
from dataclasses import asdict, fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import contrastkit
from contrastkit import report as library
from contrastkit.cli.main import main
from contrastkit.data import open_data, plain_batches
from contrastkit.errors import UserError
from contrastkit.export import export_encoder
from contrastkit.export.card import _use, results
from contrastkit.intervals import wilson
from contrastkit.methods import EVERY
from contrastkit.methods.labels import labels_seen, uses_labels
from contrastkit.parts.teacher import TeacherRecord
from contrastkit.record import Record
from contrastkit.report.content import Facts, Missing, Table
from contrastkit.report.tested import of_classifier
from tests.schemas import require_valid

QUICK = ["--epochs=2", "--batch=32", "--size=12", "--device=cpu", "--recipe=tiny"]


@pytest.fixture(scope="module")
def run(environments: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of ERM, a fifth of the images held out."""
    out = tmp_path_factory.mktemp("erm") / "run"
    assert main(["train", "erm", f"--data={environments}", "--val-fraction=0.2", *QUICK, f"--out={out}"]) == 0
    return out


@pytest.fixture
def stopped(environments: Path, tmp_path: Path) -> Path:
    """The same, stopped after an epoch."""
    out = [f"--out={tmp_path / 'stopped'}", "--stop-after=1"]
    assert main(["train", "erm", f"--data={environments}", "--val-fraction=0.2", *QUICK, *out]) == 0
    return tmp_path / "stopped"


def test_the_page_and_the_card_say_that_labels_were_used(run: Path, tmp_path: Path) -> None:
    (page,) = library.content([run]).runs
    assert ", with labels." in page.lead and "without labels" not in page.lead
    (training,) = (section for section in page.sections if section.name == "training")
    (facts,) = (block for block in training.blocks if isinstance(block, Facts))
    assert str(dict(facts.rows)["Data"]).endswith(" images, with labels")
    exported = export_encoder(run, to="torch", out=tmp_path / "x.pt2")
    card = exported.card.read_text()
    assert exported.labels == "with labels" and ", with labels |" in card
    assert "without labels" not in card and "No label" not in card and "used no label" not in card
    assert "The training used the labels of its images" in " ".join(card.split())


@pytest.mark.parametrize(
    ("name", "change", "uses"),
    [
        ("erm/tiny", {}, True),
        ("moco-v2/tiny", {}, False),
        ("clip/tiny", {}, False),
        ("crd/tiny", {}, True),
        ("crd/tiny-unlabelled", {}, False),
        ("crd/tiny-unlabelled", {"negatives": "other"}, True),
        ("simclr-v2-distill/tiny", {}, False),
        ("simclr-v2-distill/tiny", {"alpha": 0.5}, True),
        ("mine.py:own/row", None, None),
    ],
)
def test_what_a_training_sees_of_labels(name: str, change: Any, uses: bool | None, run: Path) -> None:
    recipe = {} if change is None else asdict(replace(EVERY[name], **change))
    record = replace(Record.read(run / "recipe.json"), name=name, recipe=recipe)
    assert uses_labels(record, run) is uses
    assert labels_seen(record, run) == {True: "with labels", False: "without labels", None: ""}[uses]


def test_the_accuracy_of_the_classifier_stays_in_the_run(run: Path) -> None:
    report = json.loads((run / "classifier.json").read_text())
    assert report.keys() == {"name", "test"} and report["name"] == "erm/tiny"
    ended: dict[str, Any] = {"run": str(run), "step": 1, "finished": True, "seconds": 1.0, "verdict": None}
    require_valid("train", ended | report)
    test = open_data(str(Record.read(run / "recipe.json").options.data), val_fraction=0.2).test
    classify = contrastkit.load_classifier(run)
    assert test is not None
    right = [classify(b.views[0]).argmax(1) == b.label for b in plain_batches(test, size=12)]
    share = torch.cat(right).double().mean().item()
    assert report["test"]["accuracy"]["top1"] == pytest.approx(share) and report["test"]["accuracy"]["n"] == 64
    log = (run / "log.txt").read_text()
    low, high = wilson(share, 64)
    assert f"64 test images of places: top-1 {100 * share:.2f} % ({100 * low:.1f} to {100 * high:.1f})" in log
    west = report["test"]["environments"]["environments"]["west"]
    assert f"environment west: top-1 {100 * west['top1']:.2f} %" in log


def test_the_report_shows_it(run: Path, tmp_path: Path) -> None:
    record, values = Record.read(run / "recipe.json"), json.loads((run / "classifier.json").read_text())["test"]
    (table,) = of_classifier(run, record)
    assert isinstance(table, Table) and [row[0] for row in table.rows] == ["all", "north", "south", "west"]
    assert table.rows[0][1:3] == ("64", f"{100 * values['accuracy']['top1']:.2f} %")
    assert f"worst {100 * values['environments']['worst']:.2f} %" in table.note
    (page,) = library.content([run]).runs
    (section,) = (section for section in page.sections if section.name == "accuracy")
    assert section.blocks[0] == table
    shutil.copytree(run, other := tmp_path / "other")
    for text, why in ((None, "no classifier.json yet"), ('{"test": {}}', "is damaged"), ("{", "is damaged")):
        (other / "classifier.json").unlink(missing_ok=True)
        if text is not None:
            (other / "classifier.json").write_text(text)
        (missing,) = of_classifier(other, record)
        assert isinstance(missing, Missing) and why in missing.why and f"train erm --resume {other}" in missing.command


def test_the_card_names_the_encoder_beside_each_environment(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, own := tmp_path / "own")
    assert main(["probe", str(own), "--epochs=2", "--seeds=1", "--device=cpu"]) == 0
    assert main(["knn", str(own), "--baselines", "--device=cpu"]) == 0
    rows = results(own)[0]
    places = ["places", *(f"places, environment {name}" for name in ("north", "south", "west"))]
    assert [(row[1], row[2]) for row in rows if row[0] == "probe"] == [(place, "this encoder") for place in places]
    assert [(row[1], row[2]) for row in rows if row[0] == "classifier"] == [(p, "this classifier") for p in places]
    assert {row[2] for row in rows if row[0] == "knn"} == {"this encoder", "untrained tiny", "raw pixels"}
    assert {row[1] for row in rows if row[0] == "knn"} == set(places)
    probe = next(iter(json.loads((own / "probe.json").read_text())["probe"].values()))
    share = f"{100 * probe['environments']['environments']['south']['top1']:.2f} %"
    assert next(row[3] for row in rows if row[:2] == ("probe", places[2])) == share


def test_a_folder_stands_for_the_classifier_in_it(run: Path, tmp_path: Path) -> None:
    x = torch.rand(2, 3, 12, 12)
    assert contrastkit.load_classifier(str(run))(x).equal(
        contrastkit.load_classifier(run / "classifier.safetensors")(x)
    )
    with pytest.raises(UserError, match=f"{tmp_path} holds no classifier: "):
        contrastkit.load_classifier(tmp_path)


@pytest.mark.parametrize("command", ["knn", "probe --epochs=2 --seeds=1", "embed", "duplicates", "search"])
def test_an_unfinished_run_is_called_so_once(
    command: str, stopped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (16, 16)).save("query.png")
    name, *more = command.split()
    query = ["--query=query.png"] if name == "search" else []
    assert not (stopped / "classifier.json").exists()
    assert main([name, str(stopped), *more, *query, "--device=cpu"]) == 0
    out = capsys.readouterr().out
    assert out.count("the run is unfinished: step 8 of 16") == 1


def test_a_finished_run_is_not(run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["embed", str(run), "--device=cpu", f"--out={tmp_path / 'x.npz'}"]) == 0
    assert "unfinished" not in capsys.readouterr().out


def test_a_student_without_labels_has_a_teacher_that_knows_classes(run: Path) -> None:
    teacher: dict[str, Any] = {item.name: None for item in fields(TeacherRecord)}
    record = replace(Record.read(run / "recipe.json"), name="crd/tiny-unlabelled", teacher=TeacherRecord(**teacher))
    record = replace(record, recipe=asdict(EVERY[record.name]))
    assert labels_seen(record, run) == "without labels, by a teacher that knows classes"
    text = " ".join(_use(SimpleNamespace(record=record, path=run)).split())  # type: ignore[arg-type]
    assert "The training itself used no label, but had a teacher that knows classes." in text


def test_a_training_that_stays_at_chance_is_advised_so(environments: Path, tmp_path: Path) -> None:
    how = ["--recipe=tiny", "--batch=32", "--size=12", "--device=cpu", "--lr=0", "--epochs=14", "--warmup-epochs=0"]
    out = tmp_path / "run"
    assert main(["train", "erm", f"--data={environments}", "--val-fraction=0.2", *how, f"--out={out}"]) == 0
    log = (out / "log.txt").read_text()
    stuck = [line for line in log.splitlines() if "stuck: the loss" in line]
    assert len(stuck) == 2, "after 104 steps and after 112"
    assert all("--lr" in line and "--epochs" in line and "--tau" not in line for line in stuck)
