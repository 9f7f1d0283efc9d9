"""How commands end: exit codes, output that cannot be written, text that a terminal cannot show."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import pytest

from contrastkit import checkpoint, errors
from contrastkit.cli import streams
from contrastkit.cli.main import main
from contrastkit.training import session
from contrastkit.types import Step

COMMAND = [sys.executable, "-m", "contrastkit"]
TRAIN = ["train", "moco", "--encoder=tiny", "--device=cpu", "--batch=32", "--K=64", "--size=12", "--monitor-every=0"]
LIMIT = 120  # seconds


def shell(line: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    line = line.replace("contrastkit", f"{sys.executable} -m contrastkit")
    return subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, timeout=LIMIT, env={**os.environ, **environment}
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_the_code_of_a_stopped_training_is_of_its_signal(
    number: signal.Signals,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    add = session.Meter.add

    def signalled(meter: session.Meter, step: Step) -> None:
        os.kill(os.getpid(), number)
        add(meter, step)

    monkeypatch.setattr(session.Meter, "add", signalled)
    before = signal.signal(number, signal.SIG_DFL)  # even if the tests run under nohup
    try:
        assert main([*TRAIN, f"--data={images}", f"--out={tmp_path / 'run'}", "--epochs=9"]) == 128 + number
    finally:
        signal.signal(number, before)
    out, err = capsys.readouterr()
    assert "stopped by a signal" in out and "resume: contrastkit train" in out and err == ""


@pytest.mark.slow
@pytest.mark.parametrize(("number", "workers"), [(signal.SIGTERM, 0), (signal.SIGHUP, 2), (signal.SIGINT, 2)])
def test_a_stopped_training_exits_with_the_signals_code(
    number: signal.Signals, workers: int, images: Path, tmp_path: Path
) -> None:
    """So that ``train ... && probe ...`` does not go on with half a run."""
    run = tmp_path / "run"
    options = [f"--data={images}", f"--out={run}", "--epochs=100000", f"--workers={workers}"]
    process = subprocess.Popen(
        [*COMMAND, *TRAIN, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # even if the tests run under nohup
    )  # fmt: skip
    with process:
        try:
            while not (run / "checkpoints" / "last.pt").exists():
                time.sleep(0.05)
                assert process.poll() is None
            process.send_signal(number)
            out, err = process.communicate(timeout=LIMIT)
        finally:
            process.kill()
    assert process.returncode == 128 + number
    assert "stopped by a signal" in out and "resume: contrastkit train" in out and err == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_a_file_is_written_leaves_no_part_of_it(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(checkpoint, "_put", lambda *how, **new: os.kill(os.getpid(), number))
    before = signal.signal(number, signal.SIG_DFL)
    try:
        assert main(["stable", "simulate", "selection", f"--out={tmp_path / 's.csv'}", "--r=2"]) == 128 + number
        assert not list(tmp_path.iterdir()) and f"stopped by {number.name}" in capsys.readouterr().err
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)


def full_disk() -> TextIO:
    return open("/dev/full", "w")


def without_reader() -> TextIO:
    reader, writer = os.pipe()
    os.close(reader)
    return open(writer, "w")


@pytest.mark.parametrize("opened", [full_disk, without_reader])
def test_a_training_goes_on_without_its_output(
    opened: Callable[[], TextIO], images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with opened() as stdout, contextlib.redirect_stdout(stdout):
        assert main([*TRAIN, f"--data={images}", f"--out={tmp_path / 'run'}", "--epochs=1"]) == 0
    told = "standard output cannot be written, and is discarded: No space left on device\n"
    assert capsys.readouterr().err == (told if opened is full_disk else "")
    assert (tmp_path / "run" / "encoder.safetensors").exists()


@pytest.mark.slow
def test_a_reader_that_leaves_does_not_end_a_training(images: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    line = f"contrastkit {' '.join(TRAIN)} --data={images} --out={run} --epochs=2 | head -1; exit ${{PIPESTATUS[0]}}"
    result = shell(line)
    assert result.returncode == 0 and result.stderr == ""
    assert (run / "encoder.safetensors").exists()


@pytest.mark.slow
def test_a_full_disk_behind_stdout_does_not_end_a_training(images: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = shell(f"contrastkit {' '.join(TRAIN)} --data={images} --out={run} --epochs=2 > /dev/full")
    assert result.returncode == 0
    assert result.stderr == "standard output cannot be written, and is discarded: No space left on device\n"
    assert (run / "encoder.safetensors").exists()


@pytest.mark.parametrize("where", ["| head -1", "> /dev/full", ">&-", ">&- 2>&-"])
def test_a_listing_into_nowhere_ends_well(where: str) -> None:
    assert shell(f"set -o pipefail; contrastkit --help {where}").returncode == 0


@pytest.mark.parametrize("environment", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}, {"PYTHONUTF8": "0"}])
def test_any_text_can_be_shown(environment: dict[str, str]) -> None:
    name = os.fsdecode(b"gr\xfcn\xc3\xa9")  # bytes that are no UTF-8, and some that are
    result = subprocess.run(
        [*COMMAND, "methods", name], capture_output=True, timeout=LIMIT, env={**os.environ, **environment}
    )
    assert result.returncode == 2
    assert b"Traceback" not in result.stderr and b"gr\\udcfcn" in result.stderr


def test_warnings_of_our_own_are_a_line_without_their_place_in_the_code() -> None:
    before = warnings.formatwarning
    own, other = errors.__file__, warnings.__file__
    with streams.safe():
        assert warnings.formatwarning("x is taken for gray", UserWarning, own, 7) == "x is taken for gray\n"
        assert warnings.formatwarning("old", UserWarning, other, 1).startswith(f"{other}:1: UserWarning: old")
    assert warnings.formatwarning is before


def test_long_input_is_not_echoed_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["knn", "x" * 5000]) == 2
    assert 0 < len(capsys.readouterr().err) < 500
