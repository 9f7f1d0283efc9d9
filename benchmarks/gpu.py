"""`make gpu` and `make gpu-train`: checks and a training on a machine with a GPU, in pieces of limited duration.

    python -m benchmarks.gpu check --out DIR [--device cpu] [--skip PIECE ...] [--minutes 8]
    python -m benchmarks.gpu train --out DIR --data-dir DIR [--minutes 8.5] [--stop-after EPOCHS]

It uses the Python that runs it with the installed torch, and downloads nothing. Each piece of `check` is a process with
its own time limit and a log in DIR; a failure does not prevent the next piece. DIR/check.json records the results.
`--device cpu` runs a small part of each piece on the CPU, to test this script itself.

`train` starts or resumes ResNet-18 on CIFAR-10, and stops with a checkpoint when its minutes are over; repeat the
command to resume.
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
GRACE = 30  # seconds for a training to save its checkpoint after SIGTERM
TOLERANCE = 0.02  # relative difference of a first loss on CUDA and CPU: CUDA convolutions may use TF32


@dataclass(frozen=True)
class Piece:
    """One process: its time limit in seconds, the modules it requires, and its command after `python`."""

    seconds: float
    needs: tuple[str, ...]
    command: tuple[str, ...]


def pieces(device: str, out: Path) -> dict[str, Piece]:
    """All pieces, in the order they run. On the CPU each does a small part of its work."""
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
    """Run the pieces; return 0 unless one failed."""
    import torch

    everything = pieces(device, out)
    if unknown := set(skip) - everything.keys():
        return fail(f"unknown piece '{unknown.pop()}' (known: {', '.join(everything)})")
    out.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    environment.setdefault("MAX_JOBS", str(os.cpu_count()))
    environment.setdefault("CONTRASTKIT_CUDA", "1" if device == "cuda" else "0")
    if device == "cuda":  # for this GPU only, which halves the time
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
            result = {"status": "skipped", "why": "by --skip"}
        elif missing := [module for module in piece.needs if importlib.util.find_spec(module) is None]:
            result = {"status": "skipped", "why": f"not installed: {', '.join(missing)}"}
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
    """Run a process, killed with its children at the limit; the result has the last line of its log if it failed."""
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
    """Counts of passed and skipped tests, and the names of those that failed."""
    cases = list(ET.parse(junit).iter("testcase"))
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = sum(case.find("skipped") is not None for case in cases)
    names = [f"{case.get('classname')}::{case.get('name')}" for case in failed]
    return {"tests": f"{len(cases) - len(failed) - skipped} passed, {skipped} skipped", "failed": names}


def steps(device: str, out: Path, methods: list[str]) -> int:
    """The first step of every method, in float32: its loss, and for CUDA that of the CPU for comparison."""
    import numpy as np

    link_cli()
    from benchmarks.fingerprint import METHODS, recorded_losses, sounds, tiny

    folder = out / "steps"
    folder.mkdir(parents=True, exist_ok=True)
    images = np.random.default_rng(0).integers(0, 256, (128, 32, 32, 3), dtype=np.uint8)
    np.savez(folder / "noise.npz", images=images, labels=np.arange(128) % 4)
    sounds(folder / "tones", 16)
    results: dict[str, dict[str, Any]] = {}
    for method in methods or METHODS:
        data = folder / ("tones" if method == "cpc-audio" else "noise.npz")
        arguments = [*tiny(method, data), "--epochs", "1", "--precision", "float32", "--workers", "0"]
        arguments += ["--monitor-every", "0"]
        result = results[method] = {}
        try:
            for place in dict.fromkeys((device, "cpu")):
                run_folder = folder / f"{method}-{place}-{time.time_ns()}"
                losses = recorded_losses([*arguments, "--device", place, "--out", str(run_folder)])
                result[place] = losses[0]
            result["fine"] = math.isclose(result[device], result["cpu"], rel_tol=TOLERANCE)
        except (Exception, SystemExit) as error:  # continue with the next method
            result |= {"fine": False, "error": f"{type(error).__name__}: {error}"}
        (out / "steps.json").write_text(json.dumps(results, indent=1) + "\n")
        print(method, result, flush=True)
    bad = [method for method, result in results.items() if not result["fine"]]
    return fail(f"losses missing or unlike the CPU's: {', '.join(bad)}") if bad else 0


def bench(device: str, dtype: str, preset: str, op: str | None, file: Path) -> int:
    """The measurements of `contrastkit bench-kernels --json`, written row by row: a time limit loses only the rest."""
    from contrastkit.bench import run as measured

    rows = []
    for row in measured(op=op, device=device, dtype=dtype, preset=preset):
        rows.append(row)
        file.write_text(json.dumps(rows, indent=1) + "\n")
        print(row["op"], row["shape"], row["direction"], row["impl"], row["median_ms"], row["note"], flush=True)
    return 0


def train(device: str, out: Path, data_dir: Path | None, minutes: float, stop_after: int | None) -> int:
    """Train until the end, or until the minutes are over: then the training gets a SIGTERM and saves a checkpoint."""
    link_cli()
    from contrastkit.run import Run

    folder = out / "moco-resnet18-cifar10"
    arguments = ["--resume", str(folder)]
    if not Run.exists(folder):
        if data_dir is None:
            return fail("no run to resume: give the directory of CIFAR-10 (make gpu-train DATA=DIR)")
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
        return fail("the training did not stop in time; its last checkpoint remains valid")


def link_cli() -> None:
    """Make contrastkit.cli, whose folder is cli/, importable in a checkout that is not installed."""
    import contrastkit

    if importlib.util.find_spec("contrastkit.cli") is None:
        (Path(contrastkit.__file__).parent / "cli").symlink_to(Path("..") / "cli")


def fail(message: str) -> int:
    print(f"gpu: {message}", file=sys.stderr)
    return 2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "what", choices=("check", "train", "steps", "bench"), help="check or train, or one piece of check"
    )
    parser.add_argument("--out", type=Path, default=Path("build/gpu"))
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--skip", nargs="*", default=[], metavar="PIECE")
    parser.add_argument("--methods", nargs="*", default=[], metavar="METHOD", help="for steps: only these methods")
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--data-dir", type=lambda text: Path(text) if text else None)
    parser.add_argument("--stop-after", type=lambda text: int(text) if text else None, metavar="EPOCHS")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--op")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    out = args.out.resolve()
    if importlib.util.find_spec("torch") is None:
        return fail(f"{sys.executable} has no torch: give a Python that has it (make gpu PYTHON=...)")
    import torch

    if args.device == "cuda" and not torch.cuda.is_available():
        return fail(f"torch {torch.__version__} has no CUDA device; to test this script on the CPU, set DEVICE=cpu")
    if args.what == "check":
        return check(args.device, out, args.skip, args.minutes)
    if args.what == "train":
        return train(args.device, out, args.data_dir, args.minutes, args.stop_after)
    if args.what == "steps":
        return steps(args.device, out, args.methods)
    return bench(args.device, args.dtype, args.preset, args.op, args.json)


if __name__ == "__main__":
    sys.exit(main())
