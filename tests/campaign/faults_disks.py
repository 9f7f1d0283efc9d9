"""Faults of disks, of the files on them, and of the standard streams."""

import os
import resource
import shutil
import signal
from pathlib import Path

from tests.campaign.box import IMPATIENT, PROGRAM, SHORT, Box, fault, spaces
from tests.campaign.kills import pictures
from tests.campaign.trial import CODE, LEFT, LOST, Command

# ---------------------------------------- the data


@fault("the data folder is deleted")
def _data_deleted(box: Box) -> None:
    command = box.running()
    shutil.rmtree(box.data)
    box.ended(command, {2}, "can be read")


@fault("all files are truncated")
def _data_truncated(box: Box) -> None:
    command = box.running()
    for file in box.data.rglob("*.png"):
        os.truncate(file, 40)
    box.ended(command, {2}, "can be read")


@fault("a file becomes a pipe that nobody writes to: as a disk that does not answer")
def _data_pipe(box: Box) -> None:
    command = box.running(program=IMPATIENT)
    file = next(box.data.rglob("*.png"))
    file.unlink()
    os.mkfifo(file)
    box.ended(command, {2}, "are stuck")


@fault("a file becomes a folder, another a link to itself, another empty")
def _data_odd(box: Box) -> None:
    command = box.running("--epochs=40", "--max-bad=0.1")
    for n, file in enumerate(sorted(box.data.rglob("*.png"))[:3]):
        file.unlink()
        (file.mkdir, lambda file=file: file.symlink_to(file), file.touch)[n]()
    box.ended(command, {0}, "cannot read")


@fault("files become noise while knn reads them")
def _noise(box: Box) -> None:
    box.ended(box.train(*SHORT, workers=0), {0})
    for file in sorted(box.data.rglob("*.png")):
        file.write_bytes(os.urandom(1000))
    box.ended(box.command("knn", str(box.run), "--val-fraction=0.2", "--workers=2"), {2}, "can be read")


# ---------------------------------------- a full disk


def full(pid: int) -> None:
    """Let a process write no checkpoint any more, as on a full disk; lines of text still find room."""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (2**16, 2**16))


@fault("a disk that becomes full under a training")
def _full(box: Box) -> None:
    command = box.running()
    full(command.pid)
    box.ended(command, {2}, "no space left")
    box.resumes()


@fault("ulimit -f: a disk too small for the first checkpoint")
def _full_at_first(box: Box) -> None:
    box.ended(box.train(*SHORT, before="ulimit -f 100;"), {2}, "no space left")
    box.trial.check(not box.run.exists(), LEFT, "a run folder")


OUTPUTS = {
    "embed --encoder=tiny --data=PICTURES --workers=0 --device=cpu --out=OLD": "features",
    "probe --encoder=tiny --data=PICTURES --val-fraction=0.5 --workers=0 --epochs=1 --seeds=1 --plot=OLD": "plot",
    "causal demo --out=OLD": "picture",
    "stable simulate selection --n=50000 --out=OLD": "rows",
    "views moco-v2 --data=PICTURES --out=OLD": "sheet",
}
for _line in OUTPUTS:

    @fault(f"a full disk for {_line.split(' --')[0]}: its earlier file stays")
    def _full_output(box: Box, line: str = _line) -> None:
        pictures(box.data)
        old = box.folder / "old.npz"
        old.write_bytes(b"earlier")
        words = line.replace("PICTURES", str(box.data)).replace("OLD", str(old)).split()
        box.ended(box.command(*words, before="ulimit -f 1;"), {2}, "no space left")
        box.trial.check(old.read_bytes() == b"earlier", LOST, "the earlier file")


@fault("--out /dev/full")
def _device(box: Box) -> None:
    box.ended(box.command("stable simulate selection --out=/dev/full"), {2}, "o space left")
    box.trial.check(Path("/dev/full").is_char_device(), LOST, "/dev/full")


