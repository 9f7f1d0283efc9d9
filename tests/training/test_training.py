"""Training: resuming is bit-exact, signals stop a run after saving, two processes agree with one."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import contrastkit
from contrastkit import checkpoint
from contrastkit.cli.main import main
from contrastkit.errors import UserError
from contrastkit.methods import RECIPES, Recipe
from contrastkit.methods.moco import MoCo
from contrastkit.parts.heads import Tower
from contrastkit.record import SINCE_3
from contrastkit.run import Run
from contrastkit.training import NullReporter, Options, Outcome, Plan, Progress, session
from contrastkit.training.launch import launch
from contrastkit.training.signals import Signals
from tests.same import assert_alike, assert_same_run

NAME = "moco-v2/tiny"


def recipe(**numbers: Any) -> Recipe:
    views = tuple(replace(view, size=12) for view in RECIPES[NAME].views)
    return replace(RECIPES[NAME], **{"epochs": 4, "batch": 32, "K": 100, "bn_groups": 2, "views": views, **numbers})


def run(images: Path, out: Path, *, stop_after: int | None = None, resume: bool = False,
        reporter: NullReporter | None = None, workers: int = 0, **numbers: Any) -> Outcome:  # fmt: skip
    options = Options(data=str(images), val_fraction=0.2, workers=workers, device="cpu", seed=5)
    return launch(
        Plan.of(NAME, recipe(**numbers), options, out, resume=resume), stop_after=stop_after, reporter=reporter
    )


@pytest.fixture(scope="module")
def straight(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four epochs without a stop."""
    out = tmp_path_factory.mktemp("straight") / "run"
    assert run(images, out).finished
    return out


def test_two_epochs_resume_two_epochs_are_four(images: Path, tmp_path: Path, straight: Path) -> None:
    out = tmp_path / "run"
    assert not run(images, out, stop_after=2).finished
    assert run(images, out, resume=True).finished
    assert_same_run(out, straight)


