"""Intervals by resampling the test images: the bootstrap (Efron 1979), by percentiles."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from contrastkit.rng import BOOTSTRAP, uniform

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Share:
    """A share in [0, 1] and its 95 % interval over the test images; NaN where it is not defined."""

    value: float
    interval: Interval


def resamples(n: int, times: int, seed: int) -> NDArray[np.int64]:
    """``times`` draws of n images out of n with replacement: positions [times, n]."""
    units = torch.arange(n)
    draws = [uniform(seed, k, units, BOOTSTRAP, 1)[:, 0] for k in range(times)]
    return (torch.stack(draws) * n).long().numpy() if draws else np.zeros((0, n), np.int64)


def interval(values: NDArray[np.float64]) -> Interval:
    """The central 95 % of the values of resamples, [times].

    Those where the statistic is not defined (NaN), as without an image of a class, are left out; if there are no
    others, both ends are NaN. The interval accounts for the sampling of the test images, not for the randomness of
    training.
    """
    defined = values[np.isfinite(values)]
    if not len(defined):
        return (math.nan, math.nan)
    low, high = np.quantile(defined, (0.025, 0.975))
    return (float(low), float(high))
