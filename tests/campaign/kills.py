"""54 kills of the real command at random moments, drawn by seed: of a training, which is then resumed, and of a
fine-tuning, which is then repeated, again and again until it ends, and of commands that write their results.

What was written before a kill is readable after it, what was promised is there, and the end is that of a run that was
never stopped, byte for byte.
"""

import json
import random
import re
import shutil
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors import safe_open

from contrastkit import checkpoint
from contrastkit.run import Run
from tests.campaign.trial import CODE, LEFT, LOST, Command, Trial, temporary_files

CHAINS, KILLS = 8, 5  # trainings, and kills of each
EVALUATIONS = 10  # kills of commands that write results
FINETUNES = 4  # kills of a fine-tuning
SAVE_EVERY, EPOCHS = 2, 10
QUICK = (
    f"--encoder=tiny --device=cpu --size=8 --batch=32 --K=64 --epochs={EPOCHS} --save-every={SAVE_EVERY} "
    "--monitor-every=3 --val-fraction=0.2"
).split()  # a step takes milliseconds
STARTING, TRAINING, WRITING = MOMENTS = "while it starts", "while it trains", "while it writes a checkpoint"
POLITE = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
OF_THE_CLOCK = ("images_per_s", "waiting", "memory_mib", "seconds")  # what differs between equal runs


def pictures(folder: Path, n: int = 240) -> Path:
    """Small images in two folders, one for each class."""
    g = np.random.default_rng(0)
    for i in range(n):
        place = folder / "ab"[i % 2] / f"{i:03d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(g.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(place)
    return folder


def data_of(chain: int, folder: Path) -> list[str]:
    """By turns images in memory, and files that two processes read."""
    if chain % 2 == 0:
        return ["--data=digits"]
    place = folder / "pictures"
    return [f"--data={place if place.exists() else pictures(place)}", "--workers=2"]


# ---------------------------------------- what is in a run folder


def unreadable(run: Path) -> Iterator[str]:
    """What is wrong with the files of a run that was killed."""
    looks: list[tuple[Path, Any]] = [
        (run / "recipe.json", lambda: Run.open(run).record),
        (run / "metrics.jsonl", lambda: Run.open(run).metrics()),
        (run / "encoder.safetensors", lambda: safe_open(run / "encoder.safetensors", "pt").keys()),
        *((file, lambda file=file: checkpoint.load(file)) for file in run.glob("checkpoints/*.pt")),
        *((file, lambda file=file: json.loads(file.read_text())) for file in run.glob("*.json")),
    ]
    for file, look in looks:
        if file.exists():
            try:
                look()
            except Exception as error:  # whatever it is, a file is lost
                yield f"{file.relative_to(run)}: {error}"


def not_kept(run: Path) -> list[str]:
    """The copies that --save-every has promised up to the last checkpoint, and that are not there."""
    last = run / "checkpoints" / "last.pt"
    if not last.exists():
        return []
    rows = [row for row in Run.open(run).metrics() if row["step"] <= checkpoint.load(last)["step"]]
    epochs = range(SAVE_EVERY, int(max((row["epoch"] for row in rows), default=0)) + 1, SAVE_EVERY)
    return [name for name in (f"epoch-{epoch:04d}.pt" for epoch in epochs) if not (last.parent / name).exists()]


def check_files(trial: Trial, run: Path) -> None:
    for what in unreadable(run):
        trial.wrong(LOST, what)
    if not trial.problems:
        trial.check(not not_kept(run), LOST, f"promised copies: {not_kept(run)}")


def timeless(run: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in OF_THE_CLOCK} for row in Run.open(run).metrics()]


def check_equal(trial: Trial, run: Path, whole: Path) -> None:
    """Check that a resumed run has ended as the one that was never stopped."""
    encoders = [folder / "encoder.safetensors" for folder in (run, whole)]
    equal = all(file.exists() for file in encoders) and encoders[0].read_bytes() == encoders[1].read_bytes()
    trial.check(equal, LOST, "the encoder differs from that of a run that was never stopped")
    trial.check(timeless(run) == timeless(whole), LOST, "the metrics differ from those of a run that was never stopped")
    names = [sorted(file.name for file in (folder / "checkpoints").iterdir()) for folder in (run, whole)]
    trial.check(names[0] == names[1], LOST, f"checkpoints: {names[0]}, not {names[1]}")
    trial.check(not temporary_files(run), LEFT, f"{temporary_files(run)}")