class Stopper(NullReporter):
    """Sends this process a signal once a step is reached, as a scheduler would."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.lines: list[str] = []

    def log(self, line: str) -> None:
        self.lines.append(line)

    def on_step(self, progress: Progress) -> None:
        if progress.step >= self.step:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.slow
def test_sigterm_in_mid_epoch_with_two_workers_loses_nothing(images: Path, tmp_path: Path, straight: Path) -> None:
    out, reporter = tmp_path / "run", Stopper(10)
    outcome = run(images, out, reporter=reporter, workers=2)
    assert not outcome.finished and outcome.step == 10 and outcome.step % 8, "it must have stopped inside an epoch"
    assert "--resume" in reporter.lines[-1] and Run.open(out).load().step == 10
    assert run(images, out, resume=True, workers=2).finished
    assert_same_run(out, straight)


def test_what_was_written_after_the_last_checkpoint_is_dropped_on_resume(
    images: Path, tmp_path: Path, straight: Path
) -> None:
    out = tmp_path / "run"
    run(images, out, stop_after=2)
    with open(out / "metrics.jsonl", "a") as file:
        file.write('{"step": 999, "epoch": 99, "loss": 0.0}\n{"step": 10')  # what a kill -9 leaves
    (out / "checkpoints" / ".last.pt.x.tmp").write_bytes(b"torn")
    run(images, out, resume=True)
    assert_same_run(out, straight)
    assert not list((out / "checkpoints").glob(".*"))


def test_the_run_folder_holds_what_it_promises(straight: Path) -> None:
    names = {p.name.split(".")[0] + "." + p.name.split(".")[1] for p in straight.iterdir() if p.is_file()}
    assert {"recipe.json", "environment.json", "metrics.jsonl", "log.txt", "curves.png", "encoder.safetensors"} <= names
    assert any(name.startswith("events.") for name in names)


def test_load_gives_the_encoder_of_the_checkpoint(straight: Path) -> None:
    encoder = contrastkit.load(straight)
    assert not encoder.training
    state = torch.load(straight / "checkpoints" / "last.pt", weights_only=True)["method"]
    for key, value in encoder.state_dict().items():
        assert torch.equal(value, state[f"online.encoder.{key}"]), key
    assert encoder(torch.rand(2, 3, 16, 16)).shape == (2, encoder.dim)


def test_load_before_the_end_gives_the_last_checkpoints_encoder(images: Path, tmp_path: Path) -> None:
    run(images, tmp_path / "run", stop_after=1)
    assert not (tmp_path / "run" / "encoder.safetensors").exists()
    state = torch.load(tmp_path / "run" / "checkpoints" / "last.pt", weights_only=True)["method"]
    encoder = contrastkit.load(tmp_path / "run")
    assert torch.equal(encoder.trunk.get_parameter("conv1.weight"), state["online.encoder.trunk.conv1.weight"])


@pytest.mark.slow
def test_a_run_that_died_before_its_first_checkpoint_begins_anew(images: Path, tmp_path: Path, straight: Path) -> None:
    out = tmp_path / "run"
    run(images, out, stop_after=1)
    (out / "checkpoints" / "last.pt").unlink()
    assert run(images, out, resume=True).finished
    assert_same_run(out, straight)


@pytest.mark.slow
@pytest.mark.parametrize("step", [8, 32])
def test_a_signal_at_the_end_of_an_epoch_loses_nothing(images: Path, tmp_path: Path, straight: Path, step: int) -> None:
    out = tmp_path / "run"
    outcome = run(images, out, reporter=Stopper(step))
    assert outcome.step == step and outcome.finished == (step == 32) and outcome.signal == signal.SIGTERM
    run(images, out, resume=True)
    assert_same_run(out, straight)


@pytest.mark.slow
def test_a_signal_after_the_last_step_is_told(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = Run.add_metrics

    def at_the_end(self: Run, row: dict[str, Any]) -> None:
        written(self, row)
        if "epoch" in row and row["step"] == 32:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Run, "add_metrics", at_the_end)
    outcome = run(images, tmp_path / "run")
    assert outcome.finished and outcome.signal == signal.SIGTERM


def test_a_bad_file_within_the_limit_does_not_stop_the_run(tmp_path: Path) -> None:
    g = np.random.default_rng(0)
    for i in range(64):
        folder = tmp_path / "data" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(g.integers(0, 255, (16, 16, 3)).astype(np.uint8)).save(folder / f"{i}.png")
    (tmp_path / "data" / "a" / "0.png").write_bytes(b"torn")
    options = Options(data=str(tmp_path / "data"), device="cpu", max_bad=0.02)
    reporter = Stopper(10**9)
    assert launch(Plan.of(NAME, recipe(epochs=1, batch=16), options, tmp_path / "run"), reporter=reporter).finished
    assert any("a/0.png" in line for line in reporter.lines)
    assert Run.open(tmp_path / "run").metrics()[-1]["unreadable"] == 1
    with pytest.raises(UserError, match="1 of 64 images of data cannot be read"):
        launch(Plan.of(NAME, recipe(epochs=1, batch=16), replace(options, max_bad=0.01), tmp_path / "strict"))


def test_checkpoints_are_kept_as_asked(images: Path, tmp_path: Path) -> None:
    options = Options(data=str(images), device="cpu", save_every=2, monitor_every=0)
    launch(Plan.of(NAME, recipe(), options, tmp_path / "run"), stop_after=3)
    kept = sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept == ["epoch-0002.pt", "last.pt"]
    steps = [checkpoint.load(tmp_path / "run" / "checkpoints" / name)["step"] for name in kept]
    assert steps == [20, 30]  # 10 an epoch


def spoil(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Make a weight infinite after some steps."""
    after_step, left = MoCo.after_step, [steps]

    def spoiled(method: MoCo, *how: object) -> None:
        after_step(method, *how)  # type: ignore[arg-type]
        left[0] -= 1
        if left[0] == 0:
            method.online.head[-1].bias.data[0] = torch.inf

    monkeypatch.setattr(MoCo, "after_step", spoiled)


