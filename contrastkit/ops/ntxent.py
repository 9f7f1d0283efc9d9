"""NT-Xent: every view of a batch is matched with its other view among all others (SimCLR, Eq. 1).

With s_ij = z_i.z_j / tau, p(i) the other view of i, and L_i = logsumexp of s_ij over j other than i and p(i),

    loss_i = softplus(L_i - s_ip)            lse_i = s_ip + loss_i            P_ij = exp(s_ij - lse_i)
    dz_i   = 1/tau [ sum_j (g_i P_ij + g_j P_ji) z_j + (g_i expm1(-loss_i) + g_p expm1(-loss_p)) z_p ]
    dtau   = -sum_i z_i.dz_i / (2 tau)

where g is the gradient of the losses. s is symmetric: a kernel computes one half of it in each direction, 4 N^2 C
operations for both instead of 8. With the log-sum-exps of all ranks, each computes the whole gradient of its own rows.
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
    dtype_name,
    once_differentiable,
    refuse_forward_mode,
    softplus,
    temperature,
)

# Rows come in groups of 2n, one group per rank; losses and gradients are those of rows first, ..., last - 1.
LIBRARY.define("ntxent(Tensor z, Tensor tau, int n, int first, int last) -> (Tensor loss, Tensor lse, Tensor top1)")
LIBRARY.define(
    "ntxent_dz(Tensor g, Tensor loss, Tensor lse, Tensor z, Tensor tau, int n, int first, int last) -> Tensor"
)


def ntxent(z: Tensor, *, tau: float | Tensor, across_ranks: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """-log softmax of each row's other view among all other rows (SimCLR, Eq. 1).

        loss_i = -z_i.z_p/tau + log( sum over j != i of exp(z_i.z_j/tau) ),   p = i + n or i - n

    Accumulation and results are in float32 (float64 for float64), under autocast too. Gradients flow from loss to z and
    tau; second derivatives are not supported. No matrix [2n, 2n] is ever stored.

    Args:
        z: [2n, C] floating, usually of unit length: n images' first views, then their second views.
        tau: temperature, above 0 (a tensor is not checked, to avoid a synchronisation); a 0-dim tensor may require a
            gradient.
        across_ranks: take negatives from every rank's z, all of the same shape. Rows and log-sum-exps are gathered;
            each rank computes the gradient of all ranks' losses with respect to its own z. No gradients are sent, and
            DDP's mean of them over the ranks is the gradient of the mean loss over the ranks.

    Returns:
        loss [2n]; lse [2n], the logarithm of the sum above; top1 [2n] bool, whether the other view's logit is at least
        every negative's. lse and top1 carry no gradient.

    Raises:
        ValueError: z is not [2n, C] and floating, or tau <= 0.

    Source: SimCLR, https://arxiv.org/abs/2002.05709, Eq. 1 and Algorithm 1 (there the mean over all rows).
    """
    if z.ndim != 2 or z.shape[0] % 2 or z.dtype not in FLOATING:  # before the ranks gather their z
        raise ValueError(f"ntxent: z must be floating [2n, C], got {dtype_name(z.dtype)}{list(z.shape)}")
    tau = temperature("ntxent", tau, z.device)
    refuse_forward_mode("ntxent", z, tau)
    if across_ranks and dist.world_size() > 1:
        return _AcrossRanks.apply(z, tau)
    return torch.ops.contrastkit.ntxent(z, tau, z.shape[0] // 2, 0, z.shape[0])


class _AcrossRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, tau: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        ctx.rows = (len(z) // 2, dist.rank() * len(z), (dist.rank() + 1) * len(z))
        everyone = dist.gather(z.detach())
        loss, lse, top1 = torch.ops.contrastkit.ntxent(everyone, tau.detach(), *ctx.rows)
        ctx.mark_non_differentiable(lse, top1)
        ctx.save_for_backward(everyone, loss, lse, tau, z)
        return loss, lse, top1

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, saved: Any, g: Tensor) -> Gradients:
        everyone, loss, lse, tau, _ = saved
        g, loss, lse = dist.gather(torch.stack([g, loss, lse], dim=1)).unbind(1)
        return _gradients(ctx, g, loss, lse, everyone, tau)


def _gradients(ctx: Any, g: Tensor, loss: Tensor, lse: Tensor, z: Tensor, tau: Tensor) -> Gradients:
    """Of z's rows in ctx.rows, and of tau."""
    n, first, last = ctx.rows
    dz = torch.ops.contrastkit.ntxent_dz(g, loss, lse, z, tau, n, first, last)
    dtau = None
    if ctx.needs_input_grad[1]:
        dtau = (-(z[first:last] * dz).sum() / (2 * tau)).to(dtype=tau.dtype, device=tau.device)
    return dz.to(z.dtype) if ctx.needs_input_grad[0] else None, dtau