# ---------------------------------------- trainings


def wait_until(moment: str, command: Command, run: Path, draw: random.Random) -> bool:
    """Wait for a moment to kill a training; False if it has ended before."""
    if moment == STARTING:
        return command.wait_for(lambda: False, draw.uniform(0, 8)) or command.process.poll() is None
    log, checkpoints = run / "log.txt", run / "checkpoints"
    before = log.stat().st_size if log.exists() else 0
    if not command.wait_for(lambda: log.exists() and log.stat().st_size > before):
        return False
    if moment == WRITING:
        return command.wait_for(lambda: any(checkpoints.glob(".*.tmp")))
    return command.wait_for(lambda: False, draw.uniform(0, 2)) or command.process.poll() is None


def codes_of(number: signal.Signals) -> set[int]:
    """128 + the signal's number, or death by it, which a shell shows as the same; and 0 if all was done by then."""
    return {-number} if number == signal.SIGKILL else {128 + number, -number, 0}


def training(chain: int, folder: Path) -> Iterator[Trial]:
    """The kills of one training, and its end."""
    draw = random.Random(chain)
    data = data_of(chain, folder)
    whole, run = folder / f"whole-{chain % 2}", folder / f"run-{chain}"
    if not whole.exists():
        trial = Trial(f"training {chain % 2}, never stopped")
        Command("train", "moco", *data, *QUICK, f"--out={whole}", folder=folder).end(600).judge(trial, {0})
        yield trial
    for kill in range(KILLS):
        moment = draw.choices(MOMENTS, (2, 4, 4))[0]
        number = signal.SIGKILL if draw.random() < 0.6 else draw.choice(POLITE)
        trial = Trial(f"training {chain}, kill {kill}: {number.name} {moment}")
        before = temporary_files(run)  # of an earlier SIGKILL; a start that gets as far as to open the run removes them
        command = start(run, data, folder)
        reached = wait_until(moment, command, run, draw)
        command.signal(number)
        ended = command.end()
        ended.judge(trial, codes_of(number) if reached else {0})
        check_files(trial, run)
        if number != signal.SIGKILL:
            left = set(temporary_files(run)) - set(before)
            trial.check(not left, LEFT, f"{left}")
        yield trial
        if not reached:
            break
    trial = Trial(f"training {chain}: resumed to its end")
    start(run, data, folder).end(600).judge(trial, {0})
    check_files(trial, run)
    check_equal(trial, run, whole)
    yield trial


def start(run: Path, data: list[str], folder: Path) -> Command:
    """Begin a training, or resume it if it has got as far as to be one."""
    how = ["--resume", str(run)] if Run.exists(run) else [*data, *QUICK, f"--out={run}"]
    return Command("train", "moco", *how, folder=folder)


# ---------------------------------------- a fine-tuning

LABELS = ["--labels-per-class=20", "--epochs=40", "--lr=0.01,0.03", "--seeds=3", "--precision=float32", "--device=cpu"]


def _newer(file: Path, before: int) -> bool:
    return file.exists() and file.stat().st_mtime_ns > before


