"""Writes that survive a kill at any moment, and files that are not what they should be."""

import errno
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from contrastkit import checkpoint
from contrastkit.errors import UserError


def state(value: int) -> dict[str, object]:
    """A checkpoint that shows whether all of it is of one save. Small tensors: a forked child must start no threads."""
    return {"step": value, "method": {f"w{i}": torch.full((100, 100), float(value)) for i in range(32)}}


def is_whole(found: dict[str, object]) -> bool:
    return all(bool((w == found["step"]).all()) for w in found["method"].values())  # type: ignore[attr-defined]


def test_save_and_load(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "last.pt", state(3))
    found = checkpoint.load(tmp_path / "last.pt")
    assert found["step"] == 3 and is_whole(found)
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


@pytest.mark.slow
def test_killed_at_any_moment_a_whole_checkpoint_is_left(tmp_path: Path) -> None:
    """kill -9 at random moments of a process that does nothing but save, until twenty of them tore a save."""
    path = tmp_path / "last.pt"
    checkpoint.save(path, state(0))
    draw = random.Random(0)
    newest = 0
    kills = 0
    while len(list(tmp_path.iterdir())) <= 20:
        kills += 1
        assert kills < 200, "the kills hardly hit a save at work"
        child = os.fork()
        if child == 0:
            for value in range(newest + 1, newest + 10_000):
                checkpoint.save(path, state(value))
            os._exit(0)
        time.sleep(draw.uniform(0.01, 0.1))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        found = checkpoint.load(path)
        assert is_whole(found)
        assert found["step"] >= newest  # nothing older than the last finished save
        newest = found["step"]
    assert newest > 0, "no save was ever finished"
    checkpoint.sweep(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_a_full_disk_is_one_line_and_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    checkpoint.save(path, state(1))
    child = os.fork()
    if child == 0:  # the limit cannot be raised again: so it needs its own process
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            checkpoint.save(path, state(2))
        except UserError as error:
            os._exit(0 if "no space left" in str(error) else 3)
        except BaseException:
            os._exit(4)
        os._exit(5)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert checkpoint.load(path)["step"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    checkpoint.write_text(path, "old")
    with pytest.raises(ZeroDivisionError), checkpoint.atomic(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("keep", [0, 10, 1000, -100])
def test_a_truncated_checkpoint_is_refused(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "last.pt"
    checkpoint.save(path, state(1))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match="not a readable checkpoint"):
        checkpoint.load(path)


def test_a_file_of_others_is_refused_without_running_its_code(tmp_path: Path) -> None:
    ran = tmp_path / "ran"

    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (ran,))

    torch.save({"format": 1, "bomb": Bomb()}, tmp_path / "bomb.pt")
    with pytest.raises(UserError, match="not a readable checkpoint"):
        checkpoint.load(tmp_path / "bomb.pt")
    assert not ran.exists()
    torch.save({"state_dict": {}}, tmp_path / "other.pt")
    with pytest.raises(UserError, match="not a checkpoint of contrastkit"):
        checkpoint.load(tmp_path / "other.pt")
    torch.save({"format": 99}, tmp_path / "newer.pt")
    with pytest.raises(UserError, match="format 99"):
        checkpoint.load(tmp_path / "newer.pt")
    with pytest.raises(IsADirectoryError):  # nor is a file without permission called damaged
        checkpoint.load(tmp_path)
    with pytest.raises(UserError, match="no checkpoint yet"):
        checkpoint.load(tmp_path / "none.pt")


def test_bytes_are_on_the_disk_before_the_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process: list[str] = []
    fsync, replace = os.fsync, os.replace

    def spy_fsync(handle: int) -> None:
        process.append("folder" if Path(f"/proc/self/fd/{handle}").resolve() == tmp_path.resolve() else "file")
        fsync(handle)

    def spy_replace(a: Path, b: Path) -> None:
        process.append("name")
        replace(a, b)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(os, "replace", spy_replace)
    checkpoint.write_text(tmp_path / "a.txt", "new")
    assert process == ["file", "name", "folder"]


def test_a_file_has_the_mode_that_the_umask_leaves(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        checkpoint.write_text(tmp_path / "a.txt", "new")
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, UserError), (errno.EDQUOT, UserError), (errno.EACCES, PermissionError)]
)
def test_of_failed_writes_only_a_full_disk_is_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception]
) -> None:
    def fail(handle: int) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(kind):
        checkpoint.write_text(tmp_path / "a.txt", "new")
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_that_users_have_is_read(tmp_path: Path) -> None:
    torch.save({"format": 1, "step": 7}, tmp_path / "last.pt")
    assert checkpoint.load(tmp_path / "last.pt")["step"] == 7


