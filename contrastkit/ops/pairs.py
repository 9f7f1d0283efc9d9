"""What the losses of pairs (x_i, y_i) share, clip_loss and siglip_loss: pair i's own partner is its positive, the
partners of all others are its negatives, but for those of pairs with the same id."""

import torch
from torch import Tensor

from contrastkit.ops.library import FLOATING, INT64, check


def check_pairs(op: str, x: Tensor, y: Tensor, ids: Tensor | None, rows: tuple[int, int] | None = None) -> None:
    """Refuse what does not fit. The kernels check by themselves (csrc/pairs.h)."""
    check(op, "x", x, FLOATING, ("N", "C"), x.device)
    check(op, "y", y, FLOATING, x.shape, x.device)
    check(op, "ids", ids, INT64, x.shape[:1], x.device)
    if rows is not None and not 0 <= rows[0] <= rows[1] <= len(x):
        raise ValueError(f"{op}: rows {rows[0]} to {rows[1]} are not x's {list(x.shape)}")


def negatives(q: Tensor, k: Tensor, rows: slice, ids: Tensor | None) -> Tensor:
    """q k^T of q's rows, [rows, N], minus infinity where k's row is not a negative of q's."""
    s = q[rows] @ k.T
    if ids is not None:
        s.masked_fill_(ids[rows, None] == ids, -torch.inf)
    s.diagonal(rows.start).fill_(-torch.inf)
    return s
