"""Every number that a refactoring must not change, as JSON: run it in two checkouts and compare the files.

    python -m benchmarks.fingerprint after.json
    python -m benchmarks.fingerprint after.json --against before.json      prints differences; exit code 1 if any

Recorded are the first 20 losses of every method's ``tiny`` recipe and a checksum of the resulting state, the accuracy
of an encoder, and the estimates of ``causal`` and ``stable`` on fixed seeds. Of contrastkit this file uses the command
line alone, so a copy of it also runs in an older checkout. It restarts itself with one thread for OpenMP and OpenBLAS:
the number of threads changes the order of sums, and with it their last bits.
"""

# ruff: noqa: E402 (numpy and torch are imported after the restart)
import argparse
import contextlib
import hashlib
import io
import json
import math
import os
import re
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # read when numpy and torch are imported

if __name__ == "__main__" and not ONE_THREAD.items() <= os.environ.items():
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **ONE_THREAD})

import numpy as np
import torch
from scipy.io import wavfile
from sklearn.datasets import load_digits

from contrastkit.cli import screen
from contrastkit.cli.main import main as contrastkit

BATCHES = 20
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]?\d+)?")  # digits of a name, as in S1, are none
METHODS = (
    "instdisc", "invaspread", "cpc-v1", "cpc-v2", "cmc", "moco-v1", "moco-v2", "simclr-v1", "simclr-v2", "swav", "byol",
    "simsiam", "moco-v3", "dino", "mae", "cpc-audio",
)  # fmt: skip
CAUSAL = (
    "estimate --data lalonde",
    "estimate --data lalonde --estimand ATC",
    "estimate --data lalonde-trial --estimand ATE --error hc1",
    "balance --data lalonde --by ipw",
    "balance --data lalonde --by cbps",
    "balance --data lalonde --by dcb",
    "propensity --data lalonde --model boost --seed 3",
    "match --data lalonde --metric scaled --ratio 5 --out pairs.csv",
    "match --data lalonde --no-replacement --order random --seed 2 --caliper 0.2 --out some.csv",
    "weight --data lalonde --by arb --out weights.csv",
    "refute --data lalonde-trial --draws 20",
    "demo --n 1000",
    "graph 'z -> t; z -> y; t -> y' --treatment t --outcome y",
)
STABLE = (
    "simulate selection --out train.csv --n 1000",
    "simulate selection --r test --seed 100 --n 500 --out test.csv",
    "simulate collinear --rho 0.2,0.8 --n 400 --out pairs.csv",
    "simulate confounded --n 500 --p 20 --out table.csv",
    "reweight --data train.csv --label Y --out rff.csv",
    "reweight --data train.csv --label Y --by dwr --out dwr.csv",
    "reweight --data train.csv --label Y --by srdo --seed 3 --out srdo.csv",
    "fit --data train.csv --label Y --weights rff.csv --alpha 0 --no-intercept --out model.json",
    "evaluate model.json --data test.csv --label Y --environment environment",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--against", type=Path)
    args = parser.parse_args()
    out, against = args.out.resolve(), args.against and args.against.resolve()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        numbers = {**training(), **tables("causal", CAUSAL), **tables("stable", STABLE)}
    out.write_text(json.dumps(numbers, indent=1) + "\n")
    if against is None:
        return 0
    before = json.loads(against.read_text())
    numbers = json.loads(out.read_text())
    differing = [name for name in before if before[name] != numbers.get(name)]
    for name in differing:
        print(f"{name}\n  before {json.dumps(before[name])}\n  after  {json.dumps(numbers.get(name))}")
    print(f"{len(before) - len(differing)} of {len(before)} are the same")
    return 1 if differing else 0


def training() -> dict[str, Any]:
    """Losses, a checksum of the last state and the metrics of each method; kNN, probe and embedding of MoCo v2."""
    digits = load_digits()
    gray = (digits.images / 16 * 255).astype(np.uint8)
    colour = np.stack([gray, 255 - gray, np.roll(gray, 2, axis=2)], axis=1).repeat(4, 2).repeat(4, 3)
    n = BATCHES * batch("moco-v2")
    test = slice(n, n + 200)
    np.savez(
        "digits.npz", images=colour[:n], labels=digits.target[:n], test_images=colour[test],
        test_labels=digits.target[test],
    )  # fmt: skip
    sounds(Path("tones"), BATCHES * batch("cpc-audio"))
    numbers: dict[str, Any] = {}
    for method in METHODS:
        data = Path("tones" if method == "cpc-audio" else "digits.npz")
        options = ["--out", method, "--epochs", "2", "--stop-after", "1", "--device", "cpu"]
        losses = recorded_losses([*tiny(method, data), *options])[:BATCHES]
        state = torch.load(f"{method}/checkpoints/last.pt", weights_only=True)
        rows = [json.loads(line) for line in Path(f"{method}/metrics.jsonl").read_text().splitlines()]
        timed = ("images_per_s", "waiting", "memory_mib", "seconds")
        numbers[method] = {
            "losses": losses,
            "method": checksum(state["method"]),
            "optimizer": checksum(state["optimizer"]),
            "metrics": [{name: value for name, value in row.items() if name not in timed} for row in rows],
        }
    for command in ("knn", "probe"):
        run([command, "moco-v2", "--json", f"{command}.json"])
        numbers[command] = figures(json.loads(Path(f"{command}.json").read_text()))
    run(["embed", "moco-v2", "--out", "features.npz"])
    with np.load("features.npz") as features:
        numbers["embed"] = hashlib.sha256(features["features"].tobytes()).hexdigest()
    return numbers


def batch(method: str) -> int:
    return 16 if method == "cpc-audio" else 32


def tiny(method: str, data: Path) -> list[str]:
    """The command that trains a method's tiny recipe; instdisc and cmc need ``data`` of 128 images or more."""
    command = ["train", method, "--data", str(data), "--encoder", "tiny", "--recipe", "tiny"]
    return [*command, "--batch", str(batch(method)), *(["--K", "128"] if method in ("instdisc", "cmc") else [])]


def sounds(folder: Path, count: int) -> None:
    """Write noisy tones of four pitches, in a folder for each."""
    rng = np.random.default_rng(0)
    for i in range(count):
        pitch = folder / str(i % 4)
        pitch.mkdir(parents=True, exist_ok=True)
        wave = np.sin(np.arange(4800) * 0.05 * (1 + i % 4)) + rng.normal(0, 0.3, 4800)
        wavfile.write(pitch / f"{i}.wav", 8000, (wave * 8000).astype(np.int16))


def recorded_losses(args: list[str]) -> list[float]:
    """The loss of each training step, recorded at its call of ``backward``."""
    losses: list[float] = []
    backward = torch.Tensor.backward

    def recorded(self: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        losses.append(float(self.detach()))
        backward(self, *args, **kwargs)

    torch.Tensor.backward = recorded  # type: ignore[method-assign]
    try:
        run(args)
    finally:
        torch.Tensor.backward = backward  # type: ignore[method-assign]
    return losses


def tables(app: str, commands: tuple[str, ...]) -> dict[str, Any]:
    """Every number that each command prints, in order, and a hash of each file it writes. Words may change."""
    results: dict[str, Any] = {}
    for command in commands:
        results[f"{app} {command}"] = NUMBER.findall(run([app, *shlex.split(command)]))
        for file in re.findall(r"--out (\S+)", command):
            results[f"{app} {file}"] = hashlib.sha256(Path(file).read_bytes()).hexdigest()
    return results


def run(args: list[str]) -> str:
    """Run a command in this process; return what it printed.

    Raises:
        SystemExit: it failed. Exit code 1 is no failure: ``causal balance`` returns it for unbalanced arms.
    """
    printed = io.StringIO()
    screen.console.file = printed
    code = contrastkit(args)
    if code not in (0, 1):
        sys.exit(f"contrastkit {' '.join(args)}: exit code {code}")
    return printed.getvalue()


def figures(value: Any) -> Any:
    """The numbers of a report, without its words."""
    if isinstance(value, dict):
        return {key: figures(item) for key, item in value.items() if key not in ("data", "run")}
    if isinstance(value, list):
        return [figures(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def checksum(state: Any) -> str:
    """Of all tensors and numbers in a nested state, in order."""
    digest = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            digest.update(value.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes() if value.ndim else
                          str(value.item()).encode())  # fmt: skip
        elif isinstance(value, dict):
            for key, item in value.items():
                digest.update(str(key).encode())
                add(item)
        elif isinstance(value, list | tuple):
            for item in value:
                add(item)
        else:
            digest.update(repr(value).encode())

    add(state)
    return digest.hexdigest()[:16]


if __name__ == "__main__":
    sys.exit(main())
