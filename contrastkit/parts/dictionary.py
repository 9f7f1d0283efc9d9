"""Dictionaries that a query is looked up in."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contrastkit import ops


class Queue(nn.Module):
    """The newest K keys, first in, first out (MoCo, Sec. 3.2).

    It starts full of random unit vectors, as the official code does; K need not be a multiple of the batch.

    Attributes:
        keys: [K, C] float32 unit vectors.
        pointer: 0-dim int64, where the next key goes; it stays on the device.
    """

    keys: Tensor
    pointer: Tensor

    def __init__(self, K: int, C: int, generator: torch.Generator) -> None:
        super().__init__()
        first = torch.randn(K, C, generator=generator, device=generator.device)
        self.register_buffer("keys", F.normalize(first, dim=1))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, k: Tensor) -> None:
        """Write unit-length keys [N, C] over the oldest ones."""
        ops.queue_push_(self.keys, self.pointer, k)
