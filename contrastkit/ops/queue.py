"""Enqueue: the newest keys replace the oldest (MoCo, Sec. 3.1, Algorithm 1)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastkit.ops.library import LIBRARY

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
    if keys.ndim != 2 or x.ndim != 2 or keys.shape[1] != x.shape[1] or keys.shape[0] == 0:
        raise ValueError(f"queue_push_: keys [K, C] and x [N, C] expected, got {tuple(keys.shape)}, {tuple(x.shape)}")
    if not (keys.is_floating_point() and x.is_floating_point()):
        raise ValueError(f"queue_push_: floating keys and x expected, got {keys.dtype} and {x.dtype}")
    for name, count in (("pointer", pointer), ("n_valid", n_valid)):
        if count is not None and (count.ndim != 0 or count.dtype != torch.int64 or count.device != keys.device):
            raise ValueError(f"queue_push_: {name} must be a 0-dim int64 tensor on {keys.device}")
    if x.device != keys.device:
        raise ValueError(f"queue_push_: x is on {x.device} and keys on {keys.device}")
    with torch.no_grad():
        torch.ops.contrastkit.queue_push_(keys, pointer, x, n_valid, normalize)


@torch.library.impl(LIBRARY, "queue_push_", "CompositeExplicitAutograd")
def _reference(keys: Tensor, pointer: Tensor, x: Tensor, n_valid: Tensor | None, normalize: bool) -> None:
    N, K = len(x), len(keys)
    rows = (pointer + torch.arange(max(N - K, 0), N, device=keys.device)) % K
    x = x[-K:]
    if normalize:
        x = F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=1)
    keys.index_copy_(0, rows, x.to(keys.dtype, copy=True))  # a copy: x may share memory with keys
    pointer.add_(N).remainder_(K)
    if n_valid is not None:
        n_valid.add_(N).clamp_(max=K)


@torch.library.register_fake("contrastkit::queue_push_", lib=LIBRARY)
def _fake(keys: Tensor, pointer: Tensor, x: Tensor, n_valid: Tensor | None, normalize: bool) -> None:
    pass