def finetunes(folder: Path) -> Iterator[Trial]:
    """The kills of a fine-tuning, each followed by the same command, and its end."""
    draw, run = random.Random(0), folder / "tuned"
    trial = Trial("training to fine-tune")
    Command("train", "moco", "--data=digits", *QUICK, f"--out={run}", folder=folder).end(600).judge(trial, {0})
    yield trial

    def command(name: str) -> Command:
        return Command("finetune", str(run), *LABELS, f"--out={name}", f"--json={name}.json", folder=folder)

    trial = Trial("fine-tuning, never stopped")
    command("whole").end(600).judge(trial, {0})
    yield trial
    state = folder / "killed" / "state.pt"
    for kill in range(FINETUNES):
        moment = (WRITING, TRAINING)[kill % 2]
        trial = Trial(f"fine-tuning, kill {kill}: SIGKILL {moment}")
        started = command("killed")
        before = state.stat().st_mtime_ns if state.exists() else 0
        if moment == WRITING:
            reached = started.wait_for(partial(_being_written, state))
        else:  # the training after the one whose end it has just recorded
            reached = started.wait_for(partial(_newer, state, before))
            started.wait_for(lambda: False, draw.uniform(0, 0.5))
        started.signal(signal.SIGKILL)
        started.end().judge(trial, codes_of(signal.SIGKILL) if reached else {0})
        trial.check(reached, CODE, "it ended before its kill")
        if state.exists():
            try:
                checkpoint.load(state)
            except Exception as error:  # whatever it is, the state is lost
                trial.wrong(LOST, f"{error}")
        yield trial
    trial = Trial("fine-tuning: repeated to its end")
    ended = command("killed").end(600)
    ended.judge(trial, {0}, says="going on with what an earlier start has done")
    reports = [json.loads((folder / f"{name}.json").read_text()) | {"model": None} for name in ("killed", "whole")]
    trial.check(reports[0] == reports[1], LOST, "the results differ from those of one that was never stopped")
    models = [(folder / name / "model.safetensors").read_bytes() for name in ("killed", "whole")]
    trial.check(models[0] == models[1], LOST, "the classifier differs from that of one that was never stopped")
    left = sorted(file.name for file in (folder / "killed").iterdir())
    trial.check(left == ["model.safetensors"], LEFT, f"{left}")
    yield trial


# ---------------------------------------- commands that write results

RESULTS = {
    "knn RUN --json=results.json": ("results.json", "RUN/knn.json", "RUN/knn-confusion.png", "RUN/knn-neighbours.png"),
    "probe RUN --epochs=2 --seeds=1 --plot=plot.png": ("plot.png", "RUN/probe.json"),
    "embed RUN --out=features.npz --json=results.json": ("features.npz", "results.json"),
    "stable simulate selection --n=20000 --out=rows.csv": ("rows.csv",),
    "causal demo --out=demo.png --json=demo.json": ("demo.png", "demo.json"),
}


def contents(file: Path) -> Any:
    """What a result says: of an .npz its arrays, for the zip has times."""
    if file.suffix != ".npz":
        return file.read_bytes()
    with np.load(file) as arrays:
        return {name: arrays[name].tobytes() for name in arrays.files}


def _being_written(file: Path) -> bool:
    return any(file.parent.glob(f".{file.name}.*.tmp"))


def evaluations(folder: Path) -> Iterator[Trial]:
    """Kill commands when their first result is being written, or as their predecessors were; then repeat them."""
    run = folder / "evaluated"
    trial = Trial("training to evaluate")
    Command("train", "moco", "--data=digits", *QUICK, f"--out={run}", folder=folder).end(600).judge(trial, {0})
    yield trial
    for n in range(EVALUATIONS):
        line, results = list(RESULTS.items())[n % len(RESULTS)]
        place = folder / f"evaluation-{n % len(RESULTS)}"
        place.mkdir(exist_ok=True)
        words = re.sub("RUN", str(run), line).split()
        files = [Path(name.replace("RUN", str(run))) for name in results]
        files = [place / file for file in files]
        number = (signal.SIGKILL, signal.SIGINT)[n // len(RESULTS) % 2]
        trial = Trial(f"{line}: {number.name} while it writes {results[n % len(results)]}")
        command = Command(*words, folder=place)
        target = files[n % len(files)]
        reached = command.wait_for(partial(_being_written, target))
        command.signal(number)
        command.end().judge(trial, codes_of(number) | ({0} if not reached or number == signal.SIGINT else set()))
        for what in unreadable(run):
            trial.wrong(LOST, what)
        before = {file: contents(file) for file in files if file.exists()}
        again = Command(*words, folder=place).end()
        trial.check(again.code == 0, CODE, f"repeated, it exits with {again.code}: {again.last}")
        for file, value in before.items():
            trial.check(value == contents(file), LOST, f"{file.name} was another before it was written again")
        if number == signal.SIGINT:
            trial.check(not temporary_files(place, run), LEFT, f"{temporary_files(place, run)}")
        for file in map(Path, temporary_files(place, run)):  # nobody knows whose they are after a SIGKILL
            file.unlink()
        yield trial


def trials(folder: Path) -> Iterator[Trial]:
    for chain in range(CHAINS):
        yield from training(chain, folder)
        if chain > 1:
            shutil.rmtree(folder / f"run-{chain}", ignore_errors=True)
    yield from finetunes(folder)
    yield from evaluations(folder)