def test_a_loss_that_is_not_finite_stops_the_run(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, 2)
    with pytest.raises(UserError, match=r"the loss is nan at step 3, learning rate \d.*last good checkpoint: none"):
        run(images, tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints" / "last.pt").exists()


def test_a_weight_that_is_not_finite_is_not_saved(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last step of an epoch: no loss has seen its weights yet."""
    spoil(monkeypatch, 16)
    options = Options(data=str(images), val_fraction=0.2, device="cpu", monitor_every=0)
    with pytest.raises(UserError, match=r"a weight is not finite after step 16: .*last\.pt"):
        launch(Plan.of(NAME, recipe(), options, tmp_path / "run"))
    assert Run.open(tmp_path / "run").load().step == 8


@pytest.fixture
def passed_on() -> Iterator[list[int]]:
    """The signals that reach the handlers from before the training: Python's own would end the tests."""
    reached: list[int] = []
    numbers = signal.SIGTERM, signal.SIGINT, signal.SIGHUP
    before = [signal.signal(number, lambda number, frame: reached.append(number)) for number in numbers]
    yield reached
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def test_a_second_ctrl_c_leaves_at_once_a_second_sigterm_does_not(passed_on: list[int]) -> None:
    with Signals(print) as signals:
        assert signals.received is None
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert signals.received == signal.SIGTERM and passed_on == []
    with Signals(print) as signals:
        signal.raise_signal(signal.SIGINT)
        assert signals.received == signal.SIGINT and passed_on == []
        signal.raise_signal(signal.SIGINT)
        assert passed_on == [signal.SIGINT]
    signal.raise_signal(signal.SIGTERM)
    assert passed_on == [signal.SIGINT, signal.SIGTERM], "the handlers were not put back"


def test_a_lost_terminal_stops_a_training_unless_the_caller_ignores_it(passed_on: list[int]) -> None:
    with Signals(print) as signals:
        signal.raise_signal(signal.SIGHUP)
        assert signals.received == signal.SIGHUP and passed_on == []
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    with Signals(print) as signals:
        signal.raise_signal(signal.SIGHUP)
        assert signals.received is None


def test_a_slow_step_is_waited_for_aloud(passed_on: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contrastkit.training.signals.PATIENCE", 0.05)
    lines: list[str] = []
    with Signals(lines.append):
        signal.raise_signal(signal.SIGTERM)
        deadline = time.monotonic() + 10
        while not lines and time.monotonic() < deadline:
            time.sleep(0.01)
    assert lines == ["received SIGTERM: waiting for the end of this step"]
    monkeypatch.setattr("contrastkit.training.signals.PATIENCE", 600)
    with Signals(lines.append):  # a quick one says nothing, and waits for nothing
        signal.raise_signal(signal.SIGTERM)
    for timer in [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]:
        timer.join(10)
        assert not timer.is_alive()
    assert len(lines) == 1


def without_a_weight(out: Path) -> None:
    last = out / "checkpoints" / "last.pt"
    state = checkpoint.load(last)
    state["method"].popitem()
    checkpoint.save(last, state)


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (without_a_weight, "do not fit its recipe.json"),
        (lambda out: (out / "checkpoints" / "last.pt").write_bytes(b"PK\x03\x04 torn"), "not a readable checkpoint"),
        (lambda out: (out / "recipe.json").write_text("{"), "damaged"),
        (lambda out: (out / "recipe.json").unlink(), "holds no run"),
    ],
)
def test_a_damaged_run_is_refused(images: Path, tmp_path: Path, break_it: Callable[[Path], object], says: str) -> None:
    out = tmp_path / "run"
    run(images, out, stop_after=1)
    break_it(out)
    with pytest.raises(UserError, match=says):
        run(images, out, resume=True)


def test_a_folder_that_holds_a_run_is_never_overwritten(images: Path, tmp_path: Path) -> None:
    run(images, tmp_path / "run", stop_after=1)
    before = (tmp_path / "run" / "checkpoints" / "last.pt").read_bytes()
    with pytest.raises(UserError, match="already holds a run: resume it with --resume"):
        run(images, tmp_path / "run")
    assert (tmp_path / "run" / "checkpoints" / "last.pt").read_bytes() == before


def test_a_checkpoint_of_another_method_is_refused(images: Path, tmp_path: Path) -> None:
    run(images, tmp_path / "run", stop_after=1)
    options = Options(data=str(images), val_fraction=0.2, device="cpu", seed=5)
    with pytest.raises(UserError, match=r"holds a run of moco-v2/tiny, not of moco-v1/tiny"):
        launch(Plan.of("moco-v1/tiny", recipe(), options, tmp_path / "run", resume=True))
    launch(Plan.of("moco-v1/tiny", recipe(), options, tmp_path / "other"), stop_after=1)
    last = Path("checkpoints") / "last.pt"
    (tmp_path / "other" / last).write_bytes((tmp_path / "run" / last).read_bytes())
    with pytest.raises(UserError, match=r"a checkpoint of moco-v2/tiny, not of moco-v1/tiny"):
        launch(Plan.of("moco-v1/tiny", recipe(), options, tmp_path / "other", resume=True))


def test_a_run_keeps_what_its_numbers_depend_on(images: Path, tmp_path: Path) -> None:
    run(images, tmp_path / "run", stop_after=1)
    options = Options(data=str(images), val_fraction=0.2, device="cpu", seed=5)
    kept = Run.open(tmp_path / "run").record.options.precision  # chosen for this machine
    other = "float32" if kept == "bfloat16" else "bfloat16"
    changes = (
        {"seed": 6},
        {"precision": other},
        {"val_fraction": 0.1},
        {"compile": True},
        {"background": "black"},
        {"scaled_decoding": True},
    )
    for changed in changes:
        with pytest.raises(UserError, match=f"a run keeps its {next(iter(changed))}"):
            launch(Plan.of(NAME, recipe(), replace(options, **changed), tmp_path / "run", resume=True))
    with pytest.raises(UserError, match="a run keeps its recipe: .* has tau = 0.1"):
        launch(Plan.of(NAME, recipe(tau=0.3), options, tmp_path / "run", resume=True))
    # What it does not depend on may change, and stays changed.
    launch(Plan.of(NAME, recipe(), replace(options, monitor_every=3), tmp_path / "run", resume=True), stop_after=2)
    assert Run.open(tmp_path / "run").record.options.monitor_every == 3


@pytest.mark.slow
def test_an_older_run_of_a_papers_row_goes_on_with_the_views_it_began_with(images: Path, tmp_path: Path) -> None:
    """Before format 3 all views were made in one way; since then this row has become another."""
    name, out = "simclr-v1/imagenet", tmp_path / "run"
    before: dict[str, Any] = {"size": 12, **SINCE_3}
    views = tuple(replace(view, **before) for view in RECIPES[name].views)
    small = replace(RECIPES[name], encoder="tiny", epochs=2, batch=32, warmup_epochs=0.0, views=views)
    assert any(getattr(RECIPES[name].views[0], field) != old for field, old in SINCE_3.items())
    options = Options(data=str(images), val_fraction=0.2, device="cpu")
    launch(Plan.of(name, small, options, tmp_path / "straight"))
    launch(Plan.of(name, small, options, out), stop_after=1)
    record = json.loads((out / "recipe.json").read_text())
    for view in record["recipe"]["views"]:
        for field in SINCE_3:
            del view[field]
    (out / "recipe.json").write_text(json.dumps(record | {"format": 2}))
    assert main(["train", "simclr-v1", f"--resume={out}"]) == 0
    assert_same_run(out, tmp_path / "straight")


def test_a_finished_run_resumes_to_itself(images: Path, straight: Path) -> None:
    files = [straight / name for name in ("encoder.safetensors", "metrics.jsonl", "recipe.json", "checkpoints/last.pt")]
    before = [file.read_bytes() for file in files]
    outcome = run(images, straight, resume=True)
    assert outcome.finished and outcome.step == 32
    assert [file.read_bytes() for file in files] == before


def test_other_data_are_refused_on_resume(images: Path, tmp_path: Path) -> None:
    run(images, tmp_path / "run", stop_after=1)
    with pytest.raises(UserError, match="was trained on other data"):
        options = Options(data="digits", val_fraction=0.2, device="cpu", seed=5)
        launch(Plan.of(NAME, recipe(), options, tmp_path / "run", resume=True))


def small(**more: object) -> list[str]:
    """Options of the command line for a training of seconds."""
    few = {"epochs": 3, "batch": 32, "K": 100, "bn-groups": 2, "size": 12}
    return [
        f"--{k}={v}" for k, v in {"encoder": "tiny", "device": "cpu", "precision": "float32", **few, **more}.items()
    ]


@pytest.mark.slow
def test_a_run_goes_on_where_the_data_have_moved_to_with_other_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there, whole, parts = (tmp_path / name for name in ("here", "there", "whole", "parts"))
    (here / "fashion-mnist").mkdir(parents=True)
    g = np.random.default_rng(0)
    for part, n in (("train", 80), ("t10k", 20)):  # LeCun's format: zeros, type, dimensions, sizes, bytes
        for kind, array in (("images-idx3", g.integers(0, 256, (n, 28, 28))), ("labels-idx1", np.arange(n) % 4)):
            head = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
            (here / "fashion-mnist" / f"{part}-{kind}-ubyte").write_bytes(head + array.astype(np.uint8).tobytes())
    start = ["train", "moco", "--data=fashion-mnist", f"--data-dir={here}", *small()]
    resume = ["train", "moco", f"--resume={parts}"]
    assert main([*start, f"--out={whole}", "--workers=0"]) == 0
    assert main([*start, f"--out={parts}", "--workers=0", "--stop-after=1"]) == 0
    with monkeypatch.context() as patch:  # the variable is a default, the run knows where its data are
        patch.setenv("CONTRASTKIT_DATA", str(there))
        assert main([*resume, "--stop-after=2"]) == 0
    here.rename(there)
    capsys.readouterr()
    assert main(resume) == 2
    assert "fashion-mnist" in capsys.readouterr().err
    assert main([*resume, f"--data-dir={there}", "--workers=2"]) == 0
    assert_same_run(parts, whole)


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.slow
def test_compiled_towers_train_to_the_same_bits(
    images: Path, tmp_path: Path, straight: Path, monkeypatch: pytest.MonkeyPatch, fresh_compiler: None
) -> None:
    """--compile, with the tracing but without the code generation, which rounds its own way and takes its time."""
    graphs: list[torch.fx.GraphModule] = []

    def as_traced(graph: torch.fx.GraphModule, example: object) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    compile_ = Tower.compile
    monkeypatch.setattr(Tower, "compile", lambda tower: compile_(tower, backend=as_traced))
    options = Options(data=str(images), val_fraction=0.2, device="cpu", seed=5, compile=True)
    for stop_after in (2, None):
        launch(Plan.of(NAME, recipe(), options, tmp_path / "run", resume=stop_after is None), stop_after=stop_after)
    assert graphs, "nothing was compiled"
    assert_same_run(tmp_path / "run", straight)


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="torch.compile wants a C++ compiler")
def test_compile_trains_resumes_and_agrees_with_eager(images: Path, tmp_path: Path, fresh_compiler: None) -> None:
    start = ["train", "moco", f"--data={images}", *small(lr=0.001)]
    eager, compiled, parts = (tmp_path / name for name in ("eager", "compiled", "parts"))
    assert main([*start, f"--out={eager}"]) == 0
    assert main([*start, f"--out={compiled}", "--compile"]) == 0
    assert main([*start, f"--out={parts}", "--compile", "--stop-after=1"]) == 0
    assert main(["train", "moco", f"--resume={parts}"]) == 0
    assert_same_run(compiled, parts)
    assert (parts / "log.txt").read_text().count("float32, compiled") == 2, "the second start must compile too"
    losses = [[m["loss"] for m in Run(run).metrics()] for run in (eager, compiled)]
    assert losses[0] == pytest.approx(losses[1], rel=3e-3)
    assert contrastkit.load(compiled)(torch.rand(2, 3, 16, 16)).isfinite().all()


