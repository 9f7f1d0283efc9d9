"""`python -m benchmarks.freed_memory [--steps N] [--repeats N]`: steps of SimCLR on a CPU in processes that keep the
memory that they free, as the command line's do, and in others, in turn. Writes benchmarks/results/freed-memory.json:
seconds and processor seconds a step, and the largest memory of each process.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

import torch

from benchmarks import RESULTS
from contrastkit.checkpoint import write_text
from contrastkit.memory import keep_freed_memory
from contrastkit.methods import BuildContext
from contrastkit.methods.rows import rows_of
from contrastkit.training.plan import replaced
from contrastkit.types import Batch

ENCODERS = {"resnet18": 96, "timm:tf_efficientnet_lite0": 96, "tiny": 24}  # and the side of their views


def steps(encoder: str, n: int, *, keep: bool) -> dict[str, Any]:
    """The cost of n steps on noise, after one that is not counted."""
    if keep:
        keep_freed_memory()
    torch.manual_seed(0)
    recipe = replaced({"encoder": encoder, "size": ENCODERS[encoder]})(rows_of("simclr")["small"])
    method = recipe.build(BuildContext(channels=3, size=ENCODERS[encoder], images=1000))
    method.to(memory_format=torch.channels_last)
    optimizer = recipe.build_optimizer(method)
    shape = (recipe.batch, 3, ENCODERS[encoder], ENCODERS[encoder])
    for i in range(n + 1):
        if i == 1:
            wall, processor = time.perf_counter(), time.process_time()
        index = torch.arange(recipe.batch)
        batch = Batch([torch.rand(shape) for _ in range(2)], index, index).to(torch.device("cpu"))
        method(batch, i / n).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"encoder": encoder, "keep": keep, "seconds": wall / n, "processor": processor / n, "mib": round(memory)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # in a process of its own: the encoder, and "keep"
    options = parser.parse_args()
    if options.one:
        encoder, keep = options.one
        print(json.dumps(steps(encoder, options.steps, keep=keep == "keep")))
        return
    rows = []
    for repeat in range(options.repeats):
        for encoder in ENCODERS:
            for keep in ("keep", "return"):
                command = [sys.executable, "-m", "benchmarks.freed_memory", "--steps", str(options.steps)]
                done = subprocess.run([*command, "--one", encoder, keep], check=True, capture_output=True, text=True)
                rows.append({"repeat": repeat, **json.loads(done.stdout)})
                print(rows[-1], flush=True)
    write_text(RESULTS / "freed-memory.json", json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
