"""Sinkhorn-Knopp: codes that use all prototypes equally (SwAV, Eq. 3).

The official code divides the whole matrix Q alternately by the sums of its prototypes and of its samples. Here Q is not
rewritten. With top_k the largest score of prototype k, d_i = max_k (s_ik - top_k) <= 0, and
E_ik = exp((s_ik - top_k - d_i) / epsilon), the factors of Q are two vectors, of which only the prototypes' sums t are
stored:

    t_k = sum_i exp(d_i / epsilon) E_ik
    t_k <- K/N sum_i E_ik / (sum_l E_il / t_l),    iterations - 1 times
    codes_ik = (E_ik / t_k) / (sum_l E_il / t_l)

Factors of a row or a column of Q cancel. No score overflows or underflows in exp, since every row and every column of E
contains a 1, and the first sums undo the shift of the rows. The factor K/N keeps the scale of t.
"""

import torch
from torch import Tensor

from contrastkit import dist
from contrastkit.ops.library import FLOATING, LIBRARY, WIDE, accumulator, check

LIBRARY.define("sinkhorn(Tensor scores, float epsilon, int iterations) -> Tensor")
# Its three kinds of passes, with a reduction over the ranks between them.
LIBRARY.define("sinkhorn_begin(Tensor scores, Tensor tops, float epsilon) -> (Tensor E, Tensor t)")
LIBRARY.define("sinkhorn_sums(Tensor E, Tensor t, float scale) -> Tensor")
LIBRARY.define("sinkhorn_end_(Tensor(a!) E, Tensor t) -> ()")

TINY = 1e-30  # lower bound of a divisor, for prototypes whose scores are all minus infinity


def sinkhorn(scores: Tensor, *, epsilon: float = 0.05, iterations: int = 3, across_ranks: bool = False) -> Tensor:
    """Codes of samples over prototypes, with equal use of the prototypes after enough iterations (SwAV, Eqs. 3 to 5).

    Arithmetic and results are in float32 (float64 for float64), without gradient. Scores may have any magnitude. A
    prototype whose scores are all minus infinity gets no samples; any other gets its share, however distant they are.

    Args:
        scores: [N, K] floating, similarity of sample and prototype.
        epsilon: above 0; smaller values assign a sample more sharply.
        iterations: at least 1; 3 in the paper.
        across_ranks: balance over the samples of all ranks, equally many on each: K numbers are reduced once at the
            start and once per iteration.

    Returns:
        [N, K] codes; each row sums to 1.

    Raises:
        ValueError: scores is not a floating matrix, epsilon <= 0 or iterations < 1.

    Sources: SwAV, https://arxiv.org/abs/2006.09882, Sec. 3.1; Cuturi 2013, https://arxiv.org/abs/1306.0895. The result
    equals that of the official code's `distributed_sinkhorn` (main_swav.py), also where its exp overflows or vanishes.
    """
    _check(scores, epsilon, iterations)  # before the ranks reduce
    with torch.no_grad():
        if not across_ranks or dist.world_size() == 1 or scores.numel() == 0:
            return torch.ops.contrastkit.sinkhorn(scores, epsilon, iterations)
        E, t = torch.ops.contrastkit.sinkhorn_begin(scores, dist.all_reduce_max(_tops(scores)), epsilon)
        t = dist.all_reduce_mean(t)
        for _ in range(iterations - 1):
            t = dist.all_reduce_mean(torch.ops.contrastkit.sinkhorn_sums(E, t, _scale(E)))
        torch.ops.contrastkit.sinkhorn_end_(E, t)
        return E


def _check(scores: Tensor, epsilon: float, iterations: int) -> None:
    """As in csrc/sinkhorn.h, where the kernels check by themselves."""
    _check_scores("sinkhorn", scores, epsilon)
    if iterations < 1:
        raise ValueError(f"sinkhorn: iterations must be at least 1, got {iterations}")


