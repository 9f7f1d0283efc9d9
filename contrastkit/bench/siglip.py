"""SigLIP's loss, compared with open_clip's, whole and in chunks, and torch.compile of it."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from contrastkit import ops
from contrastkit.bench.case import Case, Loss, Losses, compiled, pairs, reference, unavailable
from contrastkit.bench.clip import SIZES

CHUNK = 1024  # texts


def eager(x: Tensor, y: Tensor, t: float, b: float) -> Tensor:
    """open_clip/loss.py, SigLipLoss: log-sigmoids of the logits, labelled 1 on the diagonal and -1 elsewhere."""
    logits = t * x @ y.T + b
    labels = 2 * torch.eye(len(x), device=x.device) - 1
    return -F.logsigmoid(labels * logits).sum() / len(x)


def chunked(x: Tensor, y: Tensor, t: float, b: float) -> Tensor:
    """The same in chunks of texts, each computed again in backward: memory is linear in N."""

    def negatives(x: Tensor, texts: Tensor) -> Tensor:
        return -F.logsigmoid(-(t * x @ texts.T + b)).sum()

    u = t * (x * y).sum(1) + b
    total = (F.logsigmoid(-u) - F.logsigmoid(u)).sum()  # the positive's term instead of a negative's
    for texts in y.split(CHUNK):
        total = total + checkpoint(negatives, x, texts, use_reentrant=False)
    return total / len(x)


def cases(device: str, dtype: torch.dtype, preset: str) -> Iterator[Case]:
    """SigLIP's loss over a batch of N pairs, and the gradients of both sides."""
    t, b, C = 10.0, -10.0, 512
    for N in SIZES[preset]:
        x, y = pairs(N, C, device=device, dtype=dtype)

        def official(x: Tensor, y: Tensor) -> Tensor:
            return eager(x, y, t, b)

        def plain(x: Tensor = x, y: Tensor = y, N: int = N) -> object:
            shared = (x, y, torch.tensor(t), torch.tensor(b), None, 0, N)
            loss, *_ = reference("siglip_loss")(*shared)
            return reference("siglip_loss_dxy")(torch.full_like(loss, 1 / N), *shared)

        yield from Losses(
            (x, y),
            {
                "eager": official,
                "compile": compiled(official),
                "chunked": lambda x, y: chunked(x, y, t, b),
                "open_clip": _open_clip(t, b),
                "ours": lambda x, y: ops.siglip_loss(x, y, t=t, b=b)[0].mean(),
            },
            {"reference": plain},
            {"eager": "product, logsigmoid", "chunked": f"{CHUNK} texts at a time, by checkpoint"},
        ).cases(
            f"N={N} C={C}",
            # As of CLIP's loss.
            {"bytes": 2 * N * C * x.element_size(), "flop": 2.0 * N * N * C},
            {"bytes": 4 * N * C * x.element_size(), "flop": 8.0 * N * N * C},
        )


def _open_clip(t: float, b: float) -> Loss:
    try:
        from open_clip.loss import SigLipLoss
    except ImportError:
        return unavailable("open_clip is not installed")
    module = SigLipLoss()
    return lambda x, y: module(x, y, t, b)