def _check(op: str, z: Tensor, tau: Tensor, n: int, first: int, last: int) -> None:
    """What both ops share. The kernels check by themselves (csrc/ntxent.h)."""
    check(op, "z", z, FLOATING, ("N", "C"), z.device)
    temperature(op, tau, z.device)
    N = len(z)
    if n < 0 or (N if n == 0 else N % (2 * n)):
        raise ValueError(f"{op}: N must be a multiple of 2n, got z {list(z.shape)} and n = {n}")
    if not 0 <= first <= last <= N:
        raise ValueError(f"{op}: rows {first} to {last} are not z's {list(z.shape)}")


def _check_dz(g: Tensor, loss: Tensor, lse: Tensor, z: Tensor, tau: Tensor, n: int, first: int, last: int) -> None:
    _check("ntxent_dz", z, tau, n, first, last)
    check("ntxent_dz", "g", g, FLOATING, z.shape[:1], z.device)
    check("ntxent_dz", "lse", lse, WIDE, z.shape[:1], z.device)
    check("ntxent_dz", "loss", loss, (lse.dtype,), z.shape[:1], z.device)


def _positives(n: int, first: int, last: int, device: torch.device) -> Tensor:
    row = torch.arange(first, last, device=device)
    return torch.where(row % (2 * n) < n, row + n, row - n)


def _negatives(q: Tensor, k: Tensor, row: Tensor, positive: Tensor) -> Tensor:
    """Logits [rows, N], minus infinity where a row meets itself or its other view."""
    s = q @ k.T
    return s.scatter_(1, torch.stack([row, positive], dim=1), -torch.inf)


@torch.library.impl(LIBRARY, "ntxent", "CompositeExplicitAutograd")
def _reference(z: Tensor, tau: Tensor, n: int, first: int, last: int) -> tuple[Tensor, Tensor, Tensor]:
    _check("ntxent", z, tau, n, first, last)
    with torch.autocast(z.device.type, enabled=False):
        k = z.to(accumulator(z))
        q = k[first:last] / tau.to(k.dtype)
        row, positive = torch.arange(first, last, device=z.device), _positives(n, first, last, z.device)
        s_positive = (q * k[positive]).sum(1)
        L, top = torch.empty_like(s_positive), torch.empty_like(s_positive)
        for rows in blocks(last - first, len(z), z.device):
            s = _negatives(q[rows], k, row[rows], positive[rows])
            top[rows] = s.amax(1)
            m = top[rows].clamp(min=torch.finfo(k.dtype).min)  # finite also without any negative
            L[rows] = m + s.sub_(m[:, None]).exp_().sum(1).log()
        loss = softplus(L - s_positive)
        return loss, s_positive + loss, s_positive >= top


@torch.library.register_fake("contrastkit::ntxent", lib=LIBRARY)
def _fake(z: Tensor, tau: Tensor, n: int, first: int, last: int) -> tuple[Tensor, Tensor, Tensor]:
    _check("ntxent", z, tau, n, first, last)
    row = z.new_empty(last - first, dtype=accumulator(z))
    return row, torch.empty_like(row), torch.empty_like(row, dtype=torch.bool)


@torch.library.impl(LIBRARY, "ntxent_dz", "CompositeExplicitAutograd")
def _dz_reference(
    g: Tensor, loss: Tensor, lse: Tensor, z: Tensor, tau: Tensor, n: int, first: int, last: int
) -> Tensor:
    """The module's dz for rows first, ..., last - 1: [last - first, C] in the accumulator's dtype."""
    _check_dz(g, loss, lse, z, tau, n, first, last)
    with torch.autocast(z.device.type, enabled=False):
        k, tau = z.to(lse.dtype), tau.to(lse.dtype)
        q = k[first:last] / tau
        row, positive = torch.arange(first, last, device=z.device), _positives(n, first, last, z.device)
        w = g * torch.expm1(-loss)
        dz = (w[first:last] + w[positive])[:, None] * k[positive]
        for rows in blocks(last - first, len(z), z.device):
            s = _negatives(q[rows], k, row[rows], positive[rows])
            of_z = slice(first + rows.start, first + rows.stop)
            P = (s - lse[of_z, None]).exp_().mul_(g[of_z, None])
            dz[rows].addmm_(P.add_(s.sub_(lse).exp_().mul_(g)), k)
        return dz.div_(tau)


@torch.library.register_fake("contrastkit::ntxent_dz", lib=LIBRARY)
def _dz_fake(g: Tensor, loss: Tensor, lse: Tensor, z: Tensor, tau: Tensor, n: int, first: int, last: int) -> Tensor:
    _check_dz(g, loss, lse, z, tau, n, first, last)
    return z.new_empty((last - first, z.shape[1]), dtype=lse.dtype)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    z, tau, *ctx.rows = inputs
    loss, lse, top1 = output
    ctx.mark_non_differentiable(lse, top1)
    ctx.save_for_backward(loss, lse, z, tau)


@once_differentiable
def _backward(ctx: Any, saved: Any, g: Tensor) -> Gradients:
    return *_gradients(ctx, g, *saved), None, None, None


torch.library.register_autograd("contrastkit::ntxent", _backward, setup_context=_setup_context, lib=LIBRARY)
