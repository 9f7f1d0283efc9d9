"""What the loop does at each step, seen by a spy on the optimizer and the method, against the recipe's own numbers."""

import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from contrastkit.augment import View
from contrastkit.data import Loader, open_data
from contrastkit.errors import UserError
from contrastkit.methods import BuildContext, Method, Recipe
from contrastkit.monitor import Monitor
from contrastkit.optim import LARS, ParamGroup
from contrastkit.parts.heads import Tower
from contrastkit.run import Run
from contrastkit.training import NullReporter, Options, Plan, Progress, progress, session
from contrastkit.training.launch import launch
from contrastkit.types import Batch, Step

EPOCHS, PER_EPOCH, BATCH = 4, 8, 32  # 256 of the 320 images are trained on
STEPS = EPOCHS * PER_EPOCH


@dataclass
class Log:
    """What happened, in order."""

    events: list[str] = field(default_factory=list)
    progress: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    indices: list[torch.Tensor] = field(default_factory=list)
    views: list[list[torch.Tensor]] = field(default_factory=list)
    groups: list[list[dict[str, Any]]] = field(default_factory=list)  # of the optimizer, at each of its steps
    norms: list[list[float | None]] = field(default_factory=list)  # of each group's gradient then
    written: list[tuple[float, bool]] = field(default_factory=list)  # progress, and whether the memory is this step's
    optimizer: torch.optim.Optimizer | None = None
    context: BuildContext | None = None
    start: torch.Tensor | None = None  # a weight before the first step
    dtypes: set[torch.dtype] = field(default_factory=set)  # of the outputs


LOG = Log()


