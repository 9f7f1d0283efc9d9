"""`python -m benchmarks.draws`: what drawing CRD's negatives takes, beside the loss that looks them up and its
gradients: 64 images with 16,384 negatives of other classes each, out of 50,000 with two vectors of 128 numbers. Prints
the medians.
"""

import time
from collections.abc import Callable
from statistics import median

import torch
from torch.nn import functional as F

from contrastkit.parts.dictionary import MemoryBank, OtherClasses

M, C, N, K, CLASSES, REPEATS = 50_000, 128, 64, 16_384, 10, 9


def milliseconds(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """The median over some repeats, after one that is not counted."""
    took = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        work()
        took.append(1000 * (time.perf_counter() - began))
    return median(took[1:])


def main() -> None:
    g = torch.Generator().manual_seed(0)
    bank, others = MemoryBank(M, 2, C, generator=g), OtherClasses(torch.arange(M) % CLASSES)
    index = torch.randint(0, M, (N,), generator=g)
    query = F.normalize(torch.randn(N, 2, C, generator=g), dim=2).requires_grad_()
    drawn = bank.draw(index, K, seed=0, progress=0.0, others=others)

    def loss() -> None:
        bank.nce(query, drawn, tau=0.07)[0].sum().backward()

    draws = milliseconds(lambda: bank.draw(index, K, seed=0, progress=0.0, others=others))
    losses = milliseconds(loss)
    print(f"draws {draws:.1f} ms, loss and gradients {losses:.1f} ms: {draws / losses:.2f} of it")


if __name__ == "__main__":
    main()
