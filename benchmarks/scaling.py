"""`python -m benchmarks.scaling STEM [--device cpu|cuda]`: time for K, N and B from 2^8 to 2^17.

Writes STEM.png and STEM.json, for contrastkit and official code. Each panel varies one size; the dotted line shows the
theoretical growth (linear, and quadratic in N for NT-Xent). Official code is skipped where one of its matrices would
exceed 1 GiB.
"""

import argparse
import functools
import json
import statistics
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

from contrastkit import ops
from contrastkit.bench.case import unit
from contrastkit.bench.measure import Way, seconds
from contrastkit.checkpoint import write_text, write_with

SIZES = [2**n for n in range(8, 18)]
C = 128
GIB = 2**28  # float32 numbers


def gradient(loss: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> Way:
    leaf = x.requires_grad_()
    return lambda: torch.autograd.grad(loss(leaf), leaf)


def infonce(device: str, N: int, K: int) -> dict[str, Way]:
    q, p, keys = (unit(n, C, device=device) for n in (N, N, K))

    def official(q: torch.Tensor) -> torch.Tensor:
        logits = torch.cat([(q * p).sum(1, keepdim=True), q @ keys.clone().T], dim=1) / 0.2
        return F.cross_entropy(logits, torch.zeros(N, dtype=torch.int64, device=device))

    ways = {"contrastkit": gradient(lambda q: ops.infonce(q, p, keys, tau=0.2)[0].mean(), q)}
    return ways | ({"official": gradient(official, q)} if N * K <= GIB else {})


def ntxent(device: str, N: int) -> dict[str, Way]:
    z = unit(N, C, device=device)

    def official(z: torch.Tensor) -> torch.Tensor:
        s = (z @ z.T / 0.1).masked_fill(torch.eye(N, dtype=torch.bool, device=device), -torch.inf)
        return F.cross_entropy(s, (torch.arange(N, device=device) + N // 2) % N)

    ways = {"contrastkit": gradient(lambda z: ops.ntxent(z, tau=0.1)[0].mean(), z)}
    return ways | ({"official": gradient(official, z)} if N * N <= GIB else {})


def bank(device: str, N: int, draws: int) -> dict[str, Way]:
    M = 200_000
    rows, q, index = (
        unit(M, C, device=device),
        unit(N, C, device=device),
        torch.randint(0, M, (N, draws), device=device),
    )
    Z = torch.tensor(float(M), device=device)

    def official(q: torch.Tensor) -> torch.Tensor:
        P = torch.bmm(rows[index.view(-1)].view(N, draws, C), q[..., None]).squeeze(2).div(0.07).exp() / Z
        noise = draws / M
        return -((P[:, 0] / (P[:, 0] + noise)).log().sum() + (noise / (P[:, 1:] + noise)).log().sum()) / N

    ways = {"contrastkit": gradient(lambda q: ops.bank_loss(q, rows, index, tau=0.07, Z=Z)[0].mean(), q)}
    return ways | ({"official": gradient(official, q)} if N * draws * C <= GIB else {})


def sinkhorn(device: str, N: int) -> dict[str, Way]:
    scores = torch.rand(N, 512, device=device) * 2 - 1

    def official() -> torch.Tensor:
        Q = torch.exp(scores / 0.05).t()
        Q = Q / Q.sum()
        for _ in range(3):
            Q /= Q.sum(dim=1, keepdim=True) * Q.shape[0]
            Q /= Q.sum(dim=0, keepdim=True) * Q.shape[1]
        return (Q * Q.shape[1]).t()

    return {"contrastkit": lambda: ops.sinkhorn(scores), "official": official}


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
    args = parser.parse_args()

    figure, axes = plt.subplots(2, 3, figsize=(12, 7), sharex=True, constrained_layout=True)
    points = []
    for axis, (name, (ways_of, power)) in zip(axes.flat, PANELS.items(), strict=True):
        curves: dict[str, dict[int, float]] = {}
        for size in SIZES:
            for impl, way in ways_of(args.device, size).items():
                curves.setdefault(impl, {})[size] = 1e3 * time_of(way, args.device)
                points.append({"panel": name, "size": size, "impl": impl, "ms": curves[impl][size]})
                print(f"{name}: {size} {impl} {curves[impl][size]:.3g} ms", flush=True)
        for impl, curve in curves.items():
            axis.loglog(list(curve), list(curve.values()), marker="o", markersize=3, label=impl)
        last = curves["contrastkit"][SIZES[-1]]
        axis.loglog(SIZES, [last * (s / SIZES[-1]) ** power for s in SIZES], "k:", linewidth=1, label=f"size^{power}")
        axis.set(title=name, xscale="log")
        axis.set_xticks(SIZES[::3], [f"$2^{{{s.bit_length() - 1}}}$" for s in SIZES[::3]])
        axis.legend()
    figure.supylabel("ms, loss and gradient (sinkhorn: codes)")
    write_with(args.stem.with_suffix(".png"), functools.partial(figure.savefig, format="png", dpi=110))
    write_text(args.stem.with_suffix(".json"), json.dumps(points, indent=1) + "\n")


if __name__ == "__main__":
    main()
