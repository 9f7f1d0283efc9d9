"""Run folders: one writer at a time, nothing left of a failed start, nothing lost between two files."""

import errno
import multiprocessing
import os
import resource
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from contrastkit import checkpoint, lock
from contrastkit.errors import UserError
from contrastkit.methods import RECIPES
from contrastkit.run import Run, Taken
from contrastkit.training import NullReporter, Options, Outcome, Plan, Progress
from contrastkit.training import launch as launching
from contrastkit.training.launch import launch
from contrastkit.training.plan import plan

NAME = "moco-v2/tiny"
FORK = multiprocessing.get_context("fork")


def planned(images: Path, out: Path, *, resume: bool = False, **options: Any) -> Plan:
    views = tuple(replace(view, size=12) for view in RECIPES[NAME].views)
    recipe: Any = replace(RECIPES[NAME], epochs=2, batch=64, K=64, views=views)  # type: ignore[call-arg]
    how = Options(data=str(images), device="cpu", monitor_every=0, **options)
    return Plan.of(NAME, recipe, how, out, resume=resume)


def train(images: Path, out: Path, *, resume: bool = False, stop_after: int | None = None, **options: Any) -> Outcome:
    return launch(planned(images, out, resume=resume, **options), stop_after=stop_after)


class Watcher(NullReporter):
    """Keeps the lines, and calls back at the first report of progress."""

    def __init__(self, on_step: Callable[[], None] = lambda: None) -> None:
        self.lines: list[str] = []
        self._on_step = on_step

    def log(self, line: str) -> None:
        self.lines.append(line)

    def on_step(self, progress: Progress) -> None:
        self._on_step()


# ---------------------------------------------------------------------------------------------------- one writer


def test_a_run_that_is_trained_is_not_resumed_beside(images: Path, tmp_path: Path) -> None:
    refused: list[str] = []

    def again() -> None:
        torn = tmp_path / "run" / "checkpoints" / ".last.pt.x.tmp"
        torn.touch()
        with pytest.raises(UserError) as caught:
            train(images, tmp_path / "run", resume=True)
        assert Run.open(tmp_path / "run").record.name == NAME, "reading is free"
        assert torn.exists(), "what another process is writing was swept away"
        refused.append(str(caught.value))

    launch(planned(images, tmp_path / "run"), reporter=Watcher(again))
    (message,) = set(refused)
    assert f"{tmp_path / 'run'} is in use by process {os.getpid()} on {os.uname().nodename}" in message
    assert train(images, tmp_path / "run", resume=True).finished


def test_a_finished_run_that_is_resumed_keeps_its_encoder(images: Path, tmp_path: Path) -> None:
    """Evaluations would look older than one that is written again; a damaged one is."""
    train(images, tmp_path / "run")
    file = tmp_path / "run" / "encoder.safetensors"
    os.utime(file, (0, 0))
    assert train(images, tmp_path / "run", resume=True).finished and file.stat().st_mtime == 0
    whole = {name: value.clone() for name, value in load_file(file).items()}  # the file is mapped
    file.write_bytes(file.read_bytes()[:-4])
    assert train(images, tmp_path / "run", resume=True).finished
    assert all(value.equal(whole[name]) for name, value in load_file(file).items())


def test_a_killed_process_leaves_no_lock_even_if_its_workers_live_on(tmp_path: Path) -> None:
    ready, done = FORK.Event(), FORK.Event()

    def hold() -> None:
        file = lock.acquire(tmp_path)
        if os.fork() == 0:  # a data-loading process
            ready.set()
            done.wait(60)
            os._exit(0)
        os.waitpid(-1, 0)
        print(file)

    holder = FORK.Process(target=hold)
    holder.start()
    try:
        assert ready.wait(60)
        with pytest.raises(lock.Locked, match=f"in use by process {holder.pid} on "):
            lock.acquire(tmp_path)
        os.kill(holder.pid or 0, signal.SIGKILL)
        holder.join()
        held = lock.acquire(tmp_path)
        assert held is not None
        lock.release(held)
    finally:
        done.set()