def _check_scores(op: str, scores: Tensor, epsilon: float) -> None:
    check(op, "scores", scores, FLOATING, ("N", "K"), scores.device)
    if not epsilon > 0:
        raise ValueError(f"{op}: epsilon must be above 0, got {epsilon}")


def _check_begin(scores: Tensor, tops: Tensor, epsilon: float) -> None:
    _check_scores("sinkhorn_begin", scores, epsilon)
    check("sinkhorn_begin", "tops", tops, (accumulator(scores),), scores.shape[1:], scores.device)


def _check_codes(op: str, E: Tensor, t: Tensor) -> None:
    check(op, "E", E, WIDE, ("N", "K"), E.device)
    check(op, "t", t, (E.dtype,), E.shape[1:], E.device)


def _tops(scores: Tensor) -> Tensor:
    """The largest score of each prototype [K], finite."""
    dtype = accumulator(scores)
    return scores.amax(0).to(dtype).clamp(min=torch.finfo(dtype).min)


@torch.library.impl(LIBRARY, "sinkhorn", "CompositeExplicitAutograd")
def _reference(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    _check(scores, epsilon, iterations)
    if scores.numel() == 0:
        return scores.new_empty(scores.shape, dtype=accumulator(scores))
    E, t = _begin_reference(scores, _tops(scores), epsilon)
    for _ in range(iterations - 1):
        t = _sums_reference(E, t, _scale(E))
    _end_reference(E, t)
    return E


@torch.library.impl(LIBRARY, "sinkhorn_begin", "CompositeExplicitAutograd")
def _begin_reference(scores: Tensor, tops: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """E [N, K] and t [K], the first sums of this rank's samples; tops [K] are all ranks' largest scores."""
    _check_begin(scores, tops, epsilon)
    E = scores.to(tops.dtype, copy=True, memory_format=torch.contiguous_format).sub_(tops)
    d = E.amax(1)
    E.sub_(d[:, None]).div_(epsilon).exp_()
    return E, torch.exp(d / epsilon) @ E


@torch.library.impl(LIBRARY, "sinkhorn_sums", "CompositeExplicitAutograd")
def _sums_reference(E: Tensor, t: Tensor, scale: float) -> Tensor:
    """The next t [K], of this rank's samples, times scale: K over the number of samples keeps the scale of t."""
    _check_codes("sinkhorn_sums", E, t)
    return (E @ t.clamp(min=TINY).reciprocal()).reciprocal() @ E * scale


def _scale(E: Tensor) -> float:
    return E.shape[1] / max(E.shape[0], 1)


@torch.library.impl(LIBRARY, "sinkhorn_end_", "CompositeExplicitAutograd")
def _end_reference(E: Tensor, t: Tensor) -> None:
    """E becomes the codes."""
    _check_codes("sinkhorn_end_", E, t)
    E.div_(t.clamp(min=TINY))
    E.div_(E.sum(1, keepdim=True))


@torch.library.register_fake("contrastkit::sinkhorn", lib=LIBRARY)
def _fake(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    _check(scores, epsilon, iterations)
    return scores.new_empty(scores.shape, dtype=accumulator(scores))


@torch.library.register_fake("contrastkit::sinkhorn_begin", lib=LIBRARY)
def _begin_fake(scores: Tensor, tops: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    _check_begin(scores, tops, epsilon)
    E = _fake(scores, epsilon, 1)
    return E, E.new_empty(E.shape[1])


@torch.library.register_fake("contrastkit::sinkhorn_sums", lib=LIBRARY)
def _sums_fake(E: Tensor, t: Tensor, scale: float) -> Tensor:
    _check_codes("sinkhorn_sums", E, t)
    return torch.empty_like(t)


@torch.library.register_fake("contrastkit::sinkhorn_end_", lib=LIBRARY)
def _end_fake(E: Tensor, t: Tensor) -> None:
    _check_codes("sinkhorn_end_", E, t)
