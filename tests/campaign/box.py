"""A fault: a folder with images, the training that meets it there, and what must hold after it."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from contrastkit.run import Run
from tests.campaign.kills import pictures, unreadable
from tests.campaign.trial import CODE, LEFT, LOST, Command, Ended, Trial, temporary_files

FAST = ["--encoder=tiny", "--device=cpu", "--size=8", "--batch=32", "--K=64", "--monitor-every=0"]
ENDLESS = ["--epochs=100000", "--save-every=50"]
SHORT = ["--epochs=2"]
PROGRAM = f"{sys.executable} -m contrastkit"
# Data-loading processes are stuck after ten minutes without a result: here, after 15 seconds.
_CHANGE = "import contrastkit.data.workers as w; w.PATIENCE = 15; import contrastkit.__main__"
IMPATIENT = f"{sys.executable} -c '{_CHANGE}'"


class Box:
    """A folder for one fault: images of its own, and the training that meets the fault."""

    def __init__(self, name: str, folder: Path) -> None:
        self.trial = Trial(name)
        self.folder = folder
        self.data, self.run = folder / "pictures", folder / "run"
        folder.mkdir()
        self.temporary = folder / "tmp"
        self.temporary.mkdir()

    def train(self, *words: str, workers: int = 2, out: Path | None = None, **how: Any) -> Command:
        """Begin an endless training on files, or one with other ``words``."""
        if not self.data.exists():
            pictures(self.data)
        options = [f"--data={self.data}", f"--workers={workers}", f"--out={out or self.run}", *(words or ENDLESS)]
        return self.command("train", "moco", *FAST, *options, **how)

    def command(self, *words: str, environment: dict[str, str] | None = None, **how: Any) -> Command:
        variables = {"TMPDIR": str(self.temporary), **(environment or {})}
        return Command(*words, folder=self.folder, environment=variables, **how)

    def running(self, *words: str, workers: int = 2, **how: Any) -> Command:
        """A training with a checkpoint behind it."""
        command = self.train(*words, workers=workers, **how)
        self.reached(command.wait_for((self.run / "checkpoints" / "last.pt").exists), command)
        return command

    def reached(self, yes: object, command: Command) -> None:
        """Note that a command has ended, or waited, before it met its fault."""
        self.trial.check(bool(yes), CODE, f"did not get as far as the fault (exit code {command.process.poll()})")

    def ended(self, command: Command, codes: set[int], says: str = "") -> Ended:
        """Wait for the end, and judge it and what it left."""
        ended = command.end()
        ended.judge(self.trial, codes, says)
        if self.run.is_dir():
            for what in unreadable(self.run):
                self.trial.wrong(LOST, what)
        left = temporary_files(self.folder)
        self.trial.check(not left, LEFT, f"{left}")
        return ended

    def resumes(self) -> None:
        """Check that the run goes on."""
        before = Run.open(self.run).metrics()
        command = self.command("train", "moco", "--resume", str(self.run), "--workers=0")
        more = command.wait_for(lambda: len(Run.open(self.run).metrics()) > len(before))
        self.trial.check(more, LOST, "the run cannot be resumed")
        command.signal(signal.SIGTERM)
        code = command.end().code
        self.trial.check(code == 128 + signal.SIGTERM, CODE, f"resumed and stopped, it exits with {code}")


Fault = Callable[[Box], None]
FAULTS: dict[str, Fault] = {}


def fault(name: str) -> Callable[[Fault], Fault]:
    def named(meet: Fault) -> Fault:
        FAULTS[name] = meet
        return meet

    return named


def spaces() -> bool:
    """Whether this machine lets us mount file systems of our own."""
    return subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode == 0
