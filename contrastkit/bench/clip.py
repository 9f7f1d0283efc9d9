"""CLIP's loss, compared with open_clip's, torch.compile of it and linear_cross_entropy."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastkit import ops
from contrastkit.bench.case import Case, Loss, Losses, compiled, linear_cross_entropy, pairs, reference, unavailable

SIZES = {"quick": (1024,), "paper": (4096, 8192)}


def eager(x: Tensor, y: Tensor, tau: float) -> Tensor:
    """open_clip/loss.py, ClipLoss: the logits of each side, a cross-entropy of each."""
    labels = torch.arange(len(x), device=x.device)
    to_text, to_image = x @ y.T / tau, y @ x.T / tau
    return (F.cross_entropy(to_text, labels) + F.cross_entropy(to_image, labels)) / 2


def cases(device: str, dtype: torch.dtype, preset: str) -> Iterator[Case]:
    """CLIP's loss over a batch of N pairs, and the gradients of both sides."""
    tau, C = 0.07, 512
    for N in SIZES[preset]:
        x, y = pairs(N, C, device=device, dtype=dtype)

        def official(x: Tensor, y: Tensor) -> Tensor:
            return eager(x, y, tau)

        def plain(x: Tensor = x, y: Tensor = y, N: int = N) -> object:
            shared = (x, y, torch.tensor(tau), None, 0, N)
            loss, lse, _ = reference("clip_loss")(*shared)
            return reference("clip_loss_dxy")(torch.full_like(loss, 1 / (2 * N)), loss, lse, *shared)

        yield from Losses(
            (x, y),
            {
                "eager": official,
                "compile": compiled(official),
                "linear_cross_entropy": linear_cross_entropy(
                    (x, y), lambda x, y: [(x, y), (y, x)], torch.arange(N, device=device), 1 / tau
                ),
                "open_clip": _open_clip(tau),
                "ours": lambda x, y: ops.clip_loss(x, y, tau=tau)[0].mean(),
            },
            {"reference": plain},
            {"eager": "two products, two cross_entropy", "linear_cross_entropy": "called for each side"},
        ).cases(
            f"N={N} C={C}",
            # Forward: the scores once; backward: the scores again, and the weighted sums of rows of both sides.
            {"bytes": 2 * N * C * x.element_size(), "flop": 2.0 * N * N * C},
            {"bytes": 4 * N * C * x.element_size(), "flop": 8.0 * N * N * C},
        )


def _open_clip(tau: float) -> Loss:
    try:
        from open_clip.loss import ClipLoss
    except ImportError:
        return unavailable("open_clip is not installed")
    module = ClipLoss()
    return lambda x, y: module(x, y, 1 / tau)
