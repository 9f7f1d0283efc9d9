"""A memory bank: one vector per image, sampled for negatives (InstDisc, Sec. 3; CMC, Sec. 3.4).

With rows r_ik = bank[index_ik], k = 0 the positive and k = 1, ..., m noise, and s_ik = q_i.r_ik / tau, the loss is

    NCE      softplus(c - s_i0) + sum_k softplus(s_ik - c),  c = log Z + log(m / M)     (InstDisc, Eqs. 4 to 7)
    softmax  logsumexp_k s_ik - s_i0

and its gradient g_ik in s_ik depends on s alone, so each row is read once: dq_i = sum_k g_ik r_ik / tau.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastkit.ops.library import (
    FLOATING,
    INT64,
    LIBRARY,
    Gradients,
    accumulator,
    blocks,
    check,
    check_momentum,
    once_differentiable,
    refuse_forward_mode,
    softplus,
    temperature,
)

LIBRARY.define(
    "bank_loss(Tensor query, Tensor bank, Tensor index, Tensor tau, Tensor? Z, bool with_dquery)"
    " -> (Tensor loss, Tensor lse, Tensor top1, Tensor dquery)"
)
LIBRARY.define("bank_update_(Tensor(a!) bank, Tensor index, Tensor x, float m) -> ()")


def bank_loss(
    query: Tensor, bank: Tensor, index: Tensor, *, tau: float | Tensor, Z: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss of telling a query's own row of the bank from noise rows, by NCE or softmax (InstDisc, Eqs. 4 to 7).

    With V views, query v is compared with slot v of the bank and all views share the draws: CMC's two banks are one
    [M, 2, C], and its query is the other view's features. The drawn rows are not materialised. Accumulation and results
    are in float32 (float64 if an input is). Gradients flow from loss to query and tau, never to the bank; second
    derivatives are not supported.

    Args:
        query: [N, C] or [N, V, C] floating, usually of unit length.
        bank: [M, C] or [M, V, C] floating; bfloat16 halves the time.
        index: int64 [N, 1 + m], rows of the bank: the positive first, then m uniform draws. A draw may repeat or be the
            positive, as in the official code.
        tau: temperature, above 0 (a tensor is not checked, to avoid a synchronisation); a 0-dim tensor may require a
            gradient.
        Z: None for softmax over the 1 + m rows; for NCE the normalising constant, floating [V] (0-dim without V) on
            the bank's device, above 0. A batch estimates it as M exp(lse).mean() / (1 + m).

    Returns:
        loss, lse and top1, each [N] or [N, V]: lse is the logarithm of the sum of exp(s) over all 1 + m rows; top1 is
        bool, whether the positive's logit is at least every other's. lse and top1 carry no gradient.

    Raises:
        ValueError: shapes, dtypes or devices do not match, or tau <= 0.
        IndexError: an index outside the bank (on CUDA a device-side assertion, as in torch).

    Sources: InstDisc, https://arxiv.org/abs/1805.01978, Sec. 3.2; CMC, https://arxiv.org/abs/1906.05849, Sec. 3.4. The
    official codes add 1e-7 to the denominators of NCE's ratios; here the ratios are exact.
    """
    _check_loss(query, bank, index, Z, ("N", "C") if query.ndim < 3 else ("N", "V", "C"))
    tau = temperature("bank_loss", tau, query.device)
    refuse_forward_mode("bank_loss", query, tau)
    with_dquery = torch.is_grad_enabled() and (query.requires_grad or tau.requires_grad)
    if query.ndim == 2:
        query, bank, Z = query[:, None], bank[:, None], None if Z is None else Z[None]
        results = torch.ops.contrastkit.bank_loss(query, bank, index, tau, Z, with_dquery)[:3]
        loss, lse, top1 = (t.squeeze(1) for t in results)
    else:
        loss, lse, top1, _ = torch.ops.contrastkit.bank_loss(query, bank, index, tau, Z, with_dquery)
    return loss, lse, top1


def _check_loss(query: Tensor, bank: Tensor, index: Tensor, Z: Tensor | None, shape: tuple[str, ...]) -> None:
    """The public function's and the op's, whose queries have the shape [N, V, C]; the kernels' is in csrc/bank.h."""
    device = query.device
    check("bank_loss", "query", query, FLOATING, shape, device)
    check("bank_loss", "bank", bank, FLOATING, ("M", *query.shape[1:]), device)
    check("bank_loss", "index", index, INT64, (len(query), "1 + m"), device)
    if index.shape[1] == 0:
        raise ValueError(f"bank_loss: index must have a column of positives, got {list(index.shape)}")
    check("bank_loss", "Z", Z, FLOATING, query.shape[1:-1], device)


