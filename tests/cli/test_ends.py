"""How commands end: exit codes, output that cannot be written, text that a terminal cannot show."""

import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from contrastkit import checkpoint, errors
from contrastkit.cli import streams
from contrastkit.cli.main import main

COMMAND = [sys.executable, "-m", "contrastkit"]
TRAIN = ["train", "moco", "--encoder=tiny", "--device=cpu", "--batch=32", "--K=64", "--size=12", "--monitor-every=0"]
LIMIT = 120  # seconds


def shell(line: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    line = line.replace("contrastkit", f"{sys.executable} -m contrastkit")
    return subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, timeout=LIMIT, env={**os.environ, **environment}
    )


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


def test_a_reader_that_leaves_does_not_end_a_training(images: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    line = f"contrastkit {' '.join(TRAIN)} --data={images} --out={run} --epochs=2 | head -1; exit ${{PIPESTATUS[0]}}"
    result = shell(line)
    assert result.returncode == 0 and result.stderr == ""
    assert (run / "encoder.safetensors").exists()


def test_a_full_disk_behind_stdout_does_not_end_a_training(images: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = shell(f"contrastkit {' '.join(TRAIN)} --data={images} --out={run} --epochs=2 > /dev/full")
    assert result.returncode == 0
    assert result.stderr == "standard output cannot be written, and is discarded: No space left on device\n"
    assert (run / "encoder.safetensors").exists()


@pytest.mark.parametrize("where", ["| head -1", "> /dev/full", ">&-", ">&- 2>&-"])
def test_a_listing_into_nowhere_ends_well(where: str) -> None:
    assert shell(f"set -o pipefail; contrastkit methods {where}").returncode == 0


@pytest.mark.parametrize("environment", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}, {"PYTHONUTF8": "0"}])
def test_any_text_can_be_shown(environment: dict[str, str], tmp_path: Path) -> None:
    name = os.fsdecode(b"gr\xfcn\xc3\xa9")  # bytes that are no UTF-8, and some that are
    result = subprocess.run(
        [*COMMAND, "knn", str(tmp_path / name)], capture_output=True, timeout=LIMIT, env={**os.environ, **environment}
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


def test_long_input_is_not_echoed_whole() -> None:
    result = subprocess.run([*COMMAND, "knn", "x" * 5000], capture_output=True, text=True, timeout=LIMIT)
    assert result.returncode == 2 and len(result.stderr) < 500