@pytest.mark.parametrize(
    ("row", "source", "expected"),
    [
        ("tiny", 32, 32),  # views of 24 pixels
        ("tiny", 28, 28),
        ("tiny", 64, 24),  # more than 4/3 of the views: the network never saw things that large
        ("tiny", 8, 24),  # fewer than the views have: an 8 x 8 digit is enlarged as it was in training
        ("digits", 8, 32),
        ("digits", 32, 32),
        ("32", 64, 32),
        ("imagenet", 250, 224),
    ],
)
def test_images_are_judged_at_about_the_size_of_the_views(row: str, source: int, expected: int) -> None:
    assert RECIPES[f"moco-v2/{row}"].image_size(source) == expected


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_gpu_trains_stops_and_resumes(images: Path, tmp_path: Path, workers: int) -> None:
    options = Options(data=str(images), val_fraction=0.2, workers=workers, device="cuda", seed=5)
    assert not launch(Plan.of(NAME, recipe(), options, tmp_path / "run"), stop_after=2).finished
    assert launch(Plan.of(NAME, recipe(), options, tmp_path / "run", resume=True)).finished
    metrics = Run(tmp_path / "run").metrics()
    assert [m["epoch"] for m in metrics] == [1, 2, 3, 4] and all("knn" in m for m in metrics)