if spaces():

    def small(folder: str, size: str = "", options: str = "") -> str:
        """The beginning of a shell line that runs the command in a file system of its own on ``folder``."""
        return f"unshare -rm bash -c 'mount -t tmpfs -o {size}{options} none {folder} && exec \"$@\"' bash"

    def at(box: Box, prefix: str, *words: str, workers: int = 2) -> Command:
        return box.train(*words, workers=workers, program=f"{prefix} {PROGRAM}")

    @fault("a file system without room for the first checkpoint")
    def _small_disk(box: Box) -> None:
        box.run.mkdir()
        box.ended(at(box, small(str(box.run), "size=600k"), *SHORT), {2}, "no space left")

    @fault("a file system without room for a third checkpoint")
    def _third(box: Box) -> None:
        box.run.mkdir()
        box.ended(at(box, small(str(box.run), "size=8m"), "--epochs=40", "--save-every=1"), {2}, "no space left")

    @fault("a temporary folder without room")
    def _small_temporary(box: Box) -> None:
        box.ended(at(box, small(str(box.temporary), "size=4k"), *SHORT), {0})

    @fault("/dev/shm without room")
    def _small_shared(box: Box) -> None:
        large = ["--epochs=2", "--size=64", "--batch=128", "--K=128"]
        box.ended(at(box, small("/dev/shm", "size=256k"), *large), {2}, "enlarge /dev/shm")

    @fault("a read-only place for the run")
    def _read_only(box: Box) -> None:
        box.run.mkdir()
        for workers in (0, 2):
            box.ended(at(box, small(str(box.run), options="ro"), *SHORT, workers=workers), {2}, "cannot be written")

    @fault("a read-only run: judged on the screen, not resumed")
    def _read_only_run(box: Box) -> None:
        box.ended(box.train(*SHORT, workers=0), {0})
        read_only = f"unshare -rm bash -c 'mount --bind -o ro {box.run} {box.run} && exec \"$@\"' bash {PROGRAM}"
        box.ended(box.command("knn", str(box.run), "--val-fraction=0.2", program=read_only), {0}, "is not written")
        box.ended(box.command("train", "moco", "--resume", str(box.run), program=read_only), {2}, "cannot be written")


# ---------------------------------------- the run folder


@fault("the run folder is deleted")
def _run_deleted(box: Box) -> None:
    command = box.running()
    while box.run.exists():
        shutil.rmtree(box.run, ignore_errors=True)
    box.ended(command, {2}, "No such file")


@fault("the run folder becomes a file")
def _run_file(box: Box) -> None:
    command = box.running()
    box.run.rename(box.folder / "moved")
    box.run.touch()
    box.ended(command, {2}, "Not a directory")


@fault("last.pt becomes a folder")
def _last_folder(box: Box) -> None:
    command = box.running()
    last = box.run / "checkpoints" / "last.pt"
    last.unlink()
    try:
        last.mkdir()
    except FileExistsError:  # written again between the two calls
        last.unlink()
        last.mkdir()
    ended = command.end()
    ended.judge(box.trial, {2}, "last.pt")


# ---------------------------------------- standard streams


for _after, _codes in {">&-": {0}, "2>&-": {0}, ">&- 2>&-": {0}, "<&-": {0}, "> /dev/full": {0}, "2> /dev/full": {0},
                       "> /dev/full 2>&1": {0}, "| head -1": {0}}.items():  # fmt: skip

    @fault(f"train {_after}")
    def _streams(box: Box, after: str = _after, codes: set[int] = _codes) -> None:
        box.ended(box.train(*SHORT, after=after), codes)
        box.trial.check((box.run / "encoder.safetensors").exists(), CODE, "no encoder")


@fault("a terminal that is closed: SIGHUP to all, and no reader of its output any more")
def _hangup(box: Box) -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    command = box.running(after=f"> /proc/{os.getpid()}/fd/{writer} 2>&1")
    os.close(writer)
    os.close(reader)
    os.killpg(command.pid, signal.SIGHUP)
    box.ended(command, {128 + signal.SIGHUP})
    box.resumes()
