"""`python -m benchmarks.clip_memory`: the memory of CLIP's and SigLIP's losses, forward and backward, beside the
features, on a CPU. Writes benchmarks/results/clip-memory.json: for each implementation and number of pairs, in its own
process, by how much the resident memory peaks above what it was with the features alone; the gradients count.
"""

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import RESULTS
from benchmarks.tables import markdown, results
from contrastkit import bench, ops
from contrastkit.bench.case import gradients
from contrastkit.checkpoint import write_text

DIM = 512
PAIRS = 32_768
SMALL = 8192  # for the others, which are slow, or store the matrix


def linear_cross_entropy(x: Tensor, y: Tensor) -> Tensor:
    options, target = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=256), torch.arange(len(x))
    to_text, to_image = (
        torch.nn.functional.linear_cross_entropy(q / 0.07, k, target, options=options) for q, k in ((x, y), (y, x))
    )
    return (to_text + to_image) / 2


# loss -> implementation -> the loss of x and y, and the pairs it is measured at
LOSSES: dict[str, dict[str, tuple[Callable[[Tensor, Tensor], Tensor], tuple[int, ...]]]] = {
    "clip": {
        "contrastkit": (lambda x, y: ops.clip_loss(x, y, tau=0.07)[0].mean(), (SMALL, PAIRS)),
        "linear_cross_entropy": (linear_cross_entropy, (SMALL,)),
        "as open_clip": (lambda x, y: bench.clip.eager(x, y, 0.07), (SMALL,)),
    },
    "siglip": {
        "contrastkit": (lambda x, y: ops.siglip_loss(x, y, t=10.0, b=-10.0)[0].mean(), (SMALL, PAIRS)),
        "in chunks": (lambda x, y: bench.siglip.chunked(x, y, 10.0, -10.0), (SMALL,)),
        "as open_clip": (lambda x, y: bench.siglip.eager(x, y, 10.0, -10.0), (SMALL,)),
    },
}


def resident() -> int:
    """Bytes of this process that are in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def peak(loss: Callable[[Tensor, Tensor], Tensor], n: int) -> float:
    """MiB above the features; after a call on few pairs, which loads libraries and starts threads."""
    g = torch.Generator().manual_seed(0)

    def features(n: int) -> Tensor:
        x = torch.randn(n, DIM, generator=g)
        return x.div_(x.norm(dim=1, keepdim=True))

    gradients(loss, (features(300), features(300)))
    pair = (features(n), features(n))
    before = resident()
    gradients(loss, pair)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before) / 2**20


def table() -> str:
    """Per implementation, MiB at each number of pairs."""
    rows: list[list[str]] = []
    for loss, ways in LOSSES.items():
        for name in ways:
            mib = {
                row["pairs"]: row["mib"]
                for row in results("clip-memory")
                if (row["loss"], row["implementation"]) == (loss, name)
            }
            rows.append([loss, name, *(f"{mib[n]:,.0f} MiB" if n in mib else "" for n in (SMALL, PAIRS))])
    gradients = [f"{2 * n * DIM * 4 // 2**20:,} MiB" for n in (SMALL, PAIRS)]
    return markdown(
        ("loss", "implementation", f"{SMALL:,} pairs", f"{PAIRS:,} pairs"),
        [*rows, ["", "the gradients alone", *gradients]],
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)  # loss, implementation, pairs
    options = parser.parse_args()
    if options.one:
        loss, name, n = options.one
        print(peak(LOSSES[loss][name][0], int(n)))
        return
    rows = []
    for loss, ways in LOSSES.items():
        for name, (_, sizes) in ways.items():
            for n in sizes:
                command = [sys.executable, "-m", "benchmarks.clip_memory", "--one", loss, name, str(n)]
                mib = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                rows.append({"loss": loss, "implementation": name, "pairs": n, "dim": DIM, "mib": round(mib, 1)})
                print(rows[-1], flush=True)
    write_text(RESULTS / "clip-memory.json", json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