@dataclass(frozen=True, kw_only=True)
class SpyRecipe(Recipe):
    frozen_until: float = 0.0
    scale: float = 1.0  # of the gradient
    dropout: float = 0.0

    def build(self, context: BuildContext) -> "SpyMethod":
        LOG.context = context
        return SpyMethod(self, context)

    def build_optimizer(self, method: Method) -> torch.optim.Optimizer:
        optimizer = super().build_optimizer(method)
        LOG.optimizer, step = optimizer, optimizer.step

        def spied(*args: Any, **kwargs: Any) -> Any:
            LOG.events.append("optimizer")
            LOG.groups.append([{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups])
            LOG.norms.append([norm(group["params"]) for group in optimizer.param_groups])
            return step(*args, **kwargs)

        optimizer.step = spied  # type: ignore[method-assign]
        return optimizer


def norm(params: list[nn.Parameter]) -> float | None:
    grads = [p.grad for p in params if p.grad is not None]
    return torch.stack([g.double().pow(2).sum() for g in grads]).sum().sqrt().item() if grads else None


class SpyMethod(Method):
    """The distance of two views' outputs: anything with a gradient."""

    def __init__(self, recipe: SpyRecipe, context: BuildContext) -> None:
        super().__init__()
        encoder = recipe.build_encoder(context)
        self.online = Tower(encoder, nn.Linear(encoder.dim, 4))
        self.recipe = recipe
        self.memory: torch.Tensor | None = None
        LOG.start = self.online.head.weight.detach().clone()

    def forward(self, batch: Batch, progress: float) -> Step:
        assert self.training and all(p.grad is None for p in self.parameters()), "gradients are left from before"
        LOG.events.append("forward")
        LOG.progress.append(progress)
        LOG.indices.append(batch.index)
        LOG.views.append(list(batch.views))
        outputs = [self.online(view) for view in batch.views[:2]]
        LOG.dtypes.update(output.dtype for output in outputs)
        first, second = (F.dropout(output.float().tanh(), self.recipe.dropout) for output in outputs)
        loss = self.recipe.scale * (first - second).square().mean()
        LOG.losses.append(loss.item())
        self.memory = loss.detach()
        return Step(loss=loss, memory=self.memory, logs={"twice": 2 * loss})

    def after_step(self, batch: Batch, step: Step, progress: float) -> None:
        LOG.events.append("after_step")
        LOG.written.append((progress, step.memory is self.memory and batch.index is LOG.indices[-1]))

    def param_groups(self) -> list[ParamGroup]:
        return [
            ParamGroup(params=list(self.online.encoder.parameters())),
            ParamGroup(params=[self.online.head.get_parameter("weight")], decay=False, lr_scale=3.0),
            ParamGroup(
                params=[self.online.head.get_parameter("bias")], fixed_lr=0.005, frozen_until=self.recipe.frozen_until
            ),
        ]


def recipe(**numbers: Any) -> SpyRecipe:
    view = View(size=12, crop_min=0.5)
    row = SpyRecipe(encoder="tiny", epochs=EPOCHS, batch=BATCH, lr=0.1, weight_decay=0.01, views=(view, view))
    return replace(row, **numbers)


def run(
    images: Path, out: Path, reporter: NullReporter | None = None, how: dict[str, Any] | None = None, **numbers: Any
) -> Log:
    global LOG
    LOG = Log()
    launch(Plan.of("spy/tiny", recipe(**numbers), options(images, **how or {}), out), reporter=reporter)
    return LOG


def options(images: Path, **how: Any) -> Options:
    """Without evaluations, which take as long as the steps."""
    given: dict[str, Any] = {
        "val_fraction": 0.2,
        "device": "cpu",
        "seed": 5,
        "precision": "float32",
        "monitor_every": 0,
    }
    return Options(data=str(images), **given | how)


def rates(log: Log) -> list[float]:
    """The learning rate of the first group, whose scale is 1, after seeing that the others follow."""
    for first, scaled, fixed in log.groups:
        assert scaled["lr"] == pytest.approx(3 * first["lr"]) and fixed["lr"] == 0.005
    return [groups[0]["lr"] for groups in log.groups]


def test_each_step_reads_then_steps_then_writes(images: Path, tmp_path: Path) -> None:
    log = run(images, tmp_path / "run")
    assert log.events == ["forward", "optimizer", "after_step"] * STEPS
    assert log.progress == [step / STEPS for step in range(STEPS)]
    assert log.written == [(step / STEPS, True) for step in range(STEPS)]


def test_every_epoch_shows_each_image_once_in_an_order_of_its_own(images: Path, tmp_path: Path) -> None:
    log = run(images, tmp_path / "run")
    epochs = [torch.cat(log.indices[i : i + PER_EPOCH]) for i in range(0, STEPS, PER_EPOCH)]
    assert all(epoch.sort().values.tolist() == list(range(256)) for epoch in epochs)
    assert len({tuple(epoch.tolist()) for epoch in epochs}) == EPOCHS
    assert not any(torch.equal(*views) for views in log.views), "both views are the same"
    assert all(view.shape == (BATCH, 3, 12, 12) for views in log.views for view in views)


def test_warm_up_then_a_cosine_from_and_to_the_recipes_rates(images: Path, tmp_path: Path) -> None:
    log = run(images, tmp_path / "run", lr=0.4, first_lr=0.1, warmup_epochs=1.0, final_lr=0.05)
    rising = [0.1 + 0.3 * step / PER_EPOCH for step in range(PER_EPOCH)]
    t = [step / (STEPS - PER_EPOCH) for step in range(STEPS - PER_EPOCH)]
    falling = [0.05 + 0.35 * (1 + math.cos(math.pi * x)) / 2 for x in t]
    assert rates(log) == pytest.approx([*rising, *falling])


def test_the_rate_drops_at_the_milestones_by_gamma(images: Path, tmp_path: Path) -> None:
    log = run(images, tmp_path / "run", lr=0.8, schedule="step", milestones=(0.25, 0.75), gamma=0.5)
    assert rates(log) == pytest.approx([0.8] * 8 + [0.4] * 16 + [0.2] * 8)


def test_a_rate_of_each_epoch_stays_throughout_it(images: Path, tmp_path: Path) -> None:
    log = run(images, tmp_path / "run", lr=0.8, lr_per_epoch=True)
    expected = [0.4 * (1 + math.cos(math.pi * epoch / EPOCHS)) for epoch in range(EPOCHS) for _ in range(PER_EPOCH)]
    assert rates(log) == pytest.approx(expected)


def test_weight_decay_stays_or_follows_its_cosine_in_the_groups_that_decay(images: Path, tmp_path: Path) -> None:
    constant = run(images, tmp_path / "constant", weight_decay=0.03)
    assert [[g["weight_decay"] for g in groups] for groups in constant.groups] == [[0.03, 0.0, 0.03]] * STEPS
    log = run(images, tmp_path / "cosine", weight_decay=0.04, final_weight_decay=0.4, schedule="constant")
    expected = [0.4 + (0.04 - 0.4) * (1 + math.cos(math.pi * step / STEPS)) / 2 for step in range(STEPS)]
    for number, factor in enumerate((1, 0, 1)):
        assert [groups[number]["weight_decay"] for groups in log.groups] == pytest.approx(
            [factor * d for d in expected]
        )


def test_the_gradient_is_clipped_to_one_norm_of_all_but_the_frozen(images: Path, tmp_path: Path) -> None:
    log = run(images, tmp_path / "run", scale=1e4, lr=1e-4, clip_norm=0.25, frozen_until=0.5)
    for step, (encoder, weight, bias) in enumerate(log.norms):
        assert encoder is not None and weight is not None
        assert (bias is None) == (step < STEPS // 2), "frozen up to half of the training"
        assert math.hypot(encoder, weight, bias or 0.0) == pytest.approx(0.25, rel=1e-4)
    free = run(images, tmp_path / "free", scale=1e4, lr=1e-4)
    assert math.hypot(*(n or 0.0 for n in free.norms[0])) > 1, "clip_norm 0 is off"


def test_the_optimizer_gets_the_recipes_numbers(images: Path, tmp_path: Path) -> None:
    numbers: dict[str, Any] = {
        "optimizer": "lars",
        "momentum": 0.7,
        "trust": 0.02,
        "trust_clip": True,
        "lr_inside_momentum": True,
    }
    lars = run(images, tmp_path / "lars", **numbers).optimizer
    assert isinstance(lars, LARS) and lars.trust_clip and lars.lr_inside_momentum
    assert all((group["momentum"], group["trust"]) == (0.7, 0.02) for group in lars.param_groups)
    sgd = run(images, tmp_path / "sgd", momentum=0.6).optimizer
    assert isinstance(sgd, torch.optim.SGD) and all(group["momentum"] == 0.6 for group in sgd.param_groups)
    assert isinstance(run(images, tmp_path / "adamw", optimizer="adamw").optimizer, torch.optim.AdamW)


def test_metrics_are_the_means_of_the_epoch_and_the_rate_of_its_last_step(images: Path, tmp_path: Path) -> None:
    log = run(images, tmp_path / "run", how={"monitor_every": 3})
    rows = Run.open(tmp_path / "run").metrics()
    assert [(row["epoch"], row["step"]) for row in rows] == [(e + 1, (e + 1) * PER_EPOCH) for e in range(EPOCHS)]
    for epoch, row in enumerate(rows):
        of_epoch = slice(epoch * PER_EPOCH, (epoch + 1) * PER_EPOCH)
        mean = sum(log.losses[of_epoch]) / PER_EPOCH
        assert row["loss"] == pytest.approx(mean, rel=1e-5) and row["twice"] == pytest.approx(2 * mean, rel=1e-5)
        assert row["lr"] == pytest.approx(rates(log)[of_epoch][-1])
        assert row["unreadable"] == 0 and row["images_per_s"] > 0 and 0 <= row["waiting"] <= 1
        assert ("knn" in row) == (epoch + 1 in (3, 4)), "every third epoch, and the last one"
    assert rows[0]["seconds"] < rows[-1]["seconds"]


class Watcher(NullReporter):
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.seen: list[Progress] = []

    def log(self, line: str) -> None:
        self.lines.append(line)

    def on_step(self, progress: Progress) -> None:
        self.seen.append(progress)


def test_progress_is_reported_every_ten_steps_and_at_the_end_of_epochs(images: Path, tmp_path: Path) -> None:
    watcher = Watcher()
    log = run(images, tmp_path / "run", reporter=watcher, how={"monitor_every": 2})
    assert [p.step for p in watcher.seen] == [8, 10, 16, 20, 24, 30, 32]
    for p in watcher.seen:
        assert (p.steps, p.epochs, p.epoch) == (STEPS, EPOCHS, p.step / PER_EPOCH)
        assert p.loss == pytest.approx(log.losses[p.step - 1]) and p.memory_mib > 0
        assert p.seconds_left == pytest.approx((STEPS - p.step) * BATCH / p.images_per_s)
    assert watcher.seen[0].evaluation == {} and "knn" in watcher.seen[-1].evaluation
    assert sum(line.startswith("epoch ") for line in watcher.lines) == EPOCHS
    logged = (tmp_path / "run" / "log.txt").read_text()
    assert all(line in logged for line in watcher.lines)


def test_a_long_epoch_is_saved_in_its_middle(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    save = Run.save

    def spied(self: Run, state: dict[str, Any], **how: Any) -> None:
        steps.append(state["step"])
        save(self, state, **how)

    monkeypatch.setattr(Run, "save", spied)
    run(images, tmp_path / "quick")
    assert steps == [8, 16, 24, 32]
    steps.clear()
    monkeypatch.setattr(session, "SAVE_SECONDS", 0.0)
    run(images, tmp_path / "slow")
    assert steps == [8, 10, 16, 20, 24, 30, 32]


def test_the_seed_decides_on_weights_order_and_views(images: Path, tmp_path: Path) -> None:
    logs: list[Log] = []
    for seed in (5, 5, 6):
        global LOG
        LOG = Log()
        how = options(images, seed=seed)
        launch(Plan.of("spy/tiny", recipe(), how, tmp_path / f"{len(logs)}"), stop_after=1)
        logs.append(LOG)
    one, again, other = logs
    assert one.losses == again.losses and one.losses != other.losses
    assert torch.equal(one.views[0][0], again.views[0][0]) and not torch.equal(one.views[0][0], other.views[0][0])
    assert torch.equal(one.start, again.start) and not torch.equal(one.start, other.start)


def test_the_monitor_sees_two_different_views_of_the_data_that_are_trained_on(images: Path, tmp_path: Path) -> None:
    """Two equal views would have an alignment of 0 whatever was learned."""
    run(images, tmp_path / "run", how={"monitor_every": 4})
    rows = Run.open(tmp_path / "run").metrics()
    assert rows[-1]["alignment"] > 0 and len(open_data(str(images), val_fraction=0.2, seed=5).pretrain) == 256


class Clock:
    """Time as the tests tell it: none passes by itself."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def after(self, seconds: float, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, taking so long."""

        def slow(*args: Any, **kwargs: Any) -> Any:
            self.now += seconds
            return function(*args, **kwargs)

        return slow


def test_the_clock_runs_while_training_and_waiting_alone(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three seconds a step and one of waiting for it; evaluations and checkpoints take hours, and do not count."""
    clock, saved = Clock(), list[int]()
    batches = Loader.batches

    def late(self: Loader, *steps: int) -> Iterator[Batch]:
        for batch in batches(self, *steps):
            clock.now += 1.0
            yield batch

    def save(self: Run, state: dict[str, Any], **how: Any) -> None:
        saved.append(state["step"])
        clock.now += 5e3

    monkeypatch.setattr(progress, "time", clock)
    monkeypatch.setattr(Loader, "batches", late)
    monkeypatch.setattr(SpyMethod, "after_step", clock.after(3.0, SpyMethod.after_step))
    monkeypatch.setattr(Monitor, "evaluate", clock.after(7e3, lambda *_: {}))
    monkeypatch.setattr(Run, "save", save)
    monkeypatch.setattr(session, "SAVE_SECONDS", 39.0)  # longer than an epoch
    log = run(images, tmp_path / "run", how={"monitor_every": 1})
    rows = Run.open(tmp_path / "run").metrics()
    assert [row["seconds"] for row in rows] == [32.0, 64.0, 96.0, 128.0] and len(log.losses) == STEPS
    assert all((row["images_per_s"], row["waiting"]) == (BATCH / 4, 0.25) for row in rows)
    assert saved == [8, 16, 24, 32], "the time since the last checkpoint, not since the start"
    written = (tmp_path / "run/log.txt").read_text().splitlines()
    waits = [line.split("  ", 1)[-1] for line in written if "waiting for data" in line]
    assert len(waits) == 1 and "25% of the time goes into waiting for data: " in waits[0]


@pytest.mark.parametrize(("cores", "workers", "says"), [(8, 2, "try --workers 7 instead of 2"), (2, 1, "more cores")])
def test_what_to_do_where_training_waits(
    images: Path, monkeypatch: pytest.MonkeyPatch, cores: int, workers: int, says: str
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    with Loader(open_data(str(images)).train, [], batch=1, seed=0, workers=workers) as loader:
        assert says in loader.advice and "`contrastkit bench-input`" in loader.advice


def test_a_resumed_run_draws_what_it_would_have_drawn(images: Path, tmp_path: Path) -> None:
    """Also from torch's own generator, as the dropout of a method does."""
    whole = run(images, tmp_path / "whole", dropout=0.5).losses
    global LOG
    LOG = Log()
    for stop_after in (2, None):
        how = options(images)
        launch(
            Plan.of("spy/tiny", recipe(dropout=0.5), how, tmp_path / "x", resume=not stop_after), stop_after=stop_after
        )
    assert LOG.losses == whole


def test_a_resumed_run_knows_its_evaluations(images: Path, tmp_path: Path) -> None:
    run(images, tmp_path / "run", epochs=1, how={"monitor_every": 1})
    how = options(images, monitor_every=1)
    again = launch(Plan.of("spy/tiny", recipe(epochs=1), how, tmp_path / "run", resume=True))
    (row,) = again.run.metrics()
    assert again.evaluation["knn"] == row["knn"]
    assert len(json.loads((tmp_path / "run" / "environment.json").read_text())) == 2, "an entry for each start"


def test_a_diagnosis_is_reported(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = Watcher()
    monkeypatch.setattr("contrastkit.monitor.diagnose", lambda history, *_, **how: f"{len(history)}: ill")
    run(images, tmp_path / "run", reporter=watcher, epochs=2, how={"monitor_every": 1})
    assert [line for line in watcher.lines if line.endswith("ill")] == ["1: ill", "2: ill"]


def test_the_first_step_whose_loss_is_not_finite_is_named(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses are read after step 10, then after the epoch, 16."""
    forward = SpyMethod.forward

    def spoiled(self: SpyMethod, batch: Batch, progress: float) -> Step:
        out = forward(self, batch, progress)
        return replace(out, loss=out.loss * math.nan) if len(LOG.losses) == 13 else out

    monkeypatch.setattr(SpyMethod, "forward", spoiled)
    with pytest.raises(UserError, match=r"the loss is nan at step 13, learning rate .* checkpoint: .*last\.pt"):
        run(images, tmp_path / "run")


def test_bfloat16_is_the_encoders(images: Path, tmp_path: Path) -> None:
    log = run(images, tmp_path / "run", epochs=1, how={"precision": "bfloat16"})
    assert log.dtypes == {torch.bfloat16}
    assert run(images, tmp_path / "full", epochs=1).dtypes == {torch.float32}


def test_each_option_reaches_what_it_is_for(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What they do there is for the tests of the loader, the monitor and the tower."""
    given: dict[str, dict[str, Any]] = {}

    def spy(made: type) -> Callable[..., Any]:
        def spied(*args: Any, **how: Any) -> Any:
            given[made.__name__] = how
            return made(*args, **how)

        return spied

    for made in (Loader, Monitor):
        monkeypatch.setattr(f"contrastkit.training.launch.{made.__name__}", spy(made))
    monkeypatch.setattr(SpyMethod, "chance_loss", 3.0)
    monkeypatch.setattr(Tower, "compile", lambda tower: compiled.append(tower))
    compiled: list[Tower] = []
    how = {"workers": 1, "max_bad": 0.5, "monitor_every": 9, "compile": True, "seed": 6, "scaled_decoding": True}
    log = run(images, tmp_path / "run", epochs=1, how=how)
    cpu = torch.device("cpu")
    loader = {"batch": BATCH, "seed": 6, "workers": 1, "rank": 0, "world": 1, "max_bad": 0.5, "device": cpu}
    assert given["Loader"] == loader | {"scaled": True}
    # The encoder is evaluated on images of up to 4/3 of the views' 12 pixels.
    assert given["Monitor"] == {
        "size": 16, "seed": 6, "device": cpu, "every": 9, "chance_loss": 3.0, "can_collapse": True,
        "workers": 1, "labels": False, "steps": 9 * 256 // BATCH
    }  # fmt: skip
    assert log.context == BuildContext(channels=3, size=16, images=256, world=1, seed=6)
    assert len(compiled) == 1


@pytest.mark.parametrize(
    ("room", "line"), [(10**9, "0.2 MB of images lie on cpu"), (0, "copied to cpu batch by batch")]
)
def test_a_run_says_where_its_images_lie(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, line: str
) -> None:
    """With views made on the device, which is the CPU here; the losses are those of any other run."""
    lines: list[str] = []

    class Lines(NullReporter):
        def log(self, line: str) -> None:
            lines.append(line)

    usual = run(images, tmp_path / "usual", Lines(), epochs=1)
    assert not any("of images" in each for each in lines)
    monkeypatch.setattr("contrastkit.training.launch.Loader", partial(Loader, on_device=True))
    monkeypatch.setattr("contrastkit.training.launch.require_memory", lambda *args, **how: 7)
    monkeypatch.setattr("contrastkit.training.launch.room_beside", lambda needed, device: room * (needed == 7))
    assert run(images, tmp_path / "run", Lines(), epochs=1).losses == usual.losses
    assert [line for each in lines if line in each] == [line]


def test_a_run_records_what_loading_it_takes(images: Path, tmp_path: Path) -> None:
    views = recipe().views[0], View(size=12, gray_p=1.0)
    run(images, tmp_path / "run", epochs=1, views=views)
    record = Run.open(tmp_path / "run").record
    assert record.name == "spy/tiny" and SpyRecipe.from_json(record.recipe) == recipe(epochs=1, views=views)
    assert record.options == options(images)
    assert record.encoder == {"name": "tiny", "channels": 3, "size": 16}
    assert (record.data.name, record.data.images, record.data.modalities) == ("noise", 256, None)
