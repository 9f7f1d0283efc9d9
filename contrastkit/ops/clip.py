"""CLIP's loss: of a batch of pairs (x_i, y_i), each x is looked up among the y, and each y among the x (Fig. 3).

With s_ij = x_i.y_j / tau, and sums over negatives, which are neither the own partner nor of a pair with the same id,

    loss_0i = softplus(logsumexp_j s_ij - s_ii)     lse_0i = s_ii + loss_0i     P_ij = exp(s_ij - lse_0i)
    loss_1j = softplus(logsumexp_i s_ij - s_jj)     lse_1j = s_jj + loss_1j     Q_ij = exp(s_ij - lse_1j)

    W_ij = g_0i P_ij + g_1j Q_ij                    W_ii = g_0i expm1(-loss_0i) + g_1i expm1(-loss_1i)
    dx_i = sum_j W_ij y_j / tau                     dy_j = sum_i W_ij x_i / tau         dtau = -sum_i x_i.dx_i / tau

where g is the gradient of the losses. The CPU's kernel computes S once in each direction for both sides, 8 N^2 C
operations in all instead of 12; across ranks, and on CUDA, each side computes it. With the log-sum-exps
of all ranks, each computes the whole gradient of its own pairs.
"""

from typing import Any

import torch
from torch import Tensor

from contrastkit import dist
from contrastkit.ops.library import (
    FLOATING,
    LIBRARY,
    WIDE,
    Gradients,
    accumulator,
    blocks,
    check,
    once_differentiable,
    refuse_forward_mode,
    softplus,
    temperature,
)
from contrastkit.ops.pairs import check_pairs, negatives

# Losses and gradients are those of pairs first, ..., last - 1.
_PAIRS = "Tensor x, Tensor y, Tensor tau, Tensor? ids, int first, int last"
LIBRARY.define(f"clip_loss({_PAIRS}) -> (Tensor loss, Tensor lse, Tensor top1)")
LIBRARY.define(f"clip_loss_dxy(Tensor g, Tensor loss, Tensor lse, {_PAIRS}) -> (Tensor dx, Tensor dy)")


def clip_loss(
    x: Tensor, y: Tensor, *, tau: float | Tensor, ids: Tensor | None = None, across_ranks: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """-log softmax of each x's partner among all y, and of each y's among all x; their mean is CLIP's loss.

        loss_0i = -x_i.y_i/tau + log( exp(x_i.y_i/tau) + sum over negatives j of exp(x_i.y_j/tau) ),  loss_1i likewise

    Dtypes may differ; accumulation and results are in float32 (float64 if any input is), under autocast too. Gradients
    flow from loss to x, y and tau; second derivatives are not supported. No matrix [n, n] is ever stored.

    Args:
        x, y: [n, C] floating, usually of unit length.
        tau: temperature, above 0 (a tensor is not checked, to avoid a synchronisation); a 0-dim tensor may require a
            gradient.
        ids: int64 [n]; pairs of one id are no negatives of each other, as where a caption repeats.
        across_ranks: take negatives from every rank's pairs, of which all have as many. Rows, ids and log-sum-exps are
            gathered; each rank computes the gradient of all ranks' losses with respect to its own x and y. No gradients
            are sent, and DDP's mean of them over the ranks is the gradient of the mean loss over the ranks.

    Returns:
        loss [2, n], first those of x, then those of y; lse [2, n], the logarithms of the sums above; top1 [2, n] bool,
        whether the partner's logit is at least every negative's (true for ties, false for NaN). lse and top1 carry no
        gradient. A pair without negatives has loss 0 and gradient 0.

    Raises:
        ValueError: shapes, dtypes or devices do not match, or tau <= 0.

    Source: CLIP, https://arxiv.org/abs/2103.00020, Fig. 3 (there without ids).
    """
    check_pairs("clip_loss", x, y, ids)  # before the ranks gather them
    tau = temperature("clip_loss", tau, x.device)
    refuse_forward_mode("clip_loss", x, y, tau)
    if across_ranks and dist.world_size() > 1:
        return _AcrossRanks.apply(x, y, tau, ids)
    return torch.ops.contrastkit.clip_loss(x, y, tau, ids, 0, len(x))


class _AcrossRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, tau: Tensor, ids: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        ctx.pairs = (dist.rank() * len(x), (dist.rank() + 1) * len(x))
        xs, ys, all_ids = dist.gather(x.detach()), dist.gather(y.detach()), None if ids is None else dist.gather(ids)
        loss, lse, top1 = torch.ops.contrastkit.clip_loss(xs, ys, tau.detach(), all_ids, *ctx.pairs)
        ctx.mark_non_differentiable(lse, top1)
        ctx.save_for_backward(loss, lse, xs, ys, tau, all_ids, x, y)
        return loss, lse, top1

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, saved: Any, g: Tensor) -> Gradients:
        loss, lse, xs, ys, tau, ids, *_ = saved
        g, loss, lse = dist.gather(torch.cat([g, loss, lse]).T).T.chunk(3)
        return *_gradients(ctx, g, loss, lse, xs, ys, tau, ids), None