def test_of_two_creators_one_wins(images: Path, tmp_path: Path) -> None:
    """At the same moment, many times."""
    train(images, tmp_path / "x", stop_after=1)
    record = Run.open(tmp_path / "x").record
    for n in range(50):
        barrier = threading.Barrier(2)
        outcomes: list[Any] = []

        def create(n: int = n, barrier: threading.Barrier = barrier, outcomes: list[Any] = outcomes) -> None:
            barrier.wait()
            try:
                outcomes.append(Run.create(tmp_path / str(n), record))
            except Taken as error:
                outcomes.append(error)

        threads = [threading.Thread(target=create) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (winner,) = (outcome for outcome in outcomes if isinstance(outcome, Run))
        with winner:
            assert len(outcomes) == 2
        assert Run.open(tmp_path / str(n)).record == record


def test_a_file_that_must_be_new_is_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*names: object) -> None:
        raise PermissionError(errno.EPERM, "no hard links here")

    for name in ("a", "b"):
        checkpoint.write_text(tmp_path / name, "first", new=True)
        with pytest.raises(FileExistsError):
            checkpoint.write_text(tmp_path / name, "second", new=True)
        assert (tmp_path / name).read_text() == "first"
        monkeypatch.setattr(os, "link", no_links)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_default_folder_that_is_taken_meanwhile_is_followed_by_the_next(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    how: dict[str, Any] = {"given": {"data": str(images), "device": "cpu", "monitor_every": 0}, "encoder": "tiny"}
    small = planned(images, tmp_path / "x").recipe
    plans = [plan("moco", **how, change=lambda recipe: small) for _ in range(2)]
    assert plans[0].out == plans[1].out == Path("runs/moco-v2-tiny-noise")
    watcher = Watcher()
    outcomes = [launch(one, reporter=watcher, stop_after=1) for one in plans]
    assert [outcome.run.path for outcome in outcomes] == [plans[0].out, Path("runs/moco-v2-tiny-noise-2")]
    assert any("another command has taken runs/moco-v2-tiny-noise" in line for line in watcher.lines)
    with pytest.raises(UserError, match="already holds a run"):
        launch(replace(plans[0], numbered=False))


def test_a_file_system_without_locks_is_a_notice(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*how: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", unsupported)
    watcher = Watcher()
    assert launch(planned(images, tmp_path / "run"), reporter=watcher).finished
    assert any("has no locks" in line for line in watcher.lines)


# ------------------------------------------------------------------------------------------------- between two files


@pytest.mark.parametrize("files", [1, *(pytest.param(files, marks=pytest.mark.slow) for files in (0, 2, 3))])
def test_a_copy_to_keep_survives_a_kill_before_the_last_checkpoint(files: int, images: Path, tmp_path: Path) -> None:
    """Killed between any two of the files that a save puts in their place."""
    child = FORK.Process(target=killed_after, args=(images, tmp_path / "run", files))
    child.start()
    child.join()
    assert child.exitcode == 9
    train(images, tmp_path / "run", resume=True, save_every=1)
    names = ("epoch-0001.pt", "epoch-0002.pt", "last.pt")
    first, second, last = (checkpoint.load(tmp_path / "run" / "checkpoints" / name)["step"] for name in names)
    assert 2 * first == second == last > 0


def killed_after(images: Path, out: Path, files: int) -> None:
    """Train, and die when a checkpoint has been put in its place ``files`` times and one more would be."""
    replace = os.replace
    put: list[Any] = []

    def dying(source: Any, target: Any) -> None:
        if Path(target).suffix == ".pt":
            if len(put) == files:
                os._exit(9)
            put.append(target)
        replace(source, target)

    os.replace = dying  # type: ignore[assignment]
    train(images, out, save_every=1)


# ------------------------------------------------------------------------------------------------- failed starts


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, UserError])
def test_a_start_that_fails_leaves_no_folder(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def fail(*how: object, **more: object) -> None:
        raise error("no")

    monkeypatch.setattr(launching, "fit", fail)
    out = tmp_path / "a" / "run"
    with pytest.raises(error):
        train(images, out)
    assert not (tmp_path / "a").exists()
    out.mkdir(parents=True)
    (out / "notes.txt").write_text("mine")
    (out / "log.txt").write_text("mine too")
    with pytest.raises(error):
        train(images, out)
    assert sorted(path.name for path in out.iterdir()) == ["log.txt", "notes.txt"]


def test_a_failure_after_the_first_checkpoint_keeps_the_run(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(images, tmp_path / "run", stop_after=1)
    monkeypatch.setattr(launching, "fit", lambda *how, **more: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(images, tmp_path / "run", resume=True)
    assert Run.open(tmp_path / "run").load().step == 5


def on_a_full_disk(work: Callable[[], object]) -> str:
    """The message of a UserError of ``work``, in a process that cannot write another byte to any file."""
    receiver, sender = FORK.Pipe(duplex=False)

    def child() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        try:
            work()
        except UserError as error:
            sender.send(str(error))

    process = FORK.Process(target=child)
    process.start()
    process.join()
    assert process.exitcode == 0 and receiver.poll()
    return str(receiver.recv())


def test_a_full_disk_at_the_start_leaves_no_folder(images: Path, tmp_path: Path) -> None:
    ready = planned(images, tmp_path / "run")
    assert f"no space left to write {tmp_path}/run/recipe.json: free some" in on_a_full_disk(lambda: launch(ready))
    assert not (tmp_path / "run").exists()


def test_a_full_disk_is_told_by_the_name_of_the_file(images: Path, tmp_path: Path) -> None:
    """Also of those that grow line by line; and the run is free again."""
    train(images, tmp_path / "run", stop_after=1)
    files = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.*") if path.name != lock.FILE}
    ready = planned(images, tmp_path / "run", resume=True)
    assert f"no space left to write {tmp_path}/run/metrics.jsonl" in on_a_full_disk(lambda: launch(ready))
    opened = Run(tmp_path / "run", writes=True)
    assert "no space left to write" in on_a_full_disk(lambda: opened.log("line"))
    assert "no space left to write" in on_a_full_disk(lambda: opened.add_metrics({"step": 1}))
    assert {path: path.read_bytes() for path in files} == files
    assert train(images, tmp_path / "run", resume=True).finished


def test_a_resumption_that_fails_leaves_the_run_free(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For another try in the same process."""

    def fail(*how: object, **more: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    train(images, tmp_path / "run", stop_after=1)
    for name in ("write_text", "sweep"):
        with monkeypatch.context() as patch, pytest.raises((OSError, UserError), match="Input/output error"):
            patch.setattr(checkpoint, name, fail)
            train(images, tmp_path / "run", resume=True, save_every=1)
    assert train(images, tmp_path / "run", resume=True).finished


# ------------------------------------------------------------------------------------------------- TensorBoard


def test_the_training_goes_on_without_an_event_file(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a full disk."""
    from tensorboard.summary.writer.record_writer import RecordWriter

    def full(self: object, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RecordWriter, "write", full)
    watcher = Watcher()
    assert launch(planned(images, tmp_path / "run"), reporter=watcher).finished
    lines = [line for line in watcher.lines if "TensorBoard" in line]
    assert lines == ["TensorBoard's event file cannot be written (No space left on device): going on without it"], (
        "once"
    )
    assert lines[0] in (tmp_path / "run" / "log.txt").read_text()
    assert len(Run.open(tmp_path / "run").metrics()) == 2


def test_tensorboard_reads_the_metrics(images: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(images, tmp_path / "run", stop_after=1)
    train(images, tmp_path / "run", resume=True)
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    rows = Run.open(tmp_path / "run").metrics()
    found = [(event.step, event.value) for event in events.Scalars("loss")]
    assert found == [(row["step"], pytest.approx(row["loss"])) for row in rows]
