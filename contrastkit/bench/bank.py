"""InstDisc's loss and the update of its memory bank, compared with its official code."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastkit import ops
from contrastkit.bench.case import Case, Losses, compiled, reference, unit
from contrastkit.bench.measure import Way


def eager(query: Tensor, bank: Tensor, index: Tensor, Z: Tensor, tau: float) -> Tensor:
    """lib/NCEAverage.py and lib/NCECriterion.py: queries [N, C] against the rows ``index`` [N, 1 + m] of a bank [M, C],
    of which the first is the query's own."""
    (N, draws), M = index.shape, len(bank)
    weight = torch.index_select(bank, 0, index.view(-1)).view(N, draws, -1)
    out = torch.bmm(weight.to(query.dtype), query.view(N, -1, 1)).squeeze(2)
    P, noise = out.div(tau).exp() / Z, (draws - 1) / M
    floor = noise + 1e-7
    return -((P[:, 0] / (P[:, 0] + floor)).log().sum() + (noise / (P[:, 1:] + floor)).log().sum()) / N


def cases(device: str, dtype: torch.dtype, preset: str) -> Iterator[Case]:
    """InstDisc's NCE against rows drawn from a bank of dtype, and the gradient of the float32 query."""
    tau, C = 0.07, 128
    N, m, M = (64, 1024, 50_000) if preset == "quick" else (64, 4096, 640_000)
    bank, query = unit(M, C, device=device, dtype=dtype), unit(N, C, device=device)
    index, Z = torch.randint(0, M, (N, 1 + m), device=device), torch.tensor(float(M), device=device)

    def official(query: Tensor) -> Tensor:
        return eager(query, bank, index, Z, tau)

    def plain() -> object:
        tau_ = torch.tensor(tau)
        return reference("bank_loss")(query[:, None], bank[:, None], index, tau_, Z[None], True)

    weights = torch.rand(N, 1 + m, device=device).to(dtype)
    # Each row of the bank is read once: 512 bytes in float32, at a random address.
    work = {"bytes": float(index.numel() * (C * bank.element_size() + 8)), "flop": 2.0 * index.numel() * C}
    yield from Losses(
        (query,),
        {
            "eager": official,
            "compile": compiled(official),
            "ours": lambda query: ops.bank_loss(query, bank, index, tau=tau, Z=Z)[0].mean(),
        },
        {
            "embedding_bag": lambda: F.embedding_bag(index, bank, per_sample_weights=weights, mode="sum"),
            "reference": plain,
        },
        {
            "eager": "index_select, bmm, exp, NCE",
            "embedding_bag": "the weighted sum of the rows alone, with given weights",
        },
    ).cases(f"N={N} draws={1 + m} M={M} C={C}", work, work | {"flop": 2 * work["flop"]})


def update_cases(device: str, dtype: torch.dtype, preset: str) -> Iterator[Case]:
    """Update the rows of the bank that belong to a batch of float32 features."""
    N, M, C, momentum = 256, 50_000 if preset == "quick" else 640_000, 128, 0.5
    bank, x = unit(M, C, device=device, dtype=dtype), unit(N, C, device=device)
    y = torch.randperm(M, device=device)[:N]

    def eager() -> None:
        """lib/NCEAverage.py, end of backward."""
        row = bank.index_select(0, y)
        row = row.mul_(momentum).add_(x.to(dtype) * (1 - momentum))
        bank.index_copy_(0, y, row.div(row.pow(2).sum(1, keepdim=True).pow(0.5)))

    ways: dict[str, Way] = {
        "eager": eager,
        "reference": lambda: reference("bank_update_")(bank, y, x, momentum),
        "ours": lambda: ops.bank_update_(bank, y, x, m=momentum),
    }
    notes = {"eager": "index_select, mul_, add_, norm, div, index_copy_"}
    work = N * C * (x.element_size() + 2 * bank.element_size()) + 8 * N
    yield Case(f"N={N} M={M} C={C}", "forward", ways, notes, bytes=work)
