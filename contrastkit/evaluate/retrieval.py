"""Retrieval: whether what one sense sees of a scene finds what another sees of it."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastkit.errors import UserError

SIMILARITIES = 2**23  # held at once: 64 MiB


@dataclass(frozen=True, slots=True)
class Retrieval:
    """How queries found their partners among n keys; shares in [0, 1]."""

    recall: dict[int, float]  # k -> share of the queries whose partner is among the k nearest keys
    median_rank: float  # of the partner, from 1
    n: int

    def chance(self, k: int) -> float:
        """The recall of guessing."""
        return min(1.0, k / self.n)


@torch.no_grad()
def retrieval(queries: Tensor, keys: Tensor, *, ks: tuple[int, ...] = (1, 5, 10)) -> Retrieval:
    """Rank all keys [n, C] for each query [n, C] by cosine similarity; the i-th key is the i-th query's partner.

    Keys as near as the partner rank before it, so that an encoder which maps everything to one point finds nothing.

    Raises:
        UserError: fewer than two pairs.
    """
    n = len(queries)
    if n < 2:
        raise UserError("retrieval needs at least two pairs to tell apart")
    q, k = F.normalize(queries.double(), dim=1), F.normalize(keys.double(), dim=1)
    ranks = []
    for rows in torch.arange(n).split(max(1, SIMILARITIES // n)):
        s = q[rows] @ k.T
        ranks.append((~(s < s[torch.arange(len(rows)), rows][:, None])).sum(1))  # NaN is nowhere below
    rank = torch.cat(ranks)
    return Retrieval({k: (rank <= k).double().mean().item() for k in ks}, rank.double().quantile(0.5).item(), n)
