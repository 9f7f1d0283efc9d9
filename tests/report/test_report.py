"""The content of a report: what it says of a run folder, and what it does not show as if it were of this run."""

import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from contrastkit import report as library
from contrastkit.augment import VIEWS
from contrastkit.cli.main import main
from contrastkit.errors import UserError
from contrastkit.methods import RECIPES
from contrastkit.record import Record
from contrastkit.report.building import _classes
from contrastkit.report.commands import _views, called, training
from contrastkit.report.content import Code, Facts, Missing, Page, Panels, Picture, Section, Table, Text
from contrastkit.report.evaluation import Results
from contrastkit.run import ENCODER, RECIPE, Run
from tests.same import copy_as_trained
from tests.schemas import read_report


@pytest.fixture(scope="module")
def evaluated(moco_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with knn.json, with baselines, and probe.json."""
    run = tmp_path_factory.mktemp("evaluated") / "run"
    copy_as_trained(moco_run, run)
    assert main(["knn", str(run), "--baselines", "--device=cpu"]) == 0
    assert main(["probe", str(run), "--epochs=2", "--seeds=2", "--device=cpu"]) == 0
    return run


@pytest.fixture(scope="module")
def page(evaluated: Path) -> Page:
    """With its pictures, which take most of the time."""
    return library.content([evaluated])


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures that are drawn for a page are not."""
    picture = Picture("data:,x", 8, 8, "")
    for module in ("training", "evaluation", "comparison"):
        monkeypatch.setattr(f"contrastkit.report.{module}.drawn", lambda draw, **texts: picture)
    maps = SimpleNamespace(grid=(1, 1), attention=None)
    monkeypatch.setattr("contrastkit.report.evaluation.attend", lambda *about, **how: maps)


@pytest.fixture
def run(evaluated: Path, undrawn: None, tmp_path: Path) -> Path:
    """A copy of it to spoil."""
    shutil.copytree(evaluated, tmp_path / "run")
    return tmp_path / "run"


def sections(page: Page) -> dict[str, Section]:
    (run,) = page.runs
    return {section.name: section for section in run.sections}


def blocks(section: Section, kind: Any) -> list[Any]:
    return [block for block in section.blocks if isinstance(block, kind)]


def reasons(section: Section) -> list[str]:
    return [block.why for block in blocks(section, Missing)]


# ------------------------------------------------------------------------------------------------------ what it says


def test_the_accuracies_are_those_of_the_files_beside_their_baselines(page: Page, evaluated: Path) -> None:
    (table,) = blocks(sections(page)["accuracy"], Table)
    shown = {(row[0], row[1]): (row[2], row[4]) for row in table.rows}
    knn = json.loads((evaluated / "knn.json").read_text())["accuracy"]
    assert [name for evaluation, name in shown if evaluation == "kNN"] == ["this run", "untrained tiny", "raw pixels"]
    for (name, accuracy), (text, scale) in zip(knn.items(), list(shown.values())[:3], strict=True):
        assert text == f"{100 * accuracy['top1']:.2f} %", name
        assert [scale.value, scale.low, scale.high] == [accuracy["top1"], *accuracy["interval"]]
        assert scale.chance == 1 / 7
    probe = next(iter(json.loads((evaluated / "probe.json").read_text())["probe"].values()))
    text = f"{100 * probe['accuracy']['top1']:.2f} % \N{PLUS-MINUS SIGN} {100 * probe['std']:.2f}"
    assert shown["Linear probe", "this run"][0] == text


def test_fine_tuning_stands_beside_its_probe_and_training_from_scratch(run: Path) -> None:
    values = json.loads((run / "probe.json").read_text())
    ((name, probe), *_) = values.pop("probe").items()
    names = (f"{name}, fine-tuned", f"{name}, linear probe", "tiny, from scratch")
    labels = {"images": 20, "least": 2, "most": 3, "held_out": 4, "test": 70}
    finetune = values | {"labels": labels, "results": dict.fromkeys(names, probe)}
    (run / "finetune.json").write_text(json.dumps(finetune))
    section = sections(library.content([run]))["accuracy"]
    table = blocks(section, Table)[0]
    shown = [row[1] for row in table.rows if row[0] == "Fine-tuning"]
    assert shown == ["this run, fine-tuned", "this run, linear probe", "tiny, from scratch"]
    assert "Fine-tuning: 70 test images, 20 labelled images, protocol rates" in table.note and not reasons(section)
    values["data"] = "other"
    values["probe"] = {name: probe | {"accuracy": probe["accuracy"] | {"n": 9}}}
    (run / "probe.json").write_text(json.dumps(values))
    table = Results(run, None).accuracies("")[0]
    assert isinstance(table, Table) and table.caption == "Accuracy on the test images of hard and other"
    assert "kNN: 70 test images of hard, " in table.note and "Linear probe: 9 test images of other, " in table.note


def test_the_sections_say_what_was_trained_on_what(page: Page, evaluated: Path) -> None:
    (run,), found = page.runs, sections(page)
    assert run.finished and run.status == "finished: 1 epoch" and "moco-v2" in run.lead
    facts = dict(blocks(found["training"], Facts)[0].rows)
    assert facts["Data"].startswith("hard: 210 images") and facts["Held out"].startswith("25 %")
    (panels,) = blocks(found["curves"], Panels)
    assert len(panels.pictures) == len(blocks(found["curves"], Table)[0].rows) > 3
    assert all(blocks(found[name], Picture) for name in ("views", "classes", "neighbours", "attention"))
    assert reasons(found["accuracy"]) == ["no finetune.json yet"] and reasons(found["map"]) == ["no map.png yet"]
    assert blocks(found["map"], Missing)[0].command == f"contrastkit map {evaluated}"


def test_the_command_writes_a_page_that_loads_nothing(
    page: Page, evaluated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("contrastkit.report.building.content", lambda runs: page)
    out, results = tmp_path / "page.html", tmp_path / "page.json"
    assert main(["report", str(evaluated), f"--out={out}", f"--json={results}"]) == 0
    text = out.read_text()
    said = read_report("report", results)
    assert said["size"] == out.stat().st_size < 2**20 and said["pictures"] == text.count("<img ")
    assert f"{out}: " in capsys.readouterr().out
    # nothing is loaded: every address is within the page
    addresses = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert addresses and all(re.match("#|data:", address) for address in addresses)
    assert not re.search(r"@import|url\(|<script", text)


def test_a_page_goes_into_the_folder_of_its_first_run(run: Path) -> None:
    assert library.report([run]).file == run / "report.html"
    assert not list(run.glob(".*.tmp"))


def test_a_page_on_several_runs_leaves_that_of_the_first(
    run: Path, moco_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contrastkit.report.building.content", lambda runs: Page("", "", None, ()))
    monkeypatch.chdir(tmp_path)
    (run / "report.html").write_text("its own")
    assert library.report([run, moco_run]).file.resolve() == tmp_path / "report.html"
    assert (run / "report.html").read_text() == "its own"


def test_a_run_from_other_weights_says_so(run: Path) -> None:
    values = json.loads((run / RECIPE).read_text())
    assert library.content([run]).runs[0].lead.endswith(" of hard, without labels.")
    texts = {"source": "pretrained:tiny", "sha256": "0" * 64, "naming": "torchvision", "normalisation": "own"}
    lists: dict[str, list[str]] = {"left_out": [], "missing": [], "mean": [], "std": []}
    values["weights"] = {**texts, **lists, "tensors": 1, "taken": 1, "size": None, "positions": None}
    (run / RECIPE).write_text(json.dumps(values))
    lead = library.content([run]).runs[0].lead
    assert lead.endswith("without labels. It started from pretrained:tiny, which may know labels.")


def test_two_runs_stand_side_by_side(run: Path, moco_run: Path) -> None:
    page = library.content([run, moco_run])
    assert page.comparison is not None and [each.title for each in page.runs] == [str(run), str(moco_run)]
    (table,) = blocks(page.comparison, Table)
    assert {row[0] for row in table.rows} == {str(run), str(moco_run)} and blocks(page.comparison, Picture)
    assert table.note.endswith("of one run, the 95 % interval (Wilson) of its test images in brackets.")
    with pytest.raises(UserError, match="is given twice"):
        library.content([run, run])


# ------------------------------------------------------------------------------------------------ what it does not show


def test_an_evaluation_of_other_weights_is_not_shown(run: Path) -> None:
    state = load_file(run / ENCODER)
    first = next(iter(state))
    save_file(state | {first: state[first] + 1}, run / ENCODER)
    found = sections(library.content([run]))
    assert not blocks(found["accuracy"], Table) and not blocks(found["classes"], Picture)
    for name in ("knn", "probe"):
        assert f"{name}.json is of other weights than those of the run now" in reasons(found["accuracy"])
    assert reasons(found["neighbours"]) == ["knn.json is of other weights than those of the run now"]


def test_an_evaluation_that_does_not_say_its_weights_is_shown_only_if_it_is_younger(run: Path) -> None:
    file = run / "knn.json"
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "made"}))
    texts = [block.text for block in blocks(sections(library.content([run]))["accuracy"], Text)]
    assert texts == ["knn.json does not say of which weights it is: an earlier version wrote it."]
    (run / ENCODER).touch()
    assert "knn.json is older than the run's encoder" in reasons(sections(library.content([run]))["accuracy"])


