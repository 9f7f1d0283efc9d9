"""Bad inputs over all commands: each is refused with exit code 2 and one line, in time, and nothing is left behind.

The tables, ``tests/campaign/table_*.txt``, have one input a line: ``command line => words of the message``. Their files
are those of ``materials.py``. A line that begins with ``nobody:`` runs without root's privileges, where these are its
own. Each runs in a fork of a process that has imported the package, in a copy of the materials, which is compared with
what it was.
"""

import ctypes
import hashlib
import multiprocessing
import os
import re
import shlex
import shutil
import signal
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any, NamedTuple

from tests.campaign.materials import build
from tests.campaign.trial import LEFT, LOST, Ended, Trial

HERE = Path(__file__).parent
Snapshot = dict[str, tuple[Any, ...]]


class Input(NamedTuple):
    table: str
    line: str
    says: str
    nobody: bool = False

    @property
    def name(self) -> str:
        return f"{self.table}: {self.line[:150]}"


def table() -> list[Input]:
    """All bad inputs."""
    rows = []
    for file in sorted(HERE.glob("table_*.txt")):
        for text in file.read_text().splitlines():
            if text.strip() and not text.startswith("#"):
                line, arrow, says = text.rpartition(" => ")
                assert arrow, text
                name = file.stem.removeprefix("table_")
                nobody = line.startswith("nobody: ")
                rows.append(Input(name, line.removeprefix("nobody: ").strip(), says.strip(), nobody))
    return rows


def words_of(line: str) -> list[str]:
    """The arguments on a line: {x*5000} is x repeated, and {HERE} the folder of the materials."""
    line = re.sub(r"\{(.+?)\*(\d+)\}", lambda repeated: repeated[1] * int(repeated[2]), line)
    return shlex.split(line.replace("{HERE}", os.getcwd()))


def snapshot(folder: Path) -> Snapshot:
    """What is in a folder: kind, permissions and contents of each file."""
    found: Snapshot = {}
    for place, folders, files in os.walk(folder):
        for name in folders + files:
            path = os.path.join(place, name)
            status = os.lstat(path)
            content: Any = None
            if stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    content = hashlib.file_digest(file, "sha1").digest()
            found[os.path.relpath(path, folder)] = (status.st_mode, content)
    return found


class Place:
    """A copy of the materials, mended after each input that has changed it."""

    def __init__(self, original: Path, folder: Path) -> None:
        self.original, self.folder = original, folder
        self._copy()
        self.before = snapshot(folder)

    def _copy(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        subprocess.run(["cp", "-a", self.original, self.folder], check=True)  # pipes too, unlike shutil
        (self.folder / "tmp").mkdir(exist_ok=True)
        (self.folder / "tmp").chmod(0o777)
        self.folder.chmod(0o777)

    def judge(self, trial: Trial) -> None:
        """Note what an input has left or changed, and mend it."""
        after = snapshot(self.folder)
        new, gone = sorted(after.keys() - self.before.keys()), sorted(self.before.keys() - after.keys())
        changed = [name for name in after.keys() & self.before.keys() if after[name] != self.before[name]]
        trial.check(not new, LEFT, ", ".join(new[:5]))
        trial.check(not gone, LOST, ", ".join(gone[:5]))
        trial.check(not changed, LOST, f"changed: {', '.join(changed[:5])}")
        if new or gone or changed:
            self._copy()


def run(row: Input, place: Place, limit: float) -> Trial:
    """Give one input to a fork of this process."""
    trial = Trial(row.name)
    out, err = (place.folder.with_suffix(end) for end in (".out", ".err"))
    pid = os.fork()
    if pid == 0:
        _child(row, place.folder, out, err)
    code, until = None, time.monotonic() + limit
    while code is None and time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        code = os.waitstatus_to_exitcode(status) if done else None
        if code is None:
            time.sleep(0.005)
    if code is None:
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    said, complained = (file.read_text("utf-8", "backslashreplace") for file in (out, err))
    ended = Ended(code, said, complained, [])
    ended.judge(trial, {2}, row.says)
    place.judge(trial)
    return trial


def _child(row: Input, folder: Path, out: Path, err: Path) -> None:
    """Run the command in this process, and end it."""
    os.setsid()
    os.chdir(folder)
    vars(multiprocessing.current_process())["_config"]["daemon"] = False  # it may have children
    for number, file in ((0, Path(os.devnull)), (1, out), (2, err)):
        os.dup2(os.open(file, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666), number)
    sys.stdout, sys.stderr = open(1, "w"), open(2, "w")  # noqa: SIM115 (until the end of the process)
    os.environ["TMPDIR"] = str(folder / "tmp")
    if row.nobody:
        _give_up_capabilities()
    code = 99
    try:
        from contrastkit.cli.main import main

        code = main(words_of(row.line))
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _give_up_capabilities() -> None:
    """Let permissions hold for root too: see capset(2)."""
    version, this_process = 0x20080522, 0
    ctypes.CDLL(None).capset(struct.pack("Ii", version, this_process), bytes(24))


# ---------------------------------------- a pool of processes, each with a place of its own

_place: Place


def _begin(original: Path, folder: Path) -> None:
    """Import what commands import, once, and copy the materials."""
    global _place
    import matplotlib.figure  # noqa: F401
    import pandas  # noqa: F401
    import scipy.stats  # noqa: F401
    import sklearn.linear_model  # noqa: F401
    import torch

    import contrastkit.cli.main
    import contrastkit.evaluate
    import contrastkit.training.launch
    import contrastkit.transfer  # noqa: F401

    torch.set_num_threads(1)
    _place = Place(original, folder / f"place-{os.getpid()}")


def _one(row: Input) -> Trial:
    return run(row, _place, limit=30.0)


def trials(folder: Path, only: str = "", rows: list[Input] | None = None, processes: int = 2) -> Iterator[Trial]:
    folder.chmod(0o755)  # nobody passes through
    original = folder / "materials"
    original.mkdir()
    build(original)
    chosen = [row for row in rows or table() if only in row.name]
    with _pool(processes, original, folder) as pool:
        yield from pool.imap(_one, chosen)


def _pool(processes: int, original: Path, folder: Path) -> Pool:
    return multiprocessing.get_context("spawn").Pool(processes, _begin, (original, folder))