def test_only_our_own_leftovers_are_swept_away(tmp_path: Path) -> None:
    for name in ("notes.tmp", ".hidden", ".last.pt.x1.tmp"):
        (tmp_path / name).touch()
    checkpoint.sweep(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"notes.tmp", ".hidden"}


# ------------------------------------------------------------------------------------- what is no file of one's own


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "a.txt", tmp_path / "link"
    link.symlink_to(Path("elsewhere") / "a.txt")
    for text in ("first", "second"):  # at first the link leads to nothing
        checkpoint.write_text(link, text)
        assert link.is_symlink() and target.read_text() == text
    assert [path.name for path in target.parent.iterdir()] == ["a.txt"]


def test_a_pipe_is_written_through(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    checkpoint.write_text(pipe, "text")
    assert os.read(reader, 100) == b"text"
    os.close(reader)
    assert pipe.is_fifo() and [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_a_device_is_written_through(tmp_path: Path) -> None:
    """By a link, so that a failure of this test does not destroy the device."""
    device = tmp_path / "null"
    device.symlink_to("/dev/null")
    checkpoint.write_text(device, "text")
    assert device.is_symlink() and Path("/dev/null").is_char_device()
    full = tmp_path / "full"
    full.symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"no space left to write .*full"):
        checkpoint.write_text(full, "text")
    assert Path("/dev/full").is_char_device()


def test_standard_output_in_a_file_is_appended_to(tmp_path: Path) -> None:
    """As by ``--json /dev/stdout > file``: after a replacement, the shell's file would lack what follows. By a link, as
    is the device above."""
    link = tmp_path / "stdout"
    link.symlink_to("/proc/self/fd/1")
    command = "import sys; from pathlib import Path; from contrastkit import checkpoint; print('a', flush=True); "
    command += "checkpoint.write_text(Path(sys.argv[1]), 'b\\n'); print('c')"
    with open(tmp_path / "out", "w") as out:
        subprocess.run([sys.executable, "-c", command, str(link)], stdout=out, check=True)
        assert (tmp_path / "out").read_text() == "a\nb\nc\n"


def test_tensors_with_metadata_are_read_by_the_library_in_the_order_given(tmp_path: Path) -> None:
    """In any process, equal contents make equal files; the header is padded so that the tensors are aligned."""
    g = torch.Generator().manual_seed(0)
    tensors = {"b": torch.rand(3, 5, generator=g), "a": torch.arange(4), "half": torch.rand(7, generator=g).half()}
    file, metadata = tmp_path / "x.safetensors", {name: name * 3 for name in "zyxcbafghé"}
    for length in range(9):
        checkpoint.save_tensors(file, tensors, metadata | {"text": "t" * length})
        stored = file.read_bytes()
        header = int.from_bytes(stored[:8], "little")
        assert header % 8 == 0 and stored[8 : 8 + header].rstrip(b" ").endswith(b"}")
        assert list(json.loads(stored[8 : 8 + header])["__metadata__"]) == [*metadata, "text"]
        with safe_open(file, "pt") as opened:
            assert opened.metadata() == metadata | {"text": "t" * length}
        read = load_file(file)
        assert read.keys() == tensors.keys()
        assert all(torch.equal(read[name], tensors[name]) for name in tensors)