def test_a_picture_that_was_not_drawn_with_its_report_is_not_shown(run: Path) -> None:
    Image.new("RGB", (8, 8)).save(run / "knn-neighbours.png")
    section = sections(library.content([run]))["neighbours"]
    assert reasons(section) == ["no knn-neighbours.png that was drawn with knn.json"] and len(section.blocks) == 1


def test_a_damaged_report_is_named_and_the_others_are_shown(run: Path, evaluated: Path) -> None:
    (run / "knn.json").write_text("{")
    section = sections(library.content([run]))["accuracy"]
    assert any("knn.json is damaged" in why for why in reasons(section))
    values = json.loads((evaluated / "knn.json").read_text())
    classes = next(iter(values["per_class"].values()))
    classes["new"] = classes.pop(next(iter(classes)))
    (run / "knn.json").write_text(json.dumps(values))
    section = sections(library.content([run]))["accuracy"]
    assert any("an answer that is no class" in why for why in reasons(section))
    assert {row[0] for row in blocks(section, Table)[0].rows} == {"Linear probe"}


def test_an_unfinished_run_is_reported_as_such(run: Path) -> None:
    (run / ENCODER).unlink()
    values = json.loads((run / RECIPE).read_text())
    values["recipe"]["epochs"] = 5
    (run / RECIPE).write_text(json.dumps(values))
    (found,) = library.content([run]).runs
    assert not found.finished and found.status == "unfinished: 1 of 5 epochs"
    assert blocks(found.sections[0], Code)[0].lines == (f"contrastkit train moco-v2 --resume {run}",)
    shutil.rmtree(run / "checkpoints")
    (run / "metrics.jsonl").unlink()
    (found,) = library.content([run]).runs
    assert found.status == "unfinished: 0 of 5 epochs"


