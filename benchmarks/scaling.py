"""`python -m benchmarks.scaling STEM [--device cpu|cuda]`: time for K, N and B from 2^8 to 2^17.

Writes STEM.png and STEM.json, for contrastkit and official code. Each panel varies one size; the dotted line shows the
theoretical growth (linear, and quadratic in N for NT-Xent). Official code is skipped where one of its matrices would
exceed 1 GiB.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from contrastkit import bench, ops
from contrastkit.bench.case import unit
from contrastkit.bench.measure import Way, seconds
from contrastkit.checkpoint import write_text
from contrastkit.figures import SMALL, chart, legend

SIZES = [2**n for n in range(8, 18)]
C = 128
GIB = 2**28  # float32 numbers


def gradient(loss: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> Way:
    leaf = x.requires_grad_()
    return lambda: torch.autograd.grad(loss(leaf), leaf)


def infonce(device: str, N: int, K: int) -> dict[str, Way]:
    q, p, keys = (unit(n, C, device=device) for n in (N, N, K))
    queue, labels = keys.T.contiguous(), torch.zeros(N, dtype=torch.int64, device=device)
    ways = {"contrastkit": gradient(lambda q: ops.infonce(q, p, keys, tau=0.2)[0].mean(), q)}
    if N * K <= GIB:
        ways["official"] = gradient(lambda q: bench.infonce.eager(q, p, queue, labels, 0.2), q)
    return ways


def ntxent(device: str, N: int) -> dict[str, Way]:
    z = unit(N, C, device=device)
    ways = {"contrastkit": gradient(lambda z: ops.ntxent(z, tau=0.1)[0].mean(), z)}
    if N * N // 2 <= GIB:
        own = torch.eye(N // 2, device=device)
        ways["official"] = gradient(lambda z: bench.ntxent.eager(z, own, 0.1), z)
    return ways


def bank(device: str, N: int, draws: int) -> dict[str, Way]:
    M = 200_000
    rows, q, index = (
        unit(M, C, device=device),
        unit(N, C, device=device),
        torch.randint(0, M, (N, draws), device=device),
    )
    Z = torch.tensor(float(M), device=device)
    ways = {"contrastkit": gradient(lambda q: ops.bank_loss(q, rows, index, tau=0.07, Z=Z)[0].mean(), q)}
    if N * draws * C <= GIB:
        ways["official"] = gradient(lambda q: bench.bank.eager(q, rows, index, Z, 0.07), q)
    return ways


def sinkhorn(device: str, N: int) -> dict[str, Way]:
    scores = torch.rand(N, 512, device=device) * 2 - 1
    return {"contrastkit": lambda: ops.sinkhorn(scores), "official": lambda: bench.sinkhorn.eager(scores, 0.05)}


PANELS: dict[str, tuple[Callable[[str, int], dict[str, Way]], int]] = {
    "infonce, 256 queries, K keys": (lambda device, K: infonce(device, 256, K), 1),
    "infonce, B queries, 4096 keys": (lambda device, B: infonce(device, B, 4096), 1),
    "ntxent, N rows": (ntxent, 2),
    "bank, 64 queries, K draws": (lambda device, K: bank(device, 64, K), 1),
    "bank, B queries, 256 draws": (lambda device, B: bank(device, B, 256), 1),
    "sinkhorn, B samples, 512 prototypes": (sinkhorn, 1),
}


def time_of(way: Way, device: str) -> float:
    first = seconds(way, device)
    repeat = max(1, round(2e-3 / first))
    return statistics.median(seconds(way, device, repeat) for _ in range(1 if first > 5 else 5))


def main() -> None:
    parser = argparse.ArgumentParser(description="Time of the ops against size.")
    parser.add_argument("stem", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--chart", action="store_true", help="only draw the chart, of STEM.json")
    args = parser.parse_args()

    points: list[dict[str, Any]] = []
    if args.chart:
        points = json.loads(args.stem.with_suffix(".json").read_text())
    else:
        for name, (ways_of, _) in PANELS.items():
            for size in SIZES:
                for impl, way in ways_of(args.device, size).items():
                    points.append({"panel": name, "size": size, "impl": impl, "ms": 1e3 * time_of(way, args.device)})
                    print("{panel}: {size} {impl} {ms:.3g} ms".format(**points[-1]), flush=True)
        write_text(args.stem.with_suffix(".json"), json.dumps(points, indent=1) + "\n")
    draw(points, args.stem.with_suffix(".png"), args.stem.name)


def draw(points: list[dict[str, Any]], path: Path, machine: str) -> None:
    """A panel for each operator and size."""
    note = (
        f"{machine}. Loss and gradient of one call (sinkhorn: codes), the median of up to 5. Dotted: growth in "
        "proportion to the size, for ntxent to its square. Official code ends where a matrix would exceed 1 GiB."
    )
    with chart(path, "Time of the operators by size", height=5.4, note=note) as figure:
        panels = figure.subplots(2, 3, sharex=True).flat
        for axes, (name, (_, power)) in zip(panels, PANELS.items(), strict=True):
            own = [point for point in points if point["panel"] == name]
            for impl in dict.fromkeys(point["impl"] for point in own):
                curve = [(point["size"], point["ms"]) for point in own if point["impl"] == impl]
                axes.loglog(*zip(*curve, strict=True), marker="o", markersize=3, label=impl)
            last = next(point["ms"] for point in reversed(own) if point["impl"] == "contrastkit")
            axes.loglog(SIZES, [last * (s / SIZES[-1]) ** power for s in SIZES], "k:", linewidth=1)
            axes.set_title(name, fontsize=SMALL)
            axes.set_xticks(SIZES[::3], [f"{s:,}" for s in SIZES[::3]])
            axes.minorticks_off()
            axes.set(xlabel="size", ylabel="ms")
        legend(figure)


if __name__ == "__main__":
    main()
