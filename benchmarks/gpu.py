"""`make gpu` and `make gpu-train`: what there is to do on a machine with a GPU, in pieces of a known length.

    python -m benchmarks.gpu check --out DIR [--device cpu] [--skip PIECE ...] [--minutes 8]
    python -m benchmarks.gpu train --out DIR --data-dir DIR [--minutes 8.5] [--stop-after EPOCHS]

It takes the Python that runs it, with the torch that is installed, and fetches nothing. Each piece of `check` is a
process with a limit of its own and a log in DIR; one that fails does not keep the next from running. DIR/check.json
says how each ended. `--device cpu` goes the same way on the CPU with little work, to try the script itself.

`train` begins ResNet-18 on CIFAR-10, or resumes it, and leaves with a checkpoint when its minutes are over: the same
command goes on.
"""

import argparse
import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
GRACE = 30  # seconds in which a training that was asked to leave saves its checkpoint
TOLERANCE = 0.02  # of a first loss on CUDA beside the CPU's: convolutions there may be in TF32


@dataclass(frozen=True)
class Piece:
    """One process: its limit in seconds, the modules without which it cannot run, and its command after `python`."""

    seconds: float
    needs: tuple[str, ...]
    command: tuple[str, ...]


def pieces(device: str, out: Path) -> dict[str, Piece]:
    """In the order of running. On the CPU each does a small part of its work."""
    tests = ("-m", "pytest", "-q", "-p", "no:cacheprovider")
    this = ("-m", "benchmarks.gpu")
    whole = device == "cuda"
    chosen = ("cuda", "cuda") if whole else ("cpu and queue", "cpu and devices")
    preset = ("--preset", "paper") if whole else ("--preset", "quick", "--op", "queue")
    methods = () if whole else ("--methods", "moco-v2", "cpc-audio")
    command = ("typer", "rich", "scipy", "sklearn", "matplotlib", "safetensors", "tensorboard")

    def timed(dtype: str, file: str) -> tuple[str, ...]:
        return (*this, "bench", "--device", device, "--dtype", dtype, *preset, "--json", str(out / file))

    return {
        "build": Piece(240, ("setuptools", "ninja"), ("setup.py", "--quiet", "build_ext", "--inplace")),
        "ops": Piece(150, ("pytest", "scipy"), (*tests, "tests/ops", "-k", chosen[0], f"--junitxml={out}/ops.xml")),
        "parts": Piece(
            60,
            ("pytest", "scipy"),
            (*tests, "tests/parts", "-k", chosen[1], f"--junitxml={out}/parts.xml"),
        ),
        "steps": Piece(120, command, (*this, "steps", "--device", device, "--out", str(out), *methods)),
        "bench": Piece(150, ("torchvision",), timed("float32", "bench.json")),
        "bench-bfloat16": Piece(150, ("torchvision",), timed("bfloat16", "bench-bfloat16.json")),
    }


def check(device: str, out: Path, skip: Iterable[str], minutes: float) -> int:
    """Run the pieces; 0 where each that ran did well."""
    import torch

    everything = pieces(device, out)
    if unknown := set(skip) - everything.keys():
        return fail(f"no piece '{unknown.pop()}' to skip; there are {', '.join(everything)}")
    out.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    environment.setdefault("MAX_JOBS", str(os.cpu_count()))
    environment.setdefault("CONTRASTKIT_CUDA", "1" if device == "cuda" else "0")
    if device == "cuda":  # for this GPU alone: half the time
        environment.setdefault("TORCH_CUDA_ARCH_LIST", "{}.{}".format(*torch.cuda.get_device_capability()))
    report: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": sys.version.split()[0],
        "cores": os.cpu_count(),
        "pieces": {},
    }
    end = time.monotonic() + 60 * minutes
    for name, piece in everything.items():
        result: dict[str, Any]
        if name in skip:
            result = {"status": "skipped", "why": "as asked"}
        elif missing := [module for module in piece.needs if importlib.util.find_spec(module) is None]:
            result = {"status": "skipped", "why": f"not installed here: {', '.join(missing)}"}
        elif (left := end - time.monotonic()) < 5:
            result = {"status": "skipped", "why": "no time left"}
        else:
            junit = out / f"{name}.xml"
            junit.unlink(missing_ok=True)
            result = run(piece.command, out / f"{name}.log", min(piece.seconds, left), environment)
            if junit.exists():
                result |= counted(junit)
        report["pieces"][name] = result
        (out / "check.json").write_text(json.dumps(report, indent=1) + "\n")
        print(f"{name}: {', '.join(str(value) for value in result.values() if value)}", flush=True)
    print(f"{out / 'check.json'}: {report['device']}, torch {report['torch']}")
    return int(any(result["status"] not in ("passed", "skipped") for result in report["pieces"].values()))


def run(command: tuple[str, ...], log: Path, limit: float, environment: dict[str, str]) -> dict[str, Any]:
    """One process and whatever it starts, ended at its limit; the last line of its log where it failed."""
    began = time.monotonic()
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        try:
            code = process.wait(limit)
            status = "passed" if code == 0 else "failed"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            status = "out of time"
    lines = log.read_text(errors="replace").strip().splitlines()
    why = "" if status == "passed" or not lines else lines[-1][:200]
    return {"status": status, "seconds": round(time.monotonic() - began, 1), "why": why}


