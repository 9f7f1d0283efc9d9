"""SigLIP's loss: of a batch of pairs, a logistic regression of which x_i and y_j belong together (Alg. 1).

With u_ij = t x_i.y_j + b, and sums over negatives, which are neither the own partner nor of a pair with the same id,

    loss_i = softplus(-u_ii) + sum_j softplus(u_ij)     slope_i = dloss_i / db = -sigmoid(-u_ii) + sum_j sigmoid(u_ij)

    W_ij = g_i sigmoid(u_ij)                            W_ii = -g_i sigmoid(-u_ii)
    dx_i = t sum_j W_ij y_j     dy_j = t sum_i W_ij x_i     dt = sum_i x_i.dx_i / t     db = sum_i g_i slope_i

where g is the gradient of the losses. The CPU's kernel computes the matrix of u once in each direction, 8 N^2 C
operations in all; CUDA has the reference only. Across ranks, each computes the whole gradient of its own pairs.
"""

from typing import Any

import torch
from torch import Tensor

from contrastkit import dist
from contrastkit.ops.library import (
    FLOATING,
    LIBRARY,
    Gradients,
    accumulator,
    blocks,
    check,
    number,
    once_differentiable,
    refuse_forward_mode,
    softplus,
    temperature,
)
from contrastkit.ops.pairs import check_pairs, negatives

# Losses and gradients are those of pairs first, ..., last - 1.
_PAIRS = "Tensor x, Tensor y, Tensor t, Tensor b, Tensor? ids, int first, int last"
LIBRARY.define(f"siglip_loss({_PAIRS}) -> (Tensor loss, Tensor slope, Tensor top1)")
LIBRARY.define(f"siglip_loss_dxy(Tensor g, {_PAIRS}) -> (Tensor dx, Tensor dy)")


def siglip_loss(
    x: Tensor,
    y: Tensor,
    *,
    t: float | Tensor,
    b: float | Tensor,
    ids: Tensor | None = None,
    across_ranks: bool = False,
) -> tuple[Tensor, Tensor]:
    """-log of the probability that each x belongs to its partner and to no negative; the mean is SigLIP's loss.

        loss_i = -log sigmoid(t x_i.y_i + b) - sum over negatives j of log sigmoid(-t x_i.y_j - b)

    Dtypes may differ; accumulation and results are in float32 (float64 if x or y is), under autocast too. Gradients
    flow from loss to x, y, t and b; second derivatives are not supported. No matrix [n, n] is ever stored.

    Args:
        x, y: [n, C] floating, usually of unit length.
        t: inverse temperature, above 0 (a tensor is not checked, to avoid a synchronisation); a 0-dim tensor may
            require a gradient.
        b: bias; a 0-dim tensor may require a gradient.
        ids: int64 [n]; pairs of one id are no negatives of each other, as where a caption repeats.
        across_ranks: take negatives from every rank's pairs, of which all have as many: rows, ids and the gradients of
            the losses are gathered, and each rank computes the gradient of all ranks' losses with respect to its own x
            and y. DDP's mean of them over the ranks is the gradient of the mean loss over the ranks.

    Returns:
        loss [n]; top1 [n] bool, whether the partner's logit is at least every negative's (true for ties, false for
        NaN), which carries no gradient.

    Raises:
        ValueError: shapes, dtypes or devices do not match, or t <= 0.

    Source: SigLIP, https://arxiv.org/abs/2303.15343, Eq. in Sec. 3.2 and Algorithm 1 (there without ids).
    """
    check_pairs("siglip_loss", x, y, ids)  # before the ranks gather them
    t, b = temperature("siglip_loss", t, x.device, name="t"), number("siglip_loss", "b", b, x.device)
    refuse_forward_mode("siglip_loss", x, y, t, b)
    if across_ranks and dist.world_size() > 1:
        return _AcrossRanks.apply(x, y, t, b, ids)
    loss, _, top1 = torch.ops.contrastkit.siglip_loss(x, y, t, b, ids, 0, len(x))
    return loss, top1


class _AcrossRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, t: Tensor, b: Tensor, ids: Tensor | None) -> tuple[Tensor, Tensor]:
        ctx.pairs = (dist.rank() * len(x), (dist.rank() + 1) * len(x))
        xs, ys, all_ids = dist.gather(x.detach()), dist.gather(y.detach()), None if ids is None else dist.gather(ids)
        loss, slope, top1 = torch.ops.contrastkit.siglip_loss(xs, ys, t.detach(), b.detach(), all_ids, *ctx.pairs)
        ctx.mark_non_differentiable(top1)
        ctx.save_for_backward(slope, xs, ys, t, b, all_ids, x, y)
        return loss, top1

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, saved: Any, g: Tensor) -> Gradients:
        slope, xs, ys, t, b, ids, *_ = saved
        return *_gradients(ctx, dist.gather(g), g, slope, xs, ys, t, b, ids), None