def test_without_labels_what_needs_them_is_left_out_with_the_reason(undrawn: None, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "plain.npz", images=pixels)
    quick = ["--encoder=tiny", "--device=cpu", "--epochs=1", "--batch=32", "--K=64", "--size=12", "--monitor-every=0"]
    run = tmp_path / "run"
    assert main(["train", "moco", f"--data={tmp_path / 'plain.npz'}", f"--out={run}", *quick]) == 0
    found = sections(library.content([run]))
    for name in ("accuracy", "classes", "neighbours"):
        assert "has no labels to evaluate with" in reasons(found[name])[0] and len(found[name].blocks) == 1
    assert blocks(found["views"], Picture) and blocks(found["attention"], Picture)
    (tmp_path / "plain.npz").unlink()
    found = sections(library.content([run]))
    assert "plain.npz" in reasons(found["views"])[0] and reasons(found["attention"])


# ------------------------------------------------------------------------------------------------------------ commands


def test_the_command_of_a_training_asks_for_the_same_training(
    moco_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan that it makes has the recipe and the options of the record."""
    values = json.loads((moco_run / RECIPE).read_text())
    values["recipe"] |= {"tau": 0.1 + 0.2, "symmetric": False, "milestones": [0.25, 0.5], "nesterov": None}
    del values["recipe"]["nesterov"]
    values["recipe"]["views"][1] |= {"blur_p": 0.125, "gray_first": True}
    values["options"] |= {"seed": 17, "background": "#123456", "scaled_decoding": True, "save_every": 3}
    (tmp_path / RECIPE).write_text(json.dumps(values))
    record = Record.read(tmp_path / RECIPE)
    plans: list[Any] = []

    def launch(plan: Any, **how: Any) -> Any:
        plans.append(plan)
        raise UserError("enough")

    monkeypatch.setattr("contrastkit.training.launch.launch", launch)
    command, note = training(record, tmp_path / "run-again")
    assert main(shlex.split(command)[1:]) == 2 and note == ""
    (plan,) = plans
    assert plan.name == record.name and plan.out == tmp_path / "run-again"
    assert plan.recipe == record.recipe_of(type(RECIPES[record.name]), tmp_path / RECIPE)
    mine, its = plan.options.to_json(), record.options.to_json()
    assert {k: v for k, v in mine.items() if k not in ("workers", "device")} == {
        k: v for k, v in its.items() if k not in ("workers", "device")
    }


def test_views_of_another_row_are_asked_for_by_name() -> None:
    own = tuple(replace(view, gray_p=0.125) for view in VIEWS["swav-small"])
    assert _views(own, VIEWS["moco-v2"]) == ["--views", "swav-small", "--gray-p", "0.125"]
    assert _views(own, own) == []
    with pytest.raises(UserError, match="has 57 views"):
        _views(own[:1] * 57, own)


def test_commands_are_quoted_for_a_shell() -> None:
    assert called(["/x/bin/contrastkit", "knn", "my runs/a"]) == "contrastkit knn 'my runs/a'"
    assert called(["/x/contrastkit/__main__.py", "knn"]) == "contrastkit knn"
    assert called(["mine.py", "--x"]) == "# by a Python program: mine.py --x"


def test_chance_of_a_run_with_labelled_images_is_of_their_classes(run: Path, images: Path) -> None:
    """Four of the labelled ones; none where they are gone."""
    record: Record = Run.open(run).record
    for labelled, classes in ((str(images), 4), ("nowhere", None)):
        asked = replace(record, options=replace(record.options, labelled=labelled))
        assert _classes(asked, None) == classes


def test_sounds_are_called_so(evaluated: Path) -> None:
    (table, *_) = Results(evaluated, None, items="sounds").accuracies("")
    assert isinstance(table, Table) and table.caption == "Accuracy on the test sounds of hard"
    assert "70 test sounds" in table.note and "image" not in table.note