def _gradients(
    ctx: Any, g: Tensor, loss: Tensor, lse: Tensor, x: Tensor, y: Tensor, tau: Tensor, ids: Tensor | None
) -> Gradients:
    """Of the pairs ctx.pairs, and of tau."""
    first, last = ctx.pairs
    dx, dy = torch.ops.contrastkit.clip_loss_dxy(g, loss, lse, x, y, tau, ids, first, last)
    need_x, need_y, need_tau = ctx.needs_input_grad[:3]
    dtau = None
    if need_tau:
        dtau = (-(x[first:last] * dx).sum() / tau).to(dtype=tau.dtype, device=tau.device)
    return dx.to(x.dtype) if need_x else None, dy.to(y.dtype) if need_y else None, dtau


def _check_dxy(
    g: Tensor, loss: Tensor, lse: Tensor, x: Tensor, y: Tensor, ids: Tensor | None, first: int, last: int
) -> None:
    check_pairs("clip_loss_dxy", x, y, ids, (first, last))
    shape = (2, len(x))
    check("clip_loss_dxy", "g", g, FLOATING, shape, x.device)
    check("clip_loss_dxy", "lse", lse, WIDE, shape, x.device)
    check("clip_loss_dxy", "loss", loss, (lse.dtype,), shape, x.device)


@torch.library.impl(LIBRARY, "clip_loss", "CompositeExplicitAutograd")
def _reference(
    x: Tensor, y: Tensor, tau: Tensor, ids: Tensor | None, first: int, last: int
) -> tuple[Tensor, Tensor, Tensor]:
    check_pairs("clip_loss", x, y, ids, (first, last))
    temperature("clip_loss", tau, x.device)
    dtype = accumulator(x, y)

    def look_up(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q's rows among those of k."""
        q = q / tau.to(dtype)
        s_positive = (q[first:last] * k[first:last]).sum(1)
        L, top = torch.empty_like(s_positive), torch.empty_like(s_positive)
        for rows in blocks(last - first, len(k), k.device):
            s = negatives(q, k, slice(first + rows.start, first + rows.stop), ids)
            top[rows] = s.amax(1)
            m = top[rows].clamp(min=torch.finfo(dtype).min)  # finite also without any negative
            L[rows] = m + s.sub_(m[:, None]).exp_().sum(1).log()
        loss = softplus(L - s_positive)
        return loss, s_positive + loss, s_positive >= top

    with torch.autocast(x.device.type, enabled=False):
        x, y = x.to(dtype), y.to(dtype)
        loss, lse, top1 = map(torch.stack, zip(look_up(x, y), look_up(y, x), strict=True))
    return loss, lse, top1


@torch.library.register_fake("contrastkit::clip_loss", lib=LIBRARY)
def _fake(
    x: Tensor, y: Tensor, tau: Tensor, ids: Tensor | None, first: int, last: int
) -> tuple[Tensor, Tensor, Tensor]:
    check_pairs("clip_loss", x, y, ids, (first, last))
    temperature("clip_loss", tau, x.device)
    loss = x.new_empty((2, last - first), dtype=accumulator(x, y))
    return loss, torch.empty_like(loss), torch.empty_like(loss, dtype=torch.bool)


@torch.library.impl(LIBRARY, "clip_loss_dxy", "CompositeExplicitAutograd")
def _dxy_reference(
    g: Tensor, loss: Tensor, lse: Tensor, x: Tensor, y: Tensor, tau: Tensor, ids: Tensor | None, first: int, last: int
) -> tuple[Tensor, Tensor]:
    """The module's dx and dy of pairs first, ..., last - 1: [last - first, C] in the accumulator's dtype."""
    _check_dxy(g, loss, lse, x, y, ids, first, last)
    temperature("clip_loss_dxy", tau, x.device)
    with torch.autocast(x.device.type, enabled=False):
        x, y, tau = x.to(lse.dtype), y.to(lse.dtype), tau.to(lse.dtype)
        W_positive = (g * torch.expm1(-loss)).sum(0)

        def gradient(q: Tensor, k: Tensor, own: int) -> Tensor:
            """Of q's rows, whose losses are loss[own]."""
            q, dq = q / tau, W_positive[first:last, None] * k[first:last]
            for rows in blocks(last - first, len(k), k.device):
                of_q = slice(first + rows.start, first + rows.stop)
                s = negatives(q, k, of_q, ids)
                W = (s - lse[own, of_q, None]).exp_().mul_(g[own, of_q, None])
                dq[rows].addmm_(W.add_(s.sub_(lse[1 - own]).exp_().mul_(g[1 - own])), k)
            return dq.div_(tau)

        return gradient(x, y, 0), gradient(y, x, 1)


@torch.library.register_fake("contrastkit::clip_loss_dxy", lib=LIBRARY)
def _dxy_fake(
    g: Tensor, loss: Tensor, lse: Tensor, x: Tensor, y: Tensor, tau: Tensor, ids: Tensor | None, first: int, last: int
) -> tuple[Tensor, Tensor]:
    _check_dxy(g, loss, lse, x, y, ids, first, last)
    temperature("clip_loss_dxy", tau, x.device)
    dx = x.new_empty((last - first, x.shape[1]), dtype=lse.dtype)
    return dx, torch.empty_like(dx)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, y, tau, ids, *ctx.pairs = inputs
    loss, lse, top1 = output
    ctx.mark_non_differentiable(lse, top1)
    ctx.save_for_backward(loss, lse, x, y, tau, ids)


@once_differentiable
def _backward(ctx: Any, saved: Any, g: Tensor) -> Gradients:
    return *_gradients(ctx, g, *saved), None, None, None


torch.library.register_autograd("contrastkit::clip_loss", _backward, setup_context=_setup_context, lib=LIBRARY)