def counted(junit: Path) -> dict[str, Any]:
    """How many tests passed, failed and were skipped, and the names of those that failed."""
    cases = list(ET.parse(junit).iter("testcase"))
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = sum(case.find("skipped") is not None for case in cases)
    names = [f"{case.get('classname')}::{case.get('name')}" for case in failed]
    return {"tests": f"{len(cases) - len(failed) - skipped} passed, {skipped} skipped", "failed": names}


def steps(device: str, out: Path, methods: list[str]) -> int:
    """The first step of every method, in float32: its loss, and on CUDA the CPU's beside it."""
    import numpy as np

    link_cli()
    from scipy.io import wavfile

    from benchmarks.fingerprint import METHODS, recorded_losses

    folder = out / "steps"
    (folder / "tones").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)
    np.savez(folder / "noise.npz", images=images, labels=np.arange(64) % 4)
    for i in range(16):
        wave = np.sin(np.arange(4800) * 0.05 * (1 + i % 4)) + rng.normal(0, 0.3, 4800)
        wavfile.write(folder / "tones" / f"{i}.wav", 8000, (wave * 8000).astype(np.int16))
    results: dict[str, dict[str, Any]] = {}
    for method in methods or METHODS:
        data, batch = ("tones", "16") if method == "cpc-audio" else ("noise.npz", "64")
        arguments = ["train", method, "--data", str(folder / data), "--encoder", "tiny", "--recipe", "tiny"]
        arguments += ["--batch", batch, "--epochs", "1", "--precision", "float32", "--workers", "0"]
        arguments += ["--monitor-every", "0", *(["--K", "32"] if method in ("instdisc", "cmc") else [])]
        result = results[method] = {}
        try:
            for where in dict.fromkeys((device, "cpu")):
                run_folder = folder / f"{method}-{where}-{time.time_ns()}"
                losses = recorded_losses([*arguments, "--device", where, "--out", str(run_folder)])
                result[where] = losses[0]
            result["fine"] = math.isclose(result[device], result["cpu"], rel_tol=TOLERANCE)
        except (Exception, SystemExit) as error:  # the next method's turn comes whatever this one did
            result |= {"fine": False, "error": f"{type(error).__name__}: {error}"}
        (out / "steps.json").write_text(json.dumps(results, indent=1) + "\n")
        print(method, result, flush=True)
    return fail(f"not fine: {', '.join(bad)}") if (bad := [m for m, r in results.items() if not r["fine"]]) else 0


def bench(device: str, dtype: str, preset: str, op: str | None, file: Path) -> int:
    """What `contrastkit bench-kernels --json` measures, written row by row: a limit loses the rest alone."""
    from contrastkit.bench import run as measured

    rows = []
    for row in measured(op=op, device=device, dtype=dtype, preset=preset):
        rows.append(row)
        file.write_text(json.dumps(rows, indent=1) + "\n")
        print(row["op"], row["shape"], row["direction"], row["impl"], row["median_ms"], row["note"], flush=True)
    return 0


def train(device: str, out: Path, data_dir: Path | None, minutes: float, stop_after: int | None) -> int:
    """One piece of a training: leaves by itself at its end, or is asked to when the minutes are over."""
    link_cli()
    folder = out / "moco-resnet18-cifar10"
    arguments = ["--resume", str(folder)]
    if not (folder / "recipe.json").exists():
        if data_dir is None:
            return fail("no run to resume: say where CIFAR-10 lies (make gpu-train DATA=DIR)")
        arguments = ["--data", "cifar10", "--data-dir", str(data_dir), "--encoder", "resnet18", "--out", str(folder)]
        arguments += ["--device", device]
    if stop_after is not None:
        arguments += ["--stop-after", str(stop_after)]
    out.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen([sys.executable, "-m", "contrastkit", "train", "moco", *arguments], cwd=ROOT)
    try:
        return process.wait(60 * minutes - GRACE)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
    try:
        return process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        return fail("the training did not leave in time; its last checkpoint stands")


def link_cli() -> None:
    """Let a checkout that is not installed find contrastkit.cli, which lies in cli/."""
    import contrastkit

    if importlib.util.find_spec("contrastkit.cli") is None:
        (Path(contrastkit.__file__).parent / "cli").symlink_to(Path("..") / "cli")


def fail(message: str) -> int:
    print(f"gpu: {message}", file=sys.stderr)
    return 2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "what", choices=("check", "train", "steps", "bench"), help="check, train; or one piece of check"
    )
    parser.add_argument("--out", type=Path, default=Path("build/gpu"))
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--skip", nargs="*", default=[], metavar="PIECE")
    parser.add_argument("--methods", nargs="*", default=[], metavar="METHOD", help="of steps: these alone")
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--data-dir", type=lambda text: Path(text) if text else None)
    parser.add_argument("--stop-after", type=lambda text: int(text) if text else None, metavar="EPOCHS")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--op")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    out = given.out.resolve()
    if importlib.util.find_spec("torch") is None:
        return fail(f"{sys.executable} has no torch: name the Python that has (make gpu PYTHON=...)")
    import torch

    if given.device == "cuda" and not torch.cuda.is_available():
        return fail(f"torch {torch.__version__} finds no CUDA device; DEVICE=cpu tries the script on the CPU")
    if given.what == "check":
        return check(given.device, out, given.skip, given.minutes)
    if given.what == "train":
        return train(given.device, out, given.data_dir, given.minutes, given.stop_after)
    if given.what == "steps":
        return steps(given.device, out, given.methods)
    return bench(given.device, given.dtype, given.preset, given.op, given.json)


if __name__ == "__main__":
    sys.exit(main())
