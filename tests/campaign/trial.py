"""What a trial of the campaign finds wrong, and the real command under a time limit, its processes accounted for."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

LIMIT = 60.0  # seconds in which a command must end once it has met its fault; more is a hang
GRACE = 12.0  # seconds in which its processes must end after it: torch's look for their parent every 5
LONGEST = 1100  # characters of an error line: what cli/screen.py shortens to, and the system's own words

HANG, TRACEBACK, LOST, LEFT, ORPHAN, CODE, UNCLEAR = KINDS = (
    "hangs", "tracebacks", "files lost", "left behind", "processes left", "wrong exit codes", "unclear messages",
)  # fmt: skip
CRASHES = ("Traceback (most recent call last)", "Exception ignored", "Fatal Python error", "terminate called")


@dataclass
class Trial:
    """One kill, fault or bad input: how the command ended, and what was wrong with that."""

    name: str
    outcome: str = ""
    problems: list[tuple[str, str]] = field(default_factory=list)  # of KINDS, and what

    def wrong(self, kind: str, what: str) -> None:
        self.problems.append((kind, what))

    def check(self, right: bool, kind: str, what: str) -> None:
        if not right:
            self.wrong(kind, what)

    def line(self) -> str:
        problems = "".join(f"\n    {kind}: {what}" for kind, what in self.problems)
        return f"{'FAIL' if self.problems else 'ok':4}  {self.name}  ->  {self.outcome}{problems}"


class Ended(NamedTuple):
    """How a command ended; ``code`` is None if it had to be killed."""

    code: int | None
    out: str
    err: str
    orphans: list[int]  # processes that outlived it, and have been killed

    @property
    def last(self) -> str:
        return (self.err.strip() or self.out.strip()).rpartition("\n")[2]

    def judge(self, trial: Trial, codes: Iterable[int], says: str = "") -> None:
        """Note in a trial a hang, a crash, another exit code than ``codes``, an end without one clear line that has the
        words ``says``, and processes that are left."""
        trial.outcome = f"exit {self.code}: {self.last[:160]}"
        trial.check(self.code is not None, HANG, f"killed after {LIMIT:g} s; it had said: {self.last}")
        if crash := next((word for word in CRASHES if word in self.out + self.err), None):
            trial.wrong(TRACEBACK, f"{crash}: {(self.err or self.out)[-1500:]}")
        codes = set(codes)
        if self.code is not None:
            trial.check(self.code in codes, CODE, f"{self.code} is not in {sorted(codes)}")
        one_line(trial, self.err, failed=self.code == 2)
        said = self.out + self.err
        trial.check(says in said, UNCLEAR, f"{says!r} is not said, but {said[-300:]!r}")
        trial.check(not self.orphans, ORPHAN, f"{len(self.orphans)} processes outlive it")


def one_line(trial: Trial, err: str, *, failed: bool) -> None:
    """Check that standard error has one error line, its last, if the command failed, else none."""
    lines = [line for line in err.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    if failed:
        trial.check(len(errors) == 1 and lines[-1] == errors[0], UNCLEAR, f"not one error line, but {err[-500:]!r}")
    trial.check(all(len(line) <= LONGEST for line in errors), UNCLEAR, f"a line of {max(map(len, lines), default=0)}")


class Command:
    """The real command in a session of its own. Its output goes to files: no process that is left can hold it up."""

    def __init__(
        self,
        *words: str,
        folder: Path,
        program: str = f"{sys.executable} -m contrastkit",
        before: str = "",
        after: str = "",
        environment: Mapping[str, str] = {},
    ) -> None:
        """
        Args:
            words: arguments, not quoted: they may not have spaces.
            folder: where it runs; its output goes to files beside it.
            before, after: what the shell is given before and behind the command, such as "ulimit -n 40;" and "> file".
        """
        self._mark = f"CONTRASTKIT_CAMPAIGN={uuid.uuid4()}"
        self._files = [folder.parent / f"{folder.name}.{stream}" for stream in ("out", "err")]
        line = f"{before} exec {program} {' '.join(words)} {after}"
        variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
        variables |= dict([self._mark.split("=")])
        with open(self._files[0], "w") as out, open(self._files[1], "w") as err:
            self.process = subprocess.Popen(
                ["bash", "-c", line], stdout=out, stderr=err, cwd=folder, env=variables, start_new_session=True
            )
        self.pid = self.process.pid

    def processes(self) -> list[int]:
        """The command's processes that run, wherever they have been moved to."""
        return [pid for pid, marked in _environments() if self._mark.encode() in marked]

    def workers(self) -> list[int]:
        """Its data-loading processes: forked, hence with the same command line."""
        own = _command_line(self.pid)
        return [pid for pid in self.processes() if pid != self.pid and _command_line(pid) == own]

    def ranks(self) -> list[int]:
        """Of torchrun: the processes that it has started."""
        children = [pid for pid in self.processes() if _parent(pid) == self.pid]
        return sorted(pid for pid in children if b"contrastkit" in _command_line(pid))

    def wait_for(self, condition: Callable[[], object], seconds: float = 2 * LIMIT) -> bool:
        """Wait until something holds while the command runs."""
        until = time.monotonic() + seconds
        while not condition():
            if self.process.poll() is not None or time.monotonic() > until:
                return False
            time.sleep(0.0005)
        return True

    def signal(self, number: int) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)

    def end(self, seconds: float = LIMIT) -> Ended:
        """Wait for the end of the command, and then for that of its processes; kill what is left."""
        try:
            code: int | None = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        until = time.monotonic() + (0 if code is None else GRACE)
        while (orphans := self.processes()) and time.monotonic() < until:
            time.sleep(0.05)
        for pid in orphans:
            _kill(pid)
        self.process.wait()
        out, err = (file.read_text("utf-8", "backslashreplace") for file in self._files)
        return Ended(code, out, err, [] if code is None else orphans)


def _environments() -> Iterator[tuple[int, bytes]]:
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            yield int(pid), Path("/proc", pid, "environ").read_bytes()
        except OSError:  # it has ended, or is another user's
            continue


def _command_line(pid: int) -> bytes:
    try:
        return Path("/proc", str(pid), "cmdline").read_bytes()
    except OSError:
        return b""


def _parent(pid: int) -> int:
    try:
        return int(Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def temporary_files(*folders: Path) -> list[str]:
    return [str(file) for folder in folders for file in folder.rglob(".*.tmp")]


def counts(trials: Iterable[Trial]) -> str:
    """ "57 trials: 0 hangs, 0 tracebacks, 0 files lost, ..." """
    trials = list(trials)
    found = Counter(kind for trial in trials for kind, _ in trial.problems)
    return f"{len(trials)} trials: " + ", ".join(f"{found[kind]} {kind}" for kind in KINDS)