@torch.library.impl(LIBRARY, "bank_loss", "CompositeExplicitAutograd")
def _reference(
    query: Tensor, bank: Tensor, index: Tensor, tau: Tensor, Z: Tensor | None, with_dquery: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    _check_loss(query, bank, index, Z, ("N", "V", "C"))
    temperature("bank_loss", tau, query.device)
    N, V, C = query.shape
    m, M = index.shape[1] - 1, len(bank)
    dtype = accumulator(query, bank)
    with torch.autocast(query.device.type, enabled=False):
        tau = tau.to(dtype)
        q = query.to(dtype) / tau
        loss, lse = q.new_empty(N, V), q.new_empty(N, V)
        top1 = torch.empty_like(loss, dtype=torch.bool)
        dquery = q.new_empty(q.shape if with_dquery else (0,))
        for rows in blocks(N, (m + 1) * V * C, query.device):
            drawn = index[rows]
            r = bank.index_select(0, drawn.flatten()).to(dtype).view(*drawn.shape, V, C)
            s = torch.einsum("nvc,nkvc->nvk", q[rows], r)
            lse[rows] = s.logsumexp(2)
            same = (drawn == drawn[:, :1])[:, None]  # the positive ties with itself, whatever the rounding
            top1[rows] = s[..., 0] >= s.masked_fill(same, -math.inf).amax(2)
            if Z is None:
                loss[rows] = lse[rows] - s[..., 0]
                g = (s - lse[rows, :, None]).exp_()
                g[..., 0] = -g[..., 1:].sum(2)  # not P - 1, which cancels
            else:
                x = s - (Z.to(dtype).log() + (math.log(m / M) if m else -math.inf))[:, None]
                x[..., 0].neg_()
                loss[rows] = softplus(x).sum(2)
                g = torch.sigmoid(x)
                g[..., 0].neg_()
            if with_dquery:
                dquery[rows] = torch.einsum("nvk,nkvc->nvc", g, r) / tau
        return loss, lse, top1, dquery


@torch.library.register_fake("contrastkit::bank_loss", lib=LIBRARY)
def _fake(
    query: Tensor, bank: Tensor, index: Tensor, tau: Tensor, Z: Tensor | None, with_dquery: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    _check_loss(query, bank, index, Z, ("N", "V", "C"))
    temperature("bank_loss", tau, query.device)
    row = query.new_empty(query.shape[:2], dtype=accumulator(query, bank))
    dquery = row.new_empty(query.shape if with_dquery else (0,))
    return row, torch.empty_like(row), torch.empty_like(row, dtype=torch.bool), dquery


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    query, bank, index, tau, *_ = inputs
    loss, lse, top1, dquery = output
    ctx.mark_non_differentiable(lse, top1, dquery)
    ctx.save_for_backward(dquery, query, tau)  # not the bank: it is written
    ctx.dtype = query.dtype


@once_differentiable
def _backward(ctx: Any, saved: Any, g: Tensor) -> Gradients:
    dquery, query, tau = saved
    dquery = g[..., None] * dquery
    dtau = None
    if ctx.needs_input_grad[3]:
        dtau = (-(query * dquery).sum() / tau).to(dtype=tau.dtype, device=tau.device)
    return dquery.to(ctx.dtype) if ctx.needs_input_grad[0] else None, None, None, dtau, None, None


torch.library.register_autograd("contrastkit::bank_loss", _backward, setup_context=_setup_context, lib=LIBRARY)


def bank_update_(bank: Tensor, index: Tensor, x: Tensor, *, m: float) -> None:
    """Move rows of the bank towards a batch's features and back to unit length, in place (InstDisc, Sec. 3.3).

    Row y = index_i becomes r / max(|r|, 1e-12) with r = m bank_y + (1 - m) x_i, in float32 (float64 if an input is).
    If an image occurs twice in the batch, the last one counts, and each starts from the row before the call. The update
    is not recorded by autograd.

    Args:
        bank: [M, C] or [M, V, C], written in place, any floating dtype (a row is rounded to it once).
        index: int64 [N], rows of the bank.
        x: [N, C] or [N, V, C] floating.
        m: momentum in [0, 1]; 0.5 in the official code.

    Raises:
        ValueError: shapes, dtypes or devices do not match, or m is outside [0, 1].
        IndexError: an index outside the bank (on CUDA a device-side assertion, as in torch).

    Source: InstDisc, https://arxiv.org/abs/1805.01978, Sec. 3.3; the official code's lib/NCEAverage.py for the norm.
    """
    with torch.no_grad():
        torch.ops.contrastkit.bank_update_(bank, index, x, m)


def _check_update(bank: Tensor, index: Tensor, x: Tensor, m: float) -> None:
    """The kernels check by themselves (csrc/bank.h)."""
    check("bank_update_", "bank", bank, FLOATING, ("M", "C") if bank.ndim < 3 else ("M", "V", "C"), bank.device)
    check("bank_update_", "x", x, FLOATING, ("N", *bank.shape[1:]), bank.device)
    check("bank_update_", "index", index, INT64, (len(x),), bank.device)
    check_momentum("bank_update_", m)


@torch.library.impl(LIBRARY, "bank_update_", "CompositeExplicitAutograd")
def _update_reference(bank: Tensor, index: Tensor, x: Tensor, m: float) -> None:
    _check_update(bank, index, x, m)
    if len(x) == 0:
        return
    dtype = accumulator(bank, x)
    rows = F.normalize(torch.lerp(bank.index_select(0, index).to(dtype), x.to(dtype), 1 - m), dim=-1)
    # index_put_ does not specify which of two equal indices wins, so each of them writes the last one's row.
    last = (index[:, None] == index).to(torch.uint8).cumsum(1).argmax(1)
    bank.index_copy_(0, index, rows[last].to(bank.dtype))


@torch.library.register_fake("contrastkit::bank_update_", lib=LIBRARY)
def _update_fake(bank: Tensor, index: Tensor, x: Tensor, m: float) -> None:
    _check_update(bank, index, x, m)
