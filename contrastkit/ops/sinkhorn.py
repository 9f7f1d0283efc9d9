"""Sinkhorn-Knopp: codes that use every prototype alike (SwAV, Eq. 3).

The official code divides the whole matrix Q in turn, by its prototypes' sums and by its samples' sums. Here Q is never
rewritten. With E_ik = exp((s_ik - top_i) / epsilon) and top_i the largest score of row i, Q's factors are
two vectors, and of them only the prototypes' sums t are kept:

    t_k = sum_i exp((top_i - max top) / epsilon) E_ik
    t_k <- K/N sum_i E_ik / (sum_l E_il / t_l),    iterations - 1 times
    codes_ik = (E_ik / t_k) / (sum_l E_il / t_l)

Constant factors of Q and of a row cancel: a row may be scaled by its own maximum, which only the first sums must undo.
K/N keeps t of one size.
"""

import torch
from torch import Tensor

from contrastkit import dist
from contrastkit.ops.library import LIBRARY, accumulator

LIBRARY.define("sinkhorn(Tensor scores, float epsilon, int iterations) -> Tensor")
# Its three kinds of passes, between which the sums of all ranks are added.
LIBRARY.define("sinkhorn_begin(Tensor scores, float epsilon) -> (Tensor E, Tensor t, Tensor top)")
LIBRARY.define("sinkhorn_sums(Tensor E, Tensor t, float scale) -> Tensor")
LIBRARY.define("sinkhorn_end_(Tensor(a!) E, Tensor t) -> ()")

TINY = 1e-30  # the least sum of a prototype that is divided by: an empty one would make Q infinite


def sinkhorn(scores: Tensor, *, epsilon: float = 0.05, iterations: int = 3, across_ranks: bool = False) -> Tensor:
    """Codes of samples over prototypes, each prototype used alike as far as `iterations` go (SwAV, Eqs. 3 to 5).

    Arithmetic and results are in float32 (float64 for float64), without gradient. Scores may be of any size: nothing
    overflows. A prototype that no sample comes near stays empty.

    Args:
        scores: [N, K] floating, similarity of sample and prototype.
        epsilon: above 0; the smaller, the closer to one prototype a sample.
        iterations: at least 1; 3 in the paper.
        across_ranks: balance over the samples of all ranks, as many on each: one maximum, then K numbers an iteration,
            are reduced.

    Returns:
        [N, K] codes; each row sums to 1.

    Raises:
        ValueError: scores is not a floating matrix, epsilon <= 0 or iterations < 1.

    Sources: SwAV, https://arxiv.org/abs/2006.09882, Sec. 3.1; Cuturi 2013, https://arxiv.org/abs/1306.0895. The result
    is that of the official code's `distributed_sinkhorn` (main_swav.py), which overflows where ours does not.
    """
    if scores.ndim != 2 or not scores.is_floating_point():
        raise ValueError(f"sinkhorn: scores must be floating [N, K], got {scores.dtype}{list(scores.shape)}")
    if not epsilon > 0:
        raise ValueError(f"sinkhorn: epsilon must be above 0, got {epsilon}")
    if iterations < 1:
        raise ValueError(f"sinkhorn: iterations must be at least 1, got {iterations}")
    with torch.no_grad():
        if not across_ranks or dist.world() == 1:
            return torch.ops.contrastkit.sinkhorn(scores, epsilon, iterations)
        E, t, top = torch.ops.contrastkit.sinkhorn_begin(scores, epsilon)
        t = dist.mean(t * torch.exp((top - dist.largest(top)) / epsilon))
        for _ in range(iterations - 1):
            t = dist.mean(torch.ops.contrastkit.sinkhorn_sums(E, t, _scale(E)))
        torch.ops.contrastkit.sinkhorn_end_(E, t)
        return E


@torch.library.impl(LIBRARY, "sinkhorn", "CompositeExplicitAutograd")
def _reference(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    E, t, _ = _begin_reference(scores, epsilon)
    for _ in range(iterations - 1):
        t = _sums_reference(E, t, _scale(E))
    _end_reference(E, t)
    return E


@torch.library.impl(LIBRARY, "sinkhorn_begin", "CompositeExplicitAutograd")
def _begin_reference(scores: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    """E [N, K]; t [K], the first sums of this rank's samples; top (0-dim), the largest score, which they refer to."""
    E = scores.to(accumulator(scores), copy=True)
    if E.numel() == 0:
        return E, E.new_zeros(E.shape[1]), E.new_full((), -torch.inf)
    tops = E.amax(1)
    top = tops.max()
    return E.sub_(tops[:, None]).div_(epsilon).exp_(), torch.exp((tops - top) / epsilon) @ E, top


@torch.library.impl(LIBRARY, "sinkhorn_sums", "CompositeExplicitAutograd")
def _sums_reference(E: Tensor, t: Tensor, scale: float) -> Tensor:
    """The next t [K], of this rank's samples, times scale: K over the number of samples keeps t of one size."""
    return (E @ t.clamp(min=TINY).reciprocal()).reciprocal() @ E * scale


def _scale(E: Tensor) -> float:
    return E.shape[1] / max(E.shape[0], 1)


@torch.library.impl(LIBRARY, "sinkhorn_end_", "CompositeExplicitAutograd")
def _end_reference(E: Tensor, t: Tensor) -> None:
    """E becomes the codes."""
    E.div_(t.clamp(min=TINY))
    E.div_(E.sum(1, keepdim=True))


@torch.library.register_fake("contrastkit::sinkhorn", lib=LIBRARY)
def _fake(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    return torch.empty_like(scores, dtype=accumulator(scores), memory_format=torch.contiguous_format)


@torch.library.register_fake("contrastkit::sinkhorn_begin", lib=LIBRARY)
def _begin_fake(scores: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    E = _fake(scores, epsilon, 1)
    return E, E.new_empty(E.shape[1]), E.new_empty(())


@torch.library.register_fake("contrastkit::sinkhorn_sums", lib=LIBRARY)
def _sums_fake(E: Tensor, t: Tensor, scale: float) -> Tensor:
    return torch.empty_like(t)


@torch.library.register_fake("contrastkit::sinkhorn_end_", lib=LIBRARY)
def _end_fake(E: Tensor, t: Tensor) -> None:
    pass
