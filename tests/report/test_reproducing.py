"""The commands on a page: they repeat the training and the evaluations in one new folder, and a shell can run them."""

import json
import os
import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from contrastkit import report as library
from contrastkit.cli.train import _closing
from contrastkit.evaluate import EvaluationSubject
from contrastkit.evaluate.made import Made, made
from contrastkit.record import Record
from contrastkit.report.commands import again
from contrastkit.report.content import Code, Missing, Picture, Text
from contrastkit.report.reproducing import ELSEWHERE, commands
from contrastkit.run import ENVIRONMENT, RECIPE, Run
from tests.same import copy_as_trained


@pytest.fixture
def run(moco_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose folder has a name that a shell would take apart, in the current folder; nothing is drawn of it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("contrastkit.report.training.drawn", lambda draw, **texts: Picture("data:,x", 8, 8, ""))
    monkeypatch.setattr("contrastkit.report.building.attention", lambda *about: [])
    copy_as_trained(moco_run, tmp_path / "a $run")
    return Path("a $run")


def called(*words: str, folder: str | None = None) -> Made:
    return Made(
        command=["/bin/contrastkit", *words], folder=folder, contrastkit="0", weights="0", data=None, pictures={}
    )


def lines(run: Path, folder: str | None, *evaluations: Made) -> list[list[str]]:
    """The words of each line."""
    blocks = commands(run, Record.read(run / RECIPE), folder, evaluations)
    (code,) = [block for block in blocks if isinstance(block, Code)]
    return [shlex.split(line, comments=True) for line in code.lines]


def test_what_is_evaluated_is_the_new_run(run: Path) -> None:
    here = os.getcwd()
    words = ("--json=a $run/knn.json", "--data", "a $runs", "--baselines")
    known = lines(
        run, here, called("knn", "a $run", *words, folder=here), called("map", f"{run.resolve()}/", folder=here)
    )
    assert known[0] == ["cd", here] and known[1][:2] == ["contrastkit", "train"] and known[1][-1] == "a $run-again"
    assert known[2:] == [
        ["contrastkit", "knn", "a $run-again", "--json=a $run-again/knn.json", "--data", "a $runs", "--baselines"],
        ["contrastkit", "map", "a $run-again"],
        ["contrastkit", "report", "a $run-again"],
    ]


def test_each_command_runs_in_its_own_folder(run: Path) -> None:
    (inner := Path("inner")).mkdir()
    place, new = str(inner.resolve()), str(Path("a $run-again").resolve())
    found = lines(run, os.getcwd(), called("knn", "../a $run", "--data=own", folder=place), called("map", "a $run"))
    assert [words[0] for words in found] == ["cd", "contrastkit", "cd", "contrastkit", "contrastkit", "contrastkit"]
    assert found[1][-1] == new and found[2:4] == [["cd", place], ["contrastkit", "knn", new, "--data=own"]]
    texts = [block.text for block in commands(run, Record.read(run / RECIPE), None, ()) if isinstance(block, Text)]
    assert any("did not record in which folder" in text for text in texts)


def test_a_command_of_a_run_that_has_moved_is_shown_as_it_was(run: Path) -> None:
    blocks = commands(run, Record.read(run / RECIPE), None, [called("knn", "old/run", folder="/elsewhere")])
    (code,) = [block for block in blocks if isinstance(block, Code)]
    at = code.lines.index(ELSEWHERE)
    assert code.lines[at - 1 : at + 2] == ("cd /elsewhere", ELSEWHERE, "contrastkit knn old/run")


def test_without_a_command_of_the_training_the_run_itself_is_evaluated(run: Path) -> None:
    record = Record.read(run / RECIPE)
    record = replace(record, encoder=record.encoder | {"name": "module:Mine"})
    blocks = commands(run, record, None, [called("knn", "a $run")])
    (code,) = [block for block in blocks if isinstance(block, Code)]
    assert code.lines == ("contrastkit knn 'a $run'", "contrastkit report 'a $run'")


def test_the_new_folder_of_a_run_that_is_the_current_one(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run)
    assert again(Path()) == again(Path("../a $run").resolve()) == Path.cwd().with_name("a $run-again")


def test_a_training_and_an_evaluation_record_their_folder(moco_run: Path) -> None:
    assert json.loads((moco_run / ENVIRONMENT).read_text())[-1]["folder"]
    assert made(EvaluationSubject.open(moco_run))["made"]["folder"] == os.getcwd()


def test_every_command_on_a_page_is_quoted(run: Path) -> None:
    """Each is split by a shell into the words of its program; an unquoted $ would be another name."""
    page = library.content([run])
    blocks = [block for section in page.runs[0].sections for block in section.blocks]
    shown = [block.command for block in blocks if isinstance(block, Missing) and block.command]
    shown += [line for block in blocks if isinstance(block, Code) for line in block.lines]
    of_run = [line for line in shown if "$run" in line]
    assert len(of_run) > 4
    for line in of_run:
        assert {Path(word).name for word in shlex.split(line)} & {"a $run", "a $run-again"}, line


def test_what_a_training_advises_is_quoted(run: Path) -> None:
    outcome: Any = SimpleNamespace(
        run=Run.open(run), step=3, seconds=1.0, images_per_s=9.0, finished=True, applicable=("knn", "retrieve")
    )
    advice = _closing("a b.py:mine", outcome, "images")[-1].removeprefix("evaluate: ").split("   ")
    assert [shlex.split(line) for line in advice] == [
        ["contrastkit", "knn", "a $run"],
        ["contrastkit", "retrieve", "a $run", "--method", "a b.py:mine"],
    ]
    outcome.finished = False
    assert _closing("moco", outcome, "images")[-1] == "resume: contrastkit train moco --resume 'a $run'"
