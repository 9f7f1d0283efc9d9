"""Enqueue: the newest keys replace the oldest (MoCo, Sec. 3.1, Algorithm 1)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastkit.ops.library import FLOATING, INT64, LIBRARY, check

LIBRARY.define("queue_push_(Tensor(a!) keys, Tensor(b!) pointer, Tensor x, Tensor(c!)? n_valid, bool normalize) -> ()")


def queue_push_(
    keys: Tensor, pointer: Tensor, x: Tensor, *, n_valid: Tensor | None = None, normalize: bool = False
) -> None:
    """Write a batch over the oldest keys of a ring, in place and without a host synchronisation.

    Row i goes to `keys[(pointer + i) % K]`; then pointer becomes (pointer + N) % K. The batch may have any size: it
    wraps around, and only the last K rows of a larger batch remain. The update is not recorded by autograd.

    Args:
        keys: [K, C], the ring, written in place, any floating dtype (x is rounded to it once).
        pointer: 0-dim int64 on the device of keys, in [0, K); advanced in place.
        x: [N, C], the new keys, any floating dtype; it may be a view of keys.
        n_valid: 0-dim int64 on the device of keys: number of filled keys, becomes min(n_valid + N, K).
        normalize: divide each row by max(its L2 norm, 1e-12) first, in float32 (float64 for float64).

    Raises:
        ValueError: shapes, dtypes or devices do not match.

    Source: MoCo, https://arxiv.org/abs/1911.05722, Algorithm 1 (`enqueue`, `dequeue`).
    """
    with torch.no_grad():
        torch.ops.contrastkit.queue_push_(keys, pointer, x, n_valid, normalize)


def _check(keys: Tensor, pointer: Tensor, x: Tensor, n_valid: Tensor | None) -> None:
    """The kernels check by themselves (csrc/queue.h)."""
    check("queue_push_", "keys", keys, FLOATING, ("K", "C"), keys.device)
    if len(keys) == 0:
        raise ValueError(f"queue_push_: keys must have rows, got {list(keys.shape)}")
    check("queue_push_", "pointer", pointer, INT64, (), keys.device)
    check("queue_push_", "x", x, FLOATING, ("N", keys.shape[1]), keys.device)
    check("queue_push_", "n_valid", n_valid, INT64, (), keys.device)


@torch.library.impl(LIBRARY, "queue_push_", "CompositeExplicitAutograd")
def _reference(keys: Tensor, pointer: Tensor, x: Tensor, n_valid: Tensor | None, normalize: bool) -> None:
    _check(keys, pointer, x, n_valid)
    N, K = len(x), len(keys)
    pointer.remainder_(K)  # first, so that no sum overflows
    rows = (pointer + torch.arange(max(N - K, 0), N, device=keys.device)) % K
    x = x[-K:]
    if normalize:
        x = F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=1)
    keys.index_copy_(0, rows, x.to(keys.dtype, copy=True))  # a copy: x may share memory with keys
    pointer.add_(N).remainder_(K)
    if n_valid is not None:
        n_valid.clamp_(max=K - N).add_(N)


@torch.library.register_fake("contrastkit::queue_push_", lib=LIBRARY)
def _fake(keys: Tensor, pointer: Tensor, x: Tensor, n_valid: Tensor | None, normalize: bool) -> None:
    _check(keys, pointer, x, n_valid)