def _gradients(
    ctx: Any,
    g: Tensor,
    own_g: Tensor,
    slope: Tensor,
    x: Tensor,
    y: Tensor,
    t: Tensor,
    b: Tensor,
    ids: Tensor | None,
) -> Gradients:
    """Of the pairs ctx.pairs, and of t and b; own_g and slope are theirs, g is everyone's."""
    first, last = ctx.pairs
    dx, dy = torch.ops.contrastkit.siglip_loss_dxy(g, x, y, t, b, ids, first, last)
    need_x, need_y, need_t, need_b = ctx.needs_input_grad[:4]
    dt = db = None
    if need_t:
        dt = ((x[first:last] * dx).sum() / t).to(dtype=t.dtype, device=t.device)
    if need_b:
        db = (own_g * slope).sum().to(dtype=b.dtype, device=b.device)
    return dx.to(x.dtype) if need_x else None, dy.to(y.dtype) if need_y else None, dt, db


def _check(
    op: str, x: Tensor, y: Tensor, t: Tensor, b: Tensor, ids: Tensor | None, first: int, last: int
) -> torch.dtype:
    """What both ops share; returns the dtype of arithmetic."""
    check_pairs(op, x, y, ids, (first, last))
    temperature(op, t, x.device, name="t")
    number(op, "b", b, x.device)
    return accumulator(x, y)


@torch.library.impl(LIBRARY, "siglip_loss", "CompositeExplicitAutograd")
def _reference(
    x: Tensor, y: Tensor, t: Tensor, b: Tensor, ids: Tensor | None, first: int, last: int
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = _check("siglip_loss", x, y, t, b, ids, first, last)
    with torch.autocast(x.device.type, enabled=False):
        q, k, b = x.to(dtype) * t.to(dtype), y.to(dtype), b.to(dtype)
        u_positive = (q[first:last] * k[first:last]).sum(1) + b
        loss, slope, top = softplus(-u_positive), -torch.sigmoid(-u_positive), torch.empty_like(u_positive)
        for rows in blocks(last - first, len(k), k.device):
            u = negatives(q, k, slice(first + rows.start, first + rows.stop), ids).add_(b)
            top[rows] = u.amax(1)
            loss[rows] += softplus(u).sum(1)
            slope[rows] += u.sigmoid_().sum(1)
        return loss, slope, u_positive >= top


@torch.library.register_fake("contrastkit::siglip_loss", lib=LIBRARY)
def _fake(
    x: Tensor, y: Tensor, t: Tensor, b: Tensor, ids: Tensor | None, first: int, last: int
) -> tuple[Tensor, Tensor, Tensor]:
    loss = x.new_empty(last - first, dtype=_check("siglip_loss", x, y, t, b, ids, first, last))
    return loss, torch.empty_like(loss), torch.empty_like(loss, dtype=torch.bool)


@torch.library.impl(LIBRARY, "siglip_loss_dxy", "CompositeExplicitAutograd")
def _dxy_reference(
    g: Tensor, x: Tensor, y: Tensor, t: Tensor, b: Tensor, ids: Tensor | None, first: int, last: int
) -> tuple[Tensor, Tensor]:
    """The module's dx and dy of pairs first, ..., last - 1: [last - first, C] in the accumulator's dtype."""
    dtype = _check("siglip_loss_dxy", x, y, t, b, ids, first, last)
    check("siglip_loss_dxy", "g", g, FLOATING, x.shape[:1], x.device)
    with torch.autocast(x.device.type, enabled=False):
        g, x, y, t, b = (tensor.to(dtype) for tensor in (g, x, y, t, b))
        N, own = len(x), slice(first, last)
        W_positive = -g[own] * torch.sigmoid(-t * (x[own] * y[own]).sum(1) - b)

        def gradient(q: Tensor, k: Tensor, g: Tensor) -> Tensor:
            """Of q's rows; g [N, N] says whose losses each of them has a part in."""
            q, dq = q * t, W_positive[:, None] * k[own]
            for rows in blocks(last - first, N, k.device):
                of_q = slice(first + rows.start, first + rows.stop)
                dq[rows].addmm_(negatives(q, k, of_q, ids).add_(b).sigmoid_().mul_(g[of_q]), k)
            return dq.mul_(t)

        return gradient(x, y, g[:, None].expand(N, N)), gradient(y, x, g.expand(N, N))


@torch.library.register_fake("contrastkit::siglip_loss_dxy", lib=LIBRARY)
def _dxy_fake(
    g: Tensor, x: Tensor, y: Tensor, t: Tensor, b: Tensor, ids: Tensor | None, first: int, last: int
) -> tuple[Tensor, Tensor]:
    dtype = _check("siglip_loss_dxy", x, y, t, b, ids, first, last)
    check("siglip_loss_dxy", "g", g, FLOATING, x.shape[:1], x.device)
    dx = x.new_empty((last - first, x.shape[1]), dtype=dtype)
    return dx, torch.empty_like(dx)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, y, t, b, ids, *ctx.pairs = inputs
    _, slope, top1 = output
    ctx.mark_non_differentiable(slope, top1)
    ctx.save_for_backward(slope, x, y, t, b, ids)


@once_differentiable
def _backward(ctx: Any, saved: Any, g: Tensor) -> Gradients:
    return *_gradients(ctx, g, g, *saved), None, None, None


torch.library.register_autograd("contrastkit::siglip_loss", _backward, setup_context=_setup_context, lib=LIBRARY)
