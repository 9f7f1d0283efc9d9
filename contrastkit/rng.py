"""Counter-based random numbers: a draw is a hash of its address, not of what was drawn before it.

Order and augmentations are functions of (seed, epoch, index, view), so the number of workers and of processes, and a
resume in mid-epoch, leave them alone. The hash is splitmix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom
number generators"), chained over the parts of the address. torch's own generators are neither read nor moved.
"""

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # splitmix64's increment; as int64, whose arithmetic wraps
_MIX1 = 0xBF58476D1CE4E5B9 - 2**64
_MIX2 = 0x94D049BB133111EB - 2**64


def uniform(seed: int, epoch: int, index: Tensor, view: int | Tensor, slots: int) -> Tensor:
    """Uniform draws in [0, 1): float64 [n, slots], row i a function of (seed, epoch, index[i], view) alone.

    Args:
        index: int64 [n], positions in the data set; the draws lie on its device, the same on any.
        view: number of the view, one for all or int64 [n]; any other consumer of draws takes a number below zero.
        slots: draws per sample. Asking for more slots does not change the first ones.
    """
    key = _fold(_fold(_fold(torch.zeros((), dtype=torch.int64), seed), epoch), view)
    rows = _fold(key, index)
    bits = _fold(rows[:, None], torch.arange(slots, device=index.device))
    return (bits >> 11 & (1 << 53) - 1).double() * 2.0**-53


def permutation(seed: int, epoch: int, n: int) -> Tensor:
    """A random order of 0..n-1, int64 [n], a function of (seed, epoch, n) alone."""
    key = _fold(_fold(torch.ones((), dtype=torch.int64), seed), epoch)
    return _fold(key, torch.arange(n)).argsort(stable=True)


def _fold(key: Tensor, part: Tensor | int) -> Tensor:
    """Hash one more part of the address into the key."""
    x = key + (torch.as_tensor(part) + 1) * _GOLDEN
    x = (x ^ (x >> 30 & (1 << 34) - 1)) * _MIX1  # the masks make >> of a signed integer a logical shift
    x = (x ^ (x >> 27 & (1 << 37) - 1)) * _MIX2
    return x ^ (x >> 31 & (1 << 33) - 1)
