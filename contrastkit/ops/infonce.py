"""InfoNCE over a dictionary of keys (van den Oord et al., Eq. 4; MoCo, Eq. 1).

With s_ij = q_i.k_j / tau over the negatives of row i and s_i+ = q_i.p_i / tau,

    L_i    = logsumexp_j s_ij                          O_i = sum_j softmax(s_i)_j k_j    (attention with values = keys)
    loss_i = softplus(L_i - s_i+)                      w_i = sigmoid(L_i - s_i+) = 1 - P(positive)
    dq_i   = w_i (O_i - p_i) / tau                     dp_i = -w_i q_i / tau
    dtau_i = -q_i.dq_i / tau                           dk_j = sum_i P_ij q_i / tau

so forward yields every gradient except that of the keys at the cost of one more product; the keys' gradient is a second
op, called only if needed.
"""

from typing import Any

import torch
from torch import Tensor

from contrastkit.ops.library import (
    FLOATING,
    INT64,
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

_MASKS = "Tensor? exclude, Tensor? n_valid, Tensor? query_ids, Tensor? key_ids"
LIBRARY.define(
    f"infonce(Tensor query, Tensor positive, Tensor keys, Tensor tau, {_MASKS}, bool with_dquery)"
    " -> (Tensor loss, Tensor lse, Tensor top1, Tensor dquery)"
)
LIBRARY.define(f"infonce_dkeys(Tensor g, Tensor lse, Tensor query, Tensor keys, Tensor tau, {_MASKS}) -> Tensor")


def infonce(
    query: Tensor,
    positive: Tensor,
    keys: Tensor,
    *,
    tau: float | Tensor,
    exclude: Tensor | None = None,
    n_valid: Tensor | None = None,
    ids: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """-log softmax of each query's positive among its positive and the keys (MoCo, Eq. 1).

        loss_i = -q_i.p_i/tau + log( exp(q_i.p_i/tau) + sum over keys j not masked of exp(q_i.k_j/tau) )

    Dtypes may differ; accumulation and all results are in float32 (float64 if any input is), under autocast too.
    Gradients flow from loss to query, positive, keys and tau, and only required ones are computed; second derivatives
    are not supported. A row without negatives has loss 0 and gradient 0.

    Args:
        query: [N, C] floating, usually of unit length; nothing is normalised here.
        positive: [N, C], the matching key of each query.
        keys: [K, C], the negatives. K = 0 is allowed.
        tau: temperature, above 0 (a tensor is not checked, to avoid a synchronisation); a 0-dim tensor may require a
            gradient.
        exclude: int64 [N, E], keys that are not negatives of row i; pad with any invalid index, such as -1.
        n_valid: 0-dim int64: only the first n_valid keys count; the values of the others do not matter.
        ids: int64 (query_ids [N], key_ids [K]); keys with the id of a query are not its negatives.

    Returns:
        loss [N]; lse [N], the logarithm of the sum above; top1 [N] bool, whether the positive's logit is at least every
        negative's (true for ties and for rows without negatives, false for NaN). lse and top1 carry no gradient. Only
        the CPU kernels guarantee that a negative equal to the positive ties with it, by rounding both alike.

    Raises:
        ValueError: shapes, dtypes or devices do not match, or tau <= 0.

    Sources: CPC, https://arxiv.org/abs/1807.03748, Eq. 4; MoCo, https://arxiv.org/abs/1911.05722, Eq. 1.
    """
    tau = temperature("infonce", tau, query.device)
    refuse_forward_mode("infonce", query, positive, keys, tau)
    query_ids, key_ids = ids or (None, None)
    with_dquery = torch.is_grad_enabled() and (query.requires_grad or tau.requires_grad)
    loss, lse, top1, _ = torch.ops.contrastkit.infonce(
        query, positive, keys, tau, exclude, n_valid, query_ids, key_ids, with_dquery
    )
    return loss, lse, top1


def _check(
    op: str,
    query: Tensor,
    keys: Tensor,
    tau: Tensor,
    exclude: Tensor | None,
    n_valid: Tensor | None,
    query_ids: Tensor | None,
    key_ids: Tensor | None,
) -> None:
    """What both ops share. The kernels check by themselves (csrc/infonce.h)."""
    device = query.device
    check(op, "query", query, FLOATING, ("N", "C"), device)
    N, C = query.shape
    check(op, "keys", keys, FLOATING, ("K", C), device)
    temperature(op, tau, device)
    check(op, "exclude", exclude, INT64, (N, "E"), device)
    check(op, "n_valid", n_valid, INT64, (), device)
    check(op, "query_ids", query_ids, INT64, (N,), device)
    check(op, "key_ids", key_ids, INT64, (len(keys),), device)
    if (query_ids is None) != (key_ids is None):
        raise ValueError(f"{op}: query_ids and key_ids come together")


def _check_infonce(query: Tensor, positive: Tensor, keys: Tensor, tau: Tensor, *masks: Any) -> None:
    _check("infonce", query, keys, tau, *masks)
    check("infonce", "positive", positive, FLOATING, query.shape, query.device)


def _check_dkeys(g: Tensor, lse: Tensor, query: Tensor, keys: Tensor, tau: Tensor, *masks: Any) -> None:
    _check("infonce_dkeys", query, keys, tau, *masks)
    check("infonce_dkeys", "g", g, FLOATING, query.shape[:1], query.device)
    check("infonce_dkeys", "lse", lse, WIDE, query.shape[:1], query.device)


def _logits(
    q: Tensor,  # [n, C], over tau
    k: Tensor,
    rows: slice,
    exclude: Tensor | None,
    n_valid: Tensor | None,
    query_ids: Tensor | None,
    key_ids: Tensor | None,
) -> Tensor:
    """The block [n, K] of s, minus infinity where a key is not a negative."""
    s = q @ k.T
    if exclude is not None and exclude.numel() and s.shape[1]:
        columns = exclude[rows]
        inside = columns.clamp(0, s.shape[1] - 1)
        # The minimum with -inf, or with +inf for padding: unlike a plain scatter, independent of the order of writes.
        bound = torch.where(columns == inside, -torch.inf, torch.inf).to(s.dtype)
        s.scatter_reduce_(1, inside, bound, "amin")
    if n_valid is not None:
        s.masked_fill_(torch.arange(s.shape[1], device=s.device) >= n_valid, -torch.inf)
    if query_ids is not None and key_ids is not None:
        s.masked_fill_(query_ids[rows, None] == key_ids, -torch.inf)
    return s


@torch.library.impl(LIBRARY, "infonce", "CompositeExplicitAutograd")
def _reference(
    query: Tensor,
    positive: Tensor,
    keys: Tensor,
    tau: Tensor,
    exclude: Tensor | None,
    n_valid: Tensor | None,
    query_ids: Tensor | None,
    key_ids: Tensor | None,
    with_dquery: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    _check_infonce(query, positive, keys, tau, exclude, n_valid, query_ids, key_ids)
    N, K = len(query), len(keys)
    dtype = accumulator(query, positive, keys)
    with torch.autocast(query.device.type, enabled=False):
        tau = tau.to(dtype)
        q, p, k = query.to(dtype) / tau, positive.to(dtype), keys.to(dtype)
        if n_valid is not None:  # the other keys may be anything, and 0 times NaN is NaN
            k = k.masked_fill(torch.arange(K, device=k.device)[:, None] >= n_valid, 0)
        s_positive = (q * p).sum(1)
        L, top = s_positive.new_empty(N), s_positive.new_empty(N)
        O = q.new_empty(q.shape if with_dquery else (0,))  # noqa: E741 (the output of attention)
        for rows in blocks(N, K, query.device):
            s = _logits(q[rows], k, rows, exclude, n_valid, query_ids, key_ids)
            top[rows] = s.amax(1) if K else -torch.inf
            m = top[rows].clamp(min=torch.finfo(dtype).min)  # finite even if every key is masked
            e = s.sub_(m[:, None]).exp_()
            z = e.sum(1)
            L[rows] = m + z.log()
            if with_dquery:
                torch.mm(e, k, out=O[rows]).div_(z.clamp(min=torch.finfo(dtype).tiny)[:, None])
        x = L - s_positive
        loss = softplus(x)
        dquery = O.sub_(p).mul_((torch.sigmoid(x) / tau)[:, None]) if with_dquery else O
        return loss, s_positive + loss, s_positive >= top, dquery


@torch.library.register_fake("contrastkit::infonce", lib=LIBRARY)
def _fake(
    query: Tensor, positive: Tensor, keys: Tensor, tau: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    *masks, with_dquery = rest
    _check_infonce(query, positive, keys, tau, *masks)
    row = query.new_empty(query.shape[0], dtype=accumulator(query, positive, keys))
    dquery = row.new_empty(query.shape if with_dquery else (0,))
    return row, torch.empty_like(row), torch.empty_like(row, dtype=torch.bool), dquery


@torch.library.impl(LIBRARY, "infonce_dkeys", "CompositeExplicitAutograd")
def _dkeys_reference(
    g: Tensor,
    lse: Tensor,
    query: Tensor,
    keys: Tensor,
    tau: Tensor,
    exclude: Tensor | None,
    n_valid: Tensor | None,
    query_ids: Tensor | None,
    key_ids: Tensor | None,
) -> Tensor:
    """sum_i g_i P_ij q_i / tau, with P rebuilt from the log-sum-exp: [K, C] in the accumulator's dtype."""
    _check_dkeys(g, lse, query, keys, tau, exclude, n_valid, query_ids, key_ids)
    with torch.autocast(query.device.type, enabled=False):
        q, k = query.to(lse.dtype) / tau.to(lse.dtype), keys.to(lse.dtype)
        gq = g[:, None] * q
        dkeys = k.new_zeros(k.shape)
        for rows in blocks(len(q), len(k), query.device):
            s = _logits(q[rows], k, rows, exclude, n_valid, query_ids, key_ids)
            dkeys.addmm_(s.sub_(lse[rows, None]).exp_().T, gq[rows])
        return dkeys


@torch.library.register_fake("contrastkit::infonce_dkeys", lib=LIBRARY)
def _dkeys_fake(g: Tensor, lse: Tensor, query: Tensor, keys: Tensor, tau: Tensor, *masks: Any) -> Tensor:
    _check_dkeys(g, lse, query, keys, tau, *masks)
    return keys.new_empty(keys.shape, dtype=lse.dtype)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    query, positive, keys, tau, *masks, _ = inputs
    loss, lse, top1, dquery = output
    ctx.mark_non_differentiable(lse, top1, dquery)
    need_query, need_positive, need_keys, need_tau = ctx.needs_input_grad[:4]
    # Saved only if a gradient needs it: MoCo's queue needs none, and may be overwritten before backward.
    ctx.save_for_backward(
        dquery,
        loss if need_positive else None,
        lse if need_keys else None,
        query,
        positive if need_positive else None,
        keys if need_keys else None,
        tau,
        *(masks if need_keys else [None] * 4),
    )
    ctx.dtypes = [t.dtype for t in (query, positive, keys, tau)]
    ctx.tau_device = tau.device


@once_differentiable
def _backward(ctx: Any, saved: Any, g: Tensor) -> Gradients:
    dquery, loss, lse, query, _, keys, tau, *masks = saved
    need_query, need_positive, need_keys, need_tau = ctx.needs_input_grad[:4]
    dtypes = ctx.dtypes
    d_query = d_positive = d_keys = d_tau = None
    if need_query:
        d_query = (g[:, None] * dquery).to(dtypes[0])
    if need_positive:
        w = -torch.expm1(-loss)  # 1 - P(positive)
        d_positive = ((g * -w / tau)[:, None] * query).to(dtypes[1])
    if need_keys:
        d_keys = torch.ops.contrastkit.infonce_dkeys(g, lse, query, keys, tau, *masks).to(dtypes[2])
    if need_tau:
        d_tau = -(g * (query * dquery).sum(1)).sum() / tau
        d_tau = d_tau.to(dtype=dtypes[3], device=ctx.tau_device)
    return d_query, d_positive, d_keys, d_tau, None, None, None, None, None


torch.library.register_autograd("contrastkit::infonce", _backward, setup_context=_setup_context, lib=LIBRARY)
