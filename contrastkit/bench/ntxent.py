"""SimCLR's loss, compared with its official code, torch.compile and lightly."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastkit import ops
from contrastkit.bench.case import Case, Loss, Losses, compiled, linear_cross_entropy, reference, unavailable, unit


def eager(z: Tensor, own: Tensor, tau: float) -> Tensor:
    """simclr/objective.py: the loss of z [2n, C], with the identity [n, n] to mask each row's similarity to itself."""
    (a, b), n = z.chunk(2), len(own)
    labels = torch.arange(n, device=z.device)
    aa, bb = (x @ x.T / tau - own * 1e9 for x in (a, b))
    ab, ba = a @ b.T / tau, b @ a.T / tau
    one = F.cross_entropy(torch.cat([ab, aa], dim=1), labels)
    return (one + F.cross_entropy(torch.cat([ba, bb], dim=1), labels)) / 2


def cases(device: str, dtype: torch.dtype, preset: str) -> Iterator[Case]:
    """SimCLR's loss over a batch of N rows, two views of N / 2 images, and its gradient."""
    tau, C = 0.1, 128
    for N in (1024,) if preset == "quick" else (4096, 8192):
        z = unit(N, C, device=device, dtype=dtype)
        target = (torch.arange(N, device=device) + N // 2) % N
        own = torch.eye(N // 2, device=device)

        def official(z: Tensor, own: Tensor = own) -> Tensor:
            return eager(z, own, tau)

        def plain(z: Tensor = z, N: int = N) -> object:
            loss, lse, _ = reference("ntxent")(z, torch.tensor(tau), N // 2, 0, N)
            g = torch.full_like(loss, 1 / N)
            return reference("ntxent_dz")(g, loss, lse, z, torch.tensor(tau), N // 2, 0, N)

        yield from Losses(
            (z,),
            {
                "eager": official,
                "compile": compiled(official),
                "linear_cross_entropy": linear_cross_entropy((z,), lambda z: [(z, z)], target, 1 / tau),
                "lightly": _lightly_ntxent(tau),
                "ours": lambda z: ops.ntxent(z, tau=tau)[0].mean(),
            },
            {"reference": plain},
            {
                "eager": "four products, cat, cross_entropy",
                "linear_cross_entropy": "rows are classes, a row's own too",
                "lightly": "NTXentLoss",
            },
        ).cases(
            f"N={N} C={C}",
            # Forward: half of the symmetric scores; backward: that half again, and the weighted sum of rows.
            {"bytes": 2 * N * C * z.element_size(), "flop": 1.0 * N * N * C},
            {"bytes": 4 * N * C * z.element_size(), "flop": 4.0 * N * N * C},
        )


def _lightly_ntxent(tau: float) -> Loss:
    try:
        from lightly.loss import NTXentLoss
    except ImportError:
        return unavailable("lightly is not installed")
    module = NTXentLoss(temperature=tau)
    return lambda z: module(*z.float().chunk(2))
