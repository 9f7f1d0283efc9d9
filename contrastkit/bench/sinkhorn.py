"""SwAV's codes, compared with its official code, torch.compile and lightly."""

import functools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from contrastkit import ops
from contrastkit.bench.case import Case, compiled, reference, unavailable, unit


def eager(scores: Tensor, epsilon: float) -> Tensor:
    """main_swav.py: codes of scores [N, K], in three iterations."""
    Q = torch.exp(scores.float() / epsilon).t()
    B, K = Q.shape[1], Q.shape[0]
    Q = Q / Q.sum()
    for _ in range(3):
        Q /= Q.sum(dim=1, keepdim=True)
        Q /= K
        Q /= Q.sum(dim=0, keepdim=True)
        Q /= B
    Q *= B
    return Q.t()


def cases(device: str, dtype: torch.dtype, preset: str) -> Iterator[Case]:
    """SwAV's codes in three iterations; scores are of `dtype`."""
    epsilon = 0.05
    for N, K in [(256, 3000)] if preset == "quick" else [(256, 3000), (2048, 3000)]:
        scores = (unit(N, 128, device=device) @ unit(K, 128, device=device).T).to(dtype)

        yield Case(
            f"N={N} K={K}",
            "forward",
            {
                "eager": functools.partial(eager, scores, epsilon),
                "compile": functools.partial(compiled(eager), scores, epsilon),
                "lightly": functools.partial(_lightly_sinkhorn(epsilon), scores),
                "reference": functools.partial(reference("sinkhorn"), scores, epsilon, 3),
                "ours": functools.partial(ops.sinkhorn, scores, epsilon=epsilon, iterations=3),
            },
            {"eager": "exp, then divide the whole matrix seven times"},
            # Read the scores and write E, read E twice, read E and write the codes: each pass needs the previous one.
            bytes=N * K * (scores.element_size() + 5 * 4),
        )


def _lightly_sinkhorn(epsilon: float) -> Callable[[Tensor], Tensor]:
    try:
        from lightly.loss.swav_loss import sinkhorn
    except ImportError:
        return unavailable("lightly is not installed")
    return lambda scores: sinkhorn(scores.float(), iterations=3, epsilon=epsilon)