def torchrun(script: Path, *args: str, code: int = 0) -> None:
    """Two processes of a script under torchrun on the CPU (gloo); ``code`` is torchrun's exit code."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script), *args]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)
    assert process.returncode == code, process.stderr[-3000:]


INTERRUPTED = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
import pytest
from contrastkit.cli.main import main
from tests.training.test_training import interrupt_one_of_two
interrupt_one_of_two(pytest.MonkeyPatch())
sys.exit(main(sys.argv[1:]))
"""


def interrupt_one_of_two(patch: pytest.MonkeyPatch) -> None:
    """SIGTERM for the second process alone, at step 15."""
    measured = session.Meter.progress

    def interrupt(meter: Any, step: int, *args: Any) -> Any:
        if step >= 15 and torch.distributed.get_rank() == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return measured(meter, step, *args)

    patch.setattr(session, "CHECK_EVERY", 5)
    patch.setattr(session.Meter, "progress", interrupt)


@pytest.mark.slow
@pytest.mark.parametrize("by", ["forks", "torchrun"])
def test_two_processes_train_resume_and_agree_with_one(
    by: str, images: Path, tmp_path: Path, two_processes: Callable[[Callable[[int], None]], None]
) -> None:
    """Forked ones join their group like those of torchrun, but start at once."""
    one, two, parts = tmp_path / "one", tmp_path / "two", tmp_path / "parts"
    # With seed 0 some activation comes so near the kink of a ReLU that the last bits of a sum decide its gradient.
    start = ["train", "moco", f"--data={images}", *small(**{"epochs": 2, "bn-groups": 4, "lr": 0.001, "seed": 1})]

    def command(*args: str, code: int = 0) -> Callable[[int], None]:
        def work(rank: int) -> None:
            assert main([*args]) == code

        return work

    assert main([*start, f"--out={one}"]) == 0
    two_processes(command(*start, f"--out={two}"))
    if by == "torchrun":
        script = tmp_path / "interrupted.py"
        script.write_text(INTERRUPTED)
        torchrun(script, *start, f"--out={parts}", code=1)  # both processes exit with 143
    else:
        with pytest.MonkeyPatch.context() as patch:
            interrupt_one_of_two(patch)
            two_processes(command(*start, f"--out={parts}", code=143))
    step = checkpoint.load(parts / "checkpoints" / "last.pt")["step"]
    assert step == 15, "a signal to one process alone must stop both, inside the second epoch"
    two_processes(command("train", "moco", f"--resume={parts}"))
    assert_same_run(two, parts)
    a, b = (torch.load(run / "checkpoints" / "last.pt", weights_only=True) for run in (one, two))
    assert a["step"] == b["step"] == 20
    assert_alike(a["method"], b["method"])
    losses = [[m["loss"] for m in Run(run).metrics()] for run in (one, two)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


@pytest.mark.slow
def test_two_processes_write_the_encoder_with_the_statistics_of_both(
    images: Path, tmp_path: Path, two_processes: Callable[[Callable[[int], None]], None]
) -> None:
    """No evaluation averages them before."""
    out = tmp_path / "run"
    start = ["train", "moco", f"--data={images}", f"--out={out}", *small(**{"epochs": 1, "monitor-every": 0})]

    def work(rank: int) -> None:
        assert main(start) == 0

    two_processes(work)
    saved = checkpoint.load(out / "checkpoints" / "last.pt")
    for key, value in load_file(out / "encoder.safetensors").items():
        assert torch.equal(value, saved["method"][f"online.encoder.{key}"]), key
    first, second = (own["batch_norm"][0] for own in saved["own"])
    assert not torch.equal(first, second), "the test needs processes that differ"
    assert torch.equal((first + second) / 2, saved["method"]["online.encoder.trunk.bn1.running_mean"])
