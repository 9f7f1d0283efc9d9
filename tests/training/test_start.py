"""Where a run begins: at weights from elsewhere, or at the last state of another run that it extends."""

import shutil
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import contrastkit
from contrastkit.errors import UserError
from contrastkit.methods import RECIPES, BuildContext
from contrastkit.parts.build import build_encoder
from contrastkit.parts.target import Target
from contrastkit.parts.weights import Weights
from contrastkit.run import Run
from contrastkit.training import NullReporter, Outcome
from contrastkit.training import launch as launching
from contrastkit.types import Modality
from tests.methods.test_contract import ROWS, context
from tests.same import assert_same_run

QUICK: dict[str, Any] = {"encoder": "tiny", "batch": 32, "K": 64, "size": 12, "device": "cpu", "val_fraction": 0.2}


class Lines(NullReporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, line: str) -> None:
        self.lines.append(line)


def train(images: Path, out: Path, **how: Any) -> Outcome:
    return contrastkit.train("moco", images, out=out, **QUICK | {"epochs": 2} | how)


@pytest.fixture(scope="module")
def two(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two epochs of two."""
    return train(images, tmp_path_factory.mktemp("two") / "run").run.path


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Of another seed, under torchvision's kind of names."""
    torch.manual_seed(9)
    trunk = build_encoder("tiny", channels=3, size=12).trunk.state_dict()
    save_file(trunk | {"fc.weight": torch.zeros(2, 2)}, tmp_path / "weights.safetensors", {"mean": "0.4", "std": "0.2"})
    return tmp_path / "weights.safetensors"


# ------------------------------------------------------------------------------------------------ weights


@pytest.mark.parametrize("name", [name for name in ROWS if ROWS[name].modality is Modality.IMAGE])
def test_the_targets_of_every_method_start_at_the_weights(name: str) -> None:
    recipe = ROWS[name]
    plain = context(recipe)
    torch.manual_seed(1)
    state = {k: v + 1 for k, v in recipe.build_encoder(plain).state_dict().items()}
    torch.manual_seed(2)
    method = recipe.build(replace(plain, weights=Weights(source="x", tensors=state, sha256="")))
    towers = [method.online, *(module.tower for module in method.modules() if isinstance(module, Target))]
    for tower in towers:
        for key, value in tower.encoder.state_dict().items():
            assert torch.equal(value, state[key]), key


def test_a_run_starts_at_the_weights_and_records_them(images: Path, weights: Path, tmp_path: Path) -> None:
    reporter = Lines()
    out = tmp_path / "run"
    train(images, out, init_from=weights, lr=0.0, warmup_epochs=0, weight_decay=0.0, reporter=reporter)
    trained, given = load_file(out / "encoder.safetensors"), load_file(weights)
    for name, value in given.items():
        if not name.startswith("fc.") and "running" not in name and "tracked" not in name:
            assert torch.equal(trained[f"trunk.{name}"], value), "a step of length 0"
    assert trained["mean"].flatten().tolist() == pytest.approx([0.4] * 3)
    record: Any = Run.open(out).record.weights
    assert record.source == str(weights) and (record.left_out, record.missing) == (["fc.weight"], [])
    assert record.taken == len(given) - 1 and record.mean == pytest.approx([0.4] * 3)
    assert reporter.lines[1:3] == record.lines
    assert any(line.startswith("before the first step, the starting weights have kNN ") for line in reporter.lines)
    begin = Run.open(out).metrics()[0]
    assert begin == {"step": 0, "epoch": 0, "knn": begin["knn"]}
    assert reporter.lines[-1].startswith(f"verdict: kNN stayed level: {begin['knn']:.1%} before the first step, ")


@pytest.mark.parametrize("stop", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_resume_needs_the_weights_no_more(
    stop: int, images: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also before the first checkpoint of a step, as after a kill."""
    straight, parts = tmp_path / "straight", tmp_path / "parts"
    assert train(images, straight, init_from=weights).finished
    if stop:
        train(images, parts, init_from=weights, stop_after=1)
    else:
        killed_before_the_first_step(monkeypatch, lambda: train(images, parts, init_from=weights))
    weights.unlink()
    assert contrastkit.train("moco", out=parts, resume=True).finished
    assert_same_run(parts, straight)
    assert [row["step"] for row in Run.open(parts).metrics()] == [0, 8, 16]


def killed_before_the_first_step(monkeypatch: pytest.MonkeyPatch, train: Callable[[], object]) -> None:
    def kill(*args: Any, **how: Any) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(launching, "fit", kill)
        patch.setattr(Run, "_discard", lambda run: None)
        with pytest.raises(KeyboardInterrupt):
            train()


def test_a_run_that_ended_before_it_had_its_weights_is_not_resumed_without(
    images: Path, weights: Path, tmp_path: Path
) -> None:
    train(images, tmp_path / "run", init_from=weights, stop_after=1)
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with pytest.raises(
        UserError, match=r"ended before it had its weights, those of .*weights.safetensors: start a new"
    ):
        contrastkit.train("moco", out=tmp_path / "run", resume=True)


def test_a_start_that_fails_leaves_nothing(
    images: Path, weights: Path, two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "fit", lambda session, **how: session.run.missing)
    for how in ({"init_from": weights}, {"extend": two, "epochs": 3}):
        with pytest.raises(AttributeError):
            contrastkit.train("moco", images, out=tmp_path / "run", **QUICK | how)
        assert not (tmp_path / "run").exists()


def test_a_run_is_a_source_of_weights(images: Path, two: Path, tmp_path: Path) -> None:
    ended, unfinished = tmp_path / "ended", tmp_path / "unfinished"
    shutil.copytree(two, unfinished)
    (unfinished / "encoder.safetensors").unlink()
    for source, out, naming in ((two, ended, "contrastkit"), (unfinished, tmp_path / "other", "contrastkit")):
        contrastkit.train("simsiam", images, encoder="tiny", size=12, epochs=1, batch=32, stop_after=1, lr=0.0,
                          warmup_epochs=0, weight_decay=0.0, device="cpu", out=out, init_from=source)  # fmt: skip
        record: Any = Run.open(out).record.weights
        assert (record.naming, record.missing, record.size) == (naming, [], 16)
        conv1 = contrastkit.load(out).state_dict()["trunk.conv1.weight"]
        assert torch.equal(conv1, load_file(two / "encoder.safetensors")["trunk.conv1.weight"])
    with pytest.raises(UserError, match="does not fit the encoder: .*: give --encoder tiny"):
        contrastkit.train(
            "moco", images, encoder="resnet18", size=12, batch=64, device="cpu", out=tmp_path / "x", init_from=two
        )
    assert not (tmp_path / "x").exists()


def test_a_module_starts_at_weights_of_its_own_names(images: Path, tmp_path: Path) -> None:
    """Its own "model." is no wrapper."""

    def network() -> nn.Module:
        layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return nn.Sequential(OrderedDict(model=layers))

    torch.save((given := network()).state_dict(), tmp_path / "x.pt")
    still: dict[str, Any] = {"lr": 0.0, "warmup_epochs": 0, "weight_decay": 0.0, "epochs": 1, "batch": 64}
    contrastkit.train("simsiam", images, row="tiny", encoder=(module := network()), init_from=tmp_path / "x.pt",
                      out=tmp_path / "run", device="cpu", **still)  # fmt: skip
    for name, value in given.state_dict().items():
        assert torch.equal(module.state_dict()[name], value)


def test_the_weights_of_a_transformer_replace_moco_v3s_own_start() -> None:
    recipe: Any = RECIPES["moco-v3/imagenet-vit"]
    recipe = replace(recipe, encoder="timm:test_vit", heads=0, views=ROWS["moco-v3/tiny"].views)
    plain = BuildContext(channels=3, size=32, images=64)
    state = build_encoder("timm:test_vit", channels=3, size=32).state_dict()
    encoder = recipe.build_encoder(replace(plain, weights=Weights(source="x", tensors=state, sha256="")))
    assert torch.equal(encoder.state_dict()["trunk.pos_embed"], state["trunk.pos_embed"])
    assert not encoder.trunk.patch_embed.proj.weight.requires_grad


# ----------------------------------------------------------------------------------------------- longer schedules


@pytest.mark.slow
def test_an_extended_run_is_the_loop_under_the_longer_schedule(images: Path, two: Path, tmp_path: Path) -> None:
    """Two epochs at a constant rate, extended by two, are the four of a straight run: nothing but the schedule changes.
    MoCo's draws depend on the seed and the step alone where batch norm has one group."""
    flat: dict[str, Any] = {"schedule": "step", "milestones": (1.0,), "warmup_epochs": 0, "bn_groups": 1}
    straight, half, whole = (tmp_path / name for name in ("straight", "half", "whole"))
    train(images, straight, epochs=4, **flat)
    train(images, half, **flat)
    before = (half / "checkpoints" / "last.pt").read_bytes()
    reporter = Lines()
    extended = contrastkit.train("moco", out=whole, extend=half, epochs=4, reporter=reporter)
    assert extended.finished and extended.verdict is not None and extended.verdict.epochs == (2, 4)
    assert_same_run(whole, straight)
    assert (half / "checkpoints" / "last.pt").read_bytes() == before
    record: Any = Run.open(whole).record
    assert vars(record.parent) == {"run": str(half), "epochs": 2, "step": 16} and record.recipe["epochs"] == 4
    assert any(re_extends(line, half) for line in reporter.lines), reporter.lines


def re_extends(line: str, run: Path) -> bool:
    return line.startswith(f"extends {run} (2 epochs) from step 16 of 32: the learning rate goes on at 0.12, where")


def test_the_learning_rate_follows_the_longer_schedule(two: Path, tmp_path: Path) -> None:
    """The cosine of 4 epochs, from its middle; and a resume in between changes nothing."""
    straight, parts = tmp_path / "straight", tmp_path / "parts"
    contrastkit.train("moco", out=straight, extend=two, epochs=4)
    rows = Run.open(straight).metrics()
    schedule = RECIPES["moco-v2/tiny"]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    expected = [replace(schedule, epochs=4).schedule_at(step / 32).lr for step in (23, 31)]
    assert [row["lr"] for row in rows[2:]] == pytest.approx(expected)
    contrastkit.train("moco", out=parts, extend=two, epochs=4, stop_after=3)
    contrastkit.train("moco", out=parts, resume=True)
    assert_same_run(parts, straight)


def test_what_an_extension_may_not_change(images: Path, hard_images: Path, two: Path, tmp_path: Path) -> None:
    def extend(**how: Any) -> None:
        contrastkit.train("moco", out=tmp_path / "run", extend=two, **{"epochs": 4} | how)

    for epochs in (1, 2):
        with pytest.raises(UserError, match=f"--extend trains longer than {two}, which has epochs = 2: raise --epochs"):
            extend(epochs=epochs)
    for how, says in (
        ({"tau": 0.3}, "a run keeps its recipe: .* has tau = 0.1; drop the option$"),
        ({"seed": 3}, "a run keeps its seed"),
        ({"data": hard_images}, "was trained on other data"),
        ({"row": "digits"}, "a run keeps its recipe"),
        ({"init_from": two}, "--init-from is for a run from the start"),
        ({"resume": True}, "--extend makes a new run, --resume goes on with one"),
    ):
        with pytest.raises(UserError, match=says):
            extend(**how)
    with pytest.raises(UserError, match=f"a run keeps .* train longer: --extend {two} --epochs N"):
        contrastkit.train("moco", out=two, resume=True, epochs=4)
    with pytest.raises(UserError, match="already holds a run"):
        contrastkit.train("moco", out=two, extend=two, epochs=4)
    with pytest.raises(UserError, match="holds no run"):
        contrastkit.train("moco", out=tmp_path / "run", extend=tmp_path, epochs=4)
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_being_trained_is_not_extended(
    two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = tmp_path / "parent"
    shutil.copytree(two, parent)
    inherit: Any = Run._inherit

    def meanwhile(run: Run, other: Run) -> None:
        state = torch.load(other.last, weights_only=True)
        torch.save(state | {"step": state["step"] - 1}, other.last)
        inherit(run, other)

    monkeypatch.setattr(Run, "_inherit", meanwhile)
    with pytest.raises(UserError, match=f"{parent} is being trained: extend it when it has stopped"):
        contrastkit.train("moco", out=tmp_path / "run", extend=parent, epochs=4)
