"""`make gpu` and `make gpu-train`, as far as they go without a GPU."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks import gpu

    return gpu


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.gpu", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("what", ["check", "train"])
def test_without_a_gpu_one_line_says_so(what, tmp_path):
    process = run(what, "--out", tmp_path / "out")
    assert process.returncode == 2 and "has no CUDA device" in process.stderr.splitlines()[-1]
    assert process.stdout == "" and not (tmp_path / "out").exists()


def test_each_piece_ends_in_its_own_way_and_the_next_one_runs(gpu, tmp_path, monkeypatch):
    junit = '<suite><testcase classname="a" name="b"><failure/></testcase></suite>'
    write = f"open({str(tmp_path / 'tests.xml')!r}, 'w').write({junit!r})"
    pieces = {
        "fails": gpu.Piece(60, (), ("-c", "print(1); raise SystemExit('what went wrong')")),
        "hangs": gpu.Piece(1, (), ("-c", "import time; print('so far', flush=True); time.sleep(60)")),
        "lacks": gpu.Piece(60, ("json", "no_such_module"), ("-c", "")),
        "unwanted": gpu.Piece(60, (), ("-c", "")),
        "tests": gpu.Piece(60, (), ("-c", write)),
        "jobs": gpu.Piece(60, (), ("-c", "import os; assert int(os.environ['MAX_JOBS']) >= 1")),
    }
    monkeypatch.setattr(gpu, "pieces", lambda device, out: pieces)
    assert gpu.check("cpu", tmp_path, ["unwanted"], minutes=8) == 1
    report = json.loads((tmp_path / "check.json").read_text())
    assert report["device"] == "cpu" and report["torch"] == torch.__version__
    ends = report["pieces"]
    assert {name: end["status"] for name, end in ends.items()} == {
        "fails": "failed",
        "hangs": "out of time",
        "lacks": "skipped",
        "unwanted": "skipped",
        "tests": "passed",
        "jobs": "passed",
    }
    assert ends["fails"]["why"] == "what went wrong" and ends["hangs"]["seconds"] < 30
    assert ends["lacks"]["why"] == "not installed: no_such_module"
    assert ends["tests"]["tests"] == "0 passed, 0 skipped" and ends["tests"]["failed"] == ["a::b"]
    assert "so far" in (tmp_path / "hangs.log").read_text()


def test_no_piece_begins_when_the_time_is_over_and_none_unknown_is_skipped(gpu, tmp_path, capsys):
    assert gpu.check("cpu", tmp_path, [], minutes=0) == 0
    assert {end["status"] for end in json.loads((tmp_path / "check.json").read_text())["pieces"].values()} == {
        "skipped"
    }
    assert gpu.check("cpu", tmp_path, ["bunch"], minutes=0) == 2
    assert "unknown piece 'bunch'" in capsys.readouterr().err


def test_what_was_timed_before_the_limit_stays(gpu, tmp_path, monkeypatch):
    def rows(**options):
        for impl in ("eager", "ours"):
            yield {"op": "queue", "shape": "", "direction": "", "impl": impl, "median_ms": 1.0, "note": ""} | options
        raise KeyboardInterrupt

    monkeypatch.setattr("contrastkit.bench.run", rows)
    with pytest.raises(KeyboardInterrupt):
        gpu.bench("cpu", "float32", "quick", "queue", tmp_path / "bench.json")
    assert [row["impl"] for row in json.loads((tmp_path / "bench.json").read_text())] == ["eager", "ours"]


def test_a_training_begins_then_resumes_and_is_asked_to_leave(gpu, tmp_path, monkeypatch, capsys):
    commands, signals = [], []

    class Process:
        def __init__(self, command, cwd):
            commands.append(command[4:])

        def wait(self, seconds):
            if seconds > gpu.GRACE:
                raise subprocess.TimeoutExpired("train", seconds)
            return 0

        def send_signal(self, number):
            signals.append(number)

    monkeypatch.setattr(gpu.subprocess, "Popen", Process)
    assert gpu.train("cpu", tmp_path, None, 8.5, None) == 2 and "DATA=DIR" in capsys.readouterr().err
    assert gpu.train("cpu", tmp_path, Path("data"), 8.5, None) == 0
    folder = tmp_path / "moco-resnet18-cifar10"
    assert commands[0][:5] == ["moco", "--data", "cifar10", "--data-dir", "data"] and str(folder) in commands[0]
    folder.mkdir()
    (folder / "recipe.json").write_text("{}")
    assert gpu.train("cpu", tmp_path, None, 8.5, 3) == 0
    assert commands[1] == ["moco", "--resume", str(folder), "--stop-after", "3"]
    assert signals == [signal.SIGTERM] * 2


@pytest.mark.slow
def test_the_pieces_run_on_the_cpu(tmp_path):
    process = run("check", "--device", "cpu", "--out", tmp_path, "--skip", "build", "bench", "bench-bfloat16")
    assert process.returncode == 0, process.stdout
    report = json.loads((tmp_path / "check.json").read_text())
    for name in ("ops", "parts"):
        assert int(report["pieces"][name]["tests"].split()[0]) >= 5
    steps = json.loads((tmp_path / "steps.json").read_text())
    assert steps.keys() == {"moco-v2", "cpc-audio"} and all(0 < step["cpu"] < 10 for step in steps.values())


@pytest.mark.slow
def test_a_step_that_fails_is_told_and_the_next_method_has_its_turn(tmp_path):
    process = run("steps", "--device", "cpu", "--out", tmp_path, "--methods", "mocco", "moco-v2")
    assert (
        process.returncode == 2 and process.stderr.splitlines()[-1] == "gpu: losses missing or unlike the CPU's: mocco"
    )
    steps = json.loads((tmp_path / "steps.json").read_text())
    assert not steps["mocco"]["fine"] and "exit code 2" in steps["mocco"]["error"] and steps["moco-v2"]["fine"]
