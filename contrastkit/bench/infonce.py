"""MoCo's loss, compared with its official code, torch.compile, torch's fused attention and lightly."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastkit import ops
from contrastkit.bench.case import Case, Loss, Losses, compiled, linear_cross_entropy, reference, unavailable, unit


def eager(q: Tensor, p: Tensor, queue: Tensor, labels: Tensor, tau: float) -> Tensor:
    """moco/builder.py and main_moco.py: queries and positives [N, C], the queue [C, K], and labels int64 [N], all 0."""
    positive = torch.einsum("nc,nc->n", [q, p]).unsqueeze(-1)
    negative = torch.einsum("nc,ck->nk", [q, queue.clone().detach()])
    return F.cross_entropy(torch.cat([positive, negative], dim=1) / tau, labels)


def cases(device: str, dtype: torch.dtype, preset: str) -> Iterator[Case]:
    """MoCo's loss against its queue, and the gradient of the query."""
    tau = 0.2
    for N, K, C in [(256, 4096, 128)] if preset == "quick" else [(256, 4096, 128), (256, 65536, 128)]:
        q, p, keys = (unit(n, C, device=device, dtype=dtype) for n in (N, N, K))
        queue = keys.T.contiguous()  # the official code stores [C, K]
        labels = torch.zeros(N, dtype=torch.int64, device=device)

        def official(q: Tensor, p: Tensor = p, queue: Tensor = queue, labels: Tensor = labels) -> Tensor:
            return eager(q, p, queue, labels, tau)

        def ours(q: Tensor, p: Tensor = p, keys: Tensor = keys) -> Tensor:
            return ops.infonce(q, p, keys, tau=tau)[0].mean()

        def plain(q: Tensor = q, p: Tensor = p, keys: Tensor = keys) -> object:
            loss, *_, dq = reference("infonce")(q, p, keys, torch.tensor(tau), None, None, None, None, True)
            return loss.mean(), dq / len(q)

        def sdpa(q: Tensor = q, p: Tensor = p, keys: Tensor = keys) -> tuple[Tensor, Tensor]:
            O, L = _attention(q, keys, 1 / tau)  # noqa: E741
            s = (q.float() * p.float()).sum(1) / tau
            w = torch.sigmoid(L - s)
            return F.softplus(L - s).mean(), (w / (tau * len(q)))[:, None] * (O.float() - p.float())

        classes = torch.cat([p, keys])  # the only way to give each row a positive; those of other rows become negatives
        target = torch.arange(N, device=device)
        yield from Losses(
            (q,),
            {
                "eager": official,
                "compile": compiled(official),
                "linear_cross_entropy": linear_cross_entropy((q,), lambda q, w=classes: [(q, w)], target, 1 / tau),
                "lightly": _lightly_infonce(p, keys, tau),
                "ours": ours,
            },
            {"sdpa": sdpa, "reference": plain},
            {
                "eager": "einsum, clone, cat, cross_entropy",
                "linear_cross_entropy": "positives of other rows are negatives too",
                "lightly": "NTXentLoss with a memory bank, which it also updates",
            },
        ).cases(
            f"N={N} K={K} C={C}",
            # Each key is read once; scores and the weighted sum of keys are 2NKC each.
            {"bytes": (K + 2 * N) * C * q.element_size(), "flop": 2.0 * N * K * C},
            {"bytes": (K + 3 * N) * C * q.element_size(), "flop": 4.0 * N * K * C},
        )


def _attention(q: Tensor, keys: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """softmax(scale q keys^T) keys and the log-sum-exp, by torch's fused attention."""
    Q, K = q[None, None], keys[None, None]
    aten = torch.ops.aten
    if q.device.type == "cpu":
        O, L, *_ = aten._scaled_dot_product_flash_attention_for_cpu(Q, K, K, scale=scale)  # noqa: E741
    elif q.dtype == torch.float32:
        O, L, *_ = aten._scaled_dot_product_efficient_attention(Q, K, K, None, True, scale=scale)  # noqa: E741
    else:
        O, L, *_ = aten._scaled_dot_product_flash_attention(Q, K, K, scale=scale)  # noqa: E741
    return O[0, 0], L[0, 0, : len(q)]


def _lightly_infonce(p: Tensor, keys: Tensor, tau: float) -> Loss:
    try:
        from lightly.loss import NTXentLoss
    except ImportError:
        return unavailable("lightly is not installed")
    module = NTXentLoss(temperature=tau, memory_bank_size=tuple(keys.shape)).to(keys.device)
    module.memory_bank.bank.copy_(keys.T if module.memory_bank.bank.shape != keys.shape else keys)
    return lambda q: module(q.float(), p.float())
