"""Faults of a training in two processes under torchrun: when one ends, the other does, and torchrun with it."""

import os
import signal
import sys
from pathlib import Path

from tests.campaign.box import SHORT, Box, fault
from tests.campaign.faults_disks import full
from tests.campaign.faults_processes import exhaust
from tests.campaign.trial import CODE, CRASHES, HANG, ORPHAN, TRACEBACK, Command

TORCHRUN = f"{sys.executable} -m torch.distributed.run --nproc-per-node=2 --monitor-interval=0.5"


def started(box: Box, *words: str, workers: int = 1) -> Command:
    """Two processes that train; what each says goes to a file of its own, for torchrun adds its own tracebacks."""
    program = f"{TORCHRUN} --redirects 3 --log-dir {box.folder / 'logs'} -m contrastkit"
    command = box.train(*words, workers=workers, program=program, environment={"MASTER_PORT": "0"})
    return command


def running(box: Box) -> Command:
    command = started(box)
    box.reached(command.wait_for((box.run / "checkpoints" / "last.pt").exists), command)
    return command


def ended(box: Box, command: Command, says: str = "") -> None:
    """Judge the end of torchrun by its exit code, and what its processes said by its words."""
    end = command.end()
    said = {file: file.read_text() for file in sorted((box.folder / "logs").rglob("*")) if file.is_file()}
    text = "".join(said.values())
    lines = [line for line in text.splitlines() if line.startswith("error: ")]
    box.trial.outcome = f"exit {end.code}: {' | '.join(lines)[:300]}"
    box.trial.check(end.code is not None, HANG, f"killed; {text[-500:]}")
    box.trial.check(end.code not in (0,), CODE, "exit 0")
    box.trial.check(not any(word in text for word in CRASHES), TRACEBACK, text[-1500:])
    box.trial.check(says in text, CODE, f"{says!r} is not said: {text[-300:]}")
    box.trial.check(not end.orphans, ORPHAN, f"{end.orphans}")


@fault("torchrun: kill -9 of a rank")
def _rank(box: Box) -> None:
    command = running(box)
    os.kill(command.ranks()[1], signal.SIGKILL)
    ended(box, command)
    box.resumes()


@fault("torchrun: kill -9 of the first rank")
def _first(box: Box) -> None:
    command = running(box)
    os.kill(command.ranks()[0], signal.SIGKILL)
    ended(box, command)


@fault("torchrun: kill -9 of a worker of a rank")
def _worker(box: Box) -> None:
    command = running(box)
    ranks = command.ranks()
    children = Path("/proc", str(ranks[1]), "task", str(ranks[1]), "children").read_text().split()
    workers = [pid for pid in map(int, children) if b"contrastkit" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(workers[0], signal.SIGKILL)
    ended(box, command, "a data-loading process was killed")


@fault("torchrun: a full disk under the first rank")
def _full(box: Box) -> None:
    command = running(box)
    full(command.ranks()[0])
    ended(box, command, "no space left")
    box.resumes()


@fault("torchrun: a rank without file descriptors")
def _descriptors(box: Box) -> None:
    command = running(box)
    exhaust(command.ranks()[1])
    ended(box, command, "oo many open files")


@fault("torchrun: a stopped rank, then SIGTERM")
def _stopped(box: Box) -> None:
    command = running(box)
    os.kill(command.ranks()[1], signal.SIGSTOP)
    command.signal(signal.SIGTERM)
    ended(box, command)


@fault("torchrun: SIGTERM")
def _signal(box: Box) -> None:
    command = running(box)
    command.signal(signal.SIGTERM)
    ended(box, command, "resume with --resume")
    box.resumes()


@fault("torchrun: a folder that holds a run already")
def _taken(box: Box) -> None:
    box.ended(box.train(*SHORT, workers=0), {0})
    command = started(box, *SHORT)
    ended(box, command, "already holds a run")


@fault("torchrun: a batch that two processes cannot share")
def _batch(box: Box) -> None:
    command = started(box, *SHORT, "--batch=31")
    ended(box, command, "multiple of the number of processes")
