"""`python -m benchmarks.input --photos DIR --small DIR --data-dir DIR [--older DIR]`: what `contrastkit bench-input`
measures, on photographs, on images of 224 pixels and on CIFAR-10 in memory, with two threads and with one, and the
memory that a thread needs. Writes benchmarks/results/input.json.

With `--older`, a built checkout of an earlier version (0c1a6b5), its loader is timed on the same images and views, in a
process of its own.
"""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import RESULTS
from contrastkit import ops
from contrastkit.augment import draw, named_views, sizes_of
from contrastkit.augment.apply import arguments, packed
from contrastkit.bench import measure
from contrastkit.bench.input import Sample
from contrastkit.checkpoint import write_text
from contrastkit.data import open_data
from contrastkit.memory import keep_freed_memory

WORK = {  # what is measured: the argument that names the images, the views, and how many images
    "photos, 2 x 224 px": ("photos", "moco-v2", 64),
    "photos, 2 x 224 and 6 x 96 px": ("photos", "swav", 32),
    "photos, 2 x 224 and 8 x 96 px": ("photos", "dino", 32),
    "224 px, 2 x 224 px": ("small", "moco-v2", 64),
    "32 px, 2 x 32 px of MoCo": ("cifar10", "moco-cifar", 512),
    "32 px, 2 x 32 px of SimCLR": ("cifar10", "simclr-cifar", 512),
}
OLDER = """
import statistics, sys, time
from pathlib import Path
import torch
from contrastkit.data import Loader, open_data
from contrastkit.views import VIEWS

data, directory, views, n = sys.argv[1:]
torch.set_num_threads(1)
source = open_data(data, data_dir=Path(directory)).train
def batch():
    next(iter(Loader(source, VIEWS[views], batch=int(n), seed=0).epoch(0)))
def seconds():
    start = time.perf_counter()
    batch()
    return time.perf_counter() - start
batch()
print(statistics.median(seconds() for _ in range(5)))
"""


def of_older(checkout: Path, data: str, directory: Path, views: str, n: int) -> dict[str, Any]:
    """The whole input by the older code."""
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", OLDER, data, str(directory), views, str(n)]
    result = subprocess.run(command, env=environment, cwd=checkout, stdout=subprocess.PIPE, text=True, check=True)
    return {"stage": "whole", "impl": "older", "images_per_second": n / float(result.stdout), "iqr": None, "note": ""}


def threads(sample: Sample) -> float:
    """How many times as fast two threads augment decoded images as one."""
    images = sample.source.fetch(torch.arange(len(sample.source)))
    view = sample.views[0]
    params = draw(view, sizes_of(images), channels=3, seed=0, time=0, index=torch.arange(len(images)), v=0)
    call = arguments(packed(images), params)

    def way(n: int) -> None:
        torch.set_num_threads(n)
        ops.augment(**call)

    seconds = measure.interleaved({"one": lambda: way(1), "two": lambda: way(2)}, "cpu")
    return seconds["one"][0] / seconds["two"][0]


def memory(side: int) -> float:
    """MiB that a thread needs beside images and views, for a view of `side` pixels of a photograph."""
    torch.set_num_threads(1)
    view = replace(named_views("moco-v2")[0], size=side, crop_min=1.0, blur_p=1.0)
    images = torch.zeros(1, 3, 480, 640, dtype=torch.uint8)
    rows = [
        draw(each, sizes_of(images), channels=3, seed=0, time=0, index=torch.arange(1), v=0)
        for each in (replace(view, size=8), view)
    ]
    calls = [arguments(packed(images), params) for params in rows]
    ops.augment(**calls[0])
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _peak()
    ops.augment(**calls[1])
    return _peak() - before - images.shape[1] * side**2 * 4 / 2**20


def _peak() -> float:
    """Largest resident size of this process so far in MiB."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def measured(options: argparse.Namespace) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for work, (where, views, n) in WORK.items():
        data = "cifar10" if where == "cifar10" else str(getattr(options, where).resolve())
        source = open_data(data, data_dir=options.data_dir).train
        sample = Sample.of(source, named_views(views), images=n)
        found = [asdict(speed) for speed in sample.speeds()]
        if options.older:
            found.append(of_older(options.older.resolve(), data, options.data_dir.resolve(), views, n))
        if where != "cifar10" and views == "moco-v2":
            found.append({"stage": "threads", "impl": "ours", "ratio": threads(sample)})
        rows += [{"work": work, **row} for row in found]
        for row in rows[-len(found) :]:
            print(row, flush=True)
    own = subprocess.run([sys.executable, "-m", "benchmarks.input", "--memory"], capture_output=True, check=True)
    return [*rows, {"work": "a view of 224 px", "stage": "memory", "impl": "ours", "mib": float(own.stdout)}]


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("photos", "small", "data-dir", "older"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--memory", action="store_true", help="print it, for a process of its own")
    options = parser.parse_args()
    if options.memory:
        print(memory(224))
        return
    if not (options.photos and options.small and options.data_dir):
        parser.error("give --photos, --small and --data-dir")
    keep_freed_memory()
    write_text(RESULTS / "input.json", json.dumps(measured(options), indent=1) + "\n")


if __name__ == "__main__":
    main()
