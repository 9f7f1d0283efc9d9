"""Counter-based random numbers: a draw is a hash of its address, independent of earlier draws.

Order and augmentations are functions of (seed, epoch, index, view), so they do not depend on the number of workers or
processes, nor on a resume within an epoch. The hash is splitmix64 (Steele, Lea & Flood 2014, "Fast splittable
pseudorandom number generators"), chained over the parts of the address. torch's own generators are neither read nor
advanced.
"""

import torch
from torch import Tensor

# All streams and their addresses. A time is an epoch (from 0), a step (:func:`at_step`), or a step that cannot be
# confused with an epoch (:func:`beside_epochs`).
#
#     order of the data                  permutation   epoch
#     order of the shards                permutation   -1 - epoch
#     MoCo's order of the keys           permutation   beside_epochs
#     augmentations of an image          uniform       epoch           the view's number, from 0
#     augmentations of CPC's patches     uniform       at_step         the patch's number, below 0
#     negatives of a memory bank         uniform       at_step         NEGATIVES
#     drop path (index: the process)     uniform       beside_epochs   DROP_PATH
#     bootstrap samples (index: the unit) uniform      the sample      BOOTSTRAP
#     patches of a memory (index: the patch) uniform   the image       PATCHES
#     augmentation of image and boxes or mask uniform  epoch           JOINT
#     steps of a head on an encoder      uniform       the step        STEPS
#     mixup's lambda of a batch          uniform       at_step         MIXUP
#     noise on a test image              uniform       the strength    CORRUPTION
#     patches that are hidden (MAE)      uniform       at_step         MASKS
#     caption of an image                uniform       epoch           CAPTION
#     StableNet's cosines                uniform       at_step         COSINES (index: the inner step)
#     a held-out part (dataset.split)    permutation   0
#     the monitor's images               permutation   0
#     files looked at in a new folder    permutation   0
#     kNN's examples (seed 0)            permutation   0
#     images within shards (seed -1)     permutation   0
#     images of a memory of patches      permutation   0
#     the embedded digits' test part     permutation   0
#     poses of the embedded digits       uniform       0               0, in the test part 1
#
# The last eight have no time, and the digits and files have seed 0. Where seed and number of images agree, their
# permutation is the order of the first epoch.
NEGATIVES = -1
DROP_PATH = -1
BOOTSTRAP = -2
PATCHES = -3
JOINT = -4
STEPS = -5
MIXUP = -6
CORRUPTION = -7
MASKS = -8
CAPTION = -9
COSINES = -10


def at_step(progress: float) -> int:
    """The time of a step at ``progress`` in [0, 1], unchanged by a resume: int in [0, 2^40]."""
    return int(progress * 2**40)


def beside_epochs(progress: float) -> int:
    """The time of a step if no other part of the address distinguishes it from an epoch: below 0."""
    return -1 - at_step(progress)


_GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # splitmix64's increment; as int64, whose arithmetic wraps
_MIX1 = 0xBF58476D1CE4E5B9 - 2**64
_MIX2 = 0x94D049BB133111EB - 2**64


def uniform(seed: int, time: int, index: Tensor, view: int | Tensor, slots: int) -> Tensor:
    """Uniform draws in [0, 1): float64 [n, slots], row i a function of (seed, time, index[i], view) alone.

    Args:
        time: an epoch, or a step; see the table above.
        index: int64 [n], positions in the data set; the draws are on its device, with the same values on any.
        view: number of the view, one for all or int64 [n]; other streams use numbers below zero.
        slots: draws per sample. Asking for more slots does not change the first ones.
    """
    key = _fold(_fold(_fold(torch.zeros((), dtype=torch.int64), seed), time), view)
    rows = _fold(key, index)
    bits = _fold(rows[:, None], torch.arange(slots, device=index.device))
    return (bits >> 11 & (1 << 53) - 1).double() * 2.0**-53


def beta(seed: int, time: int, view: int, alpha: float) -> float:
    """A draw from Beta(alpha, alpha), by the inverse of its distribution function: a function of (seed, time, view)."""
    from scipy.special import betaincinv  # slow to import

    return float(betaincinv(alpha, alpha, uniform(seed, time, torch.zeros(1, dtype=torch.int64), view, 1).item()))


def generator_seed(seed: int, time: int, index: int, view: int) -> int:
    """A seed for torch's own generator, in [0, 2^53): the draws of code that knows no other become a function of the
    address."""
    return int(uniform(seed, time, torch.tensor([index]), view, 1).item() * 2**53)


def permutation(seed: int, time: int, n: int) -> Tensor:
    """A random order of 0..n-1, int64 [n], a function of (seed, time, n) alone."""
    key = _fold(_fold(torch.ones((), dtype=torch.int64), seed), time)
    return _fold(key, torch.arange(n)).argsort(stable=True)


def _fold(key: Tensor, part: Tensor | int) -> Tensor:
    """Hash one more part of the address into the key."""
    x = key + (torch.as_tensor(part) + 1) * _GOLDEN
    x = (x ^ (x >> 30 & (1 << 34) - 1)) * _MIX1  # the masks make >> of a signed integer a logical shift
    x = (x ^ (x >> 27 & (1 << 37) - 1)) * _MIX2
    return x ^ (x >> 31 & (1 << 33) - 1)
