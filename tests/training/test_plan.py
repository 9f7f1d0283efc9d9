"""What is to be trained: the workers, and what reaches the plan from the library's front door."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import contrastkit
from contrastkit.data import open_data
from contrastkit.errors import UserError
from contrastkit.training import api, plan


def test_the_data_choose_the_workers_unless_they_are_given(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "default_workers", lambda source: len(source) // 2)
    how: dict[str, Any] = {"change": plan.replaced({}), "encoder": "tiny"}
    given = {"data": str(images), "device": "cpu"}
    assert plan.plan("moco", given, **how).options.workers == 160
    assert plan.plan("moco", given | {"workers": 3}, **how).options.workers == 3


def test_a_resume_opens_the_data_again_unless_they_are_open(moco_run: Path, hard_images: Path) -> None:
    how: dict[str, Any] = {"change": plan.replaced({}), "out": moco_run, "resume": True}
    again: Any = plan.plan("moco", {"workers": 2}, **how)
    assert again.data.name == "hard" and len(again.data.pretrain) == 210 and again.options.workers == 2
    assert (again.name, again.out, again.record.name) == ("moco-v2/tiny", moco_run, "moco-v2/tiny")
    assert dataclasses.asdict(again.recipe)["K"] == 64
    data = open_data(str(hard_images), val_fraction=0.25)
    opened: Any = plan.plan("moco", {}, data=data, **how)
    assert opened.data is data and opened.options.data == "python:hard"
    with pytest.raises(UserError, match="a run keeps its recipe: .* is moco-v2/tiny"):
        plan.plan("moco", {}, row="digits", **how)


def test_data_are_recorded_by_absolute_paths(
    images: Path, sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(images.parent))
    monkeypatch.chdir(images.parent)
    for data in (images.name, f"~/{images.name}"):
        how: dict[str, Any] = {"change": plan.replaced({}), "out": tmp_path / "run"}
        assert plan.plan("moco", {"data": data, "device": "cpu"}, **how).options.data == str(images)
    assert plan.absolute(f"a=~,b={sounds}") == f"a={images.parent},b={sounds}"
    assert plan.absolute("digits") == "digits"


def test_the_front_door_hands_everything_over(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, dict[str, Any]]] = []
    monkeypatch.setattr(api, "launch", lambda plan, **how: calls.append((plan, how)))
    module, data = nn.Linear(2, 2), open_data(str(images), val_fraction=0.2)
    numbers: dict[str, Any] = {"epochs": 7, "tau": 0.3, "seed": 4, "device": "cpu", "val_fraction": 0.2}
    contrastkit.train("moco", str(images), encoder="tiny", out=tmp_path / "a", stop_after=3, **numbers)
    contrastkit.train("moco", data, encoder=module, out=tmp_path / "b", row="tiny", **numbers)
    (named, one), (made, two) = calls
    for chosen in (named, made):
        assert chosen.name == "moco-v2/tiny" and (chosen.recipe.epochs, chosen.recipe.tau) == (7, 0.3)
        assert (chosen.options.seed, chosen.options.device, chosen.options.val_fraction) == (4, "cpu", 0.2)
    assert (named.options.data, made.options.data) == (str(images), "python:noise")
    assert (named.recipe.encoder, made.recipe.encoder) == ("tiny", "module:Linear")
    assert (named.out, named.record, one["stop_after"], one["encoder"]) == (tmp_path / "a", None, 3, None)
    assert (made.out, made.data, two["encoder"]) == (tmp_path / "b", data, module)
    with pytest.raises(UserError, match="moco has no taw, did you mean 'tau'"):
        contrastkit.train("moco", str(images), taw=0.1)
    with pytest.raises(UserError, match="resume=True needs the run to resume"):
        contrastkit.train("moco", str(images), resume=True)
