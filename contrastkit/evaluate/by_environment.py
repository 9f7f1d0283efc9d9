"""Accuracy in each environment that test images come from: their average, how much they differ, and the worst."""

import statistics
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from contrastkit.intervals import wilson


@dataclass(frozen=True, slots=True)
class EnvironmentResult:
    """The answers to the test images of one environment."""

    n: int  # test images
    top1: float  # share of right answers, in [0, 1]
    interval: tuple[float, float]  # its 95 % Wilson interval, for n images


@dataclass(frozen=True, slots=True)
class ByEnvironment:
    """Shares in [0, 1] over the environments, each of which counts alike, however many images it has."""

    environments: dict[str, EnvironmentResult]
    average: float
    deviation: float  # standard deviation over the environments (divided by n): 0 of a single one
    worst: float

    @classmethod
    def of(cls, environments: dict[str, EnvironmentResult]) -> "ByEnvironment":
        """The summary of these environments, of which there must be one."""
        shares = [each.top1 for each in environments.values()]
        return cls(environments, statistics.fmean(shares), statistics.pstdev(shares), min(shares))


def by_environment(best: Tensor, y: Tensor, environment: NDArray[Any] | None) -> ByEnvironment | None:
    """The accuracy in each environment, in their order; None where none are known.

    Args:
        best: int64 [N], the answers, or [S, N] of S classifiers, whose mean is taken.
        y: int64 [N], the true classes.
        environment: [N], text or numbers.
    """
    if environment is None:
        return None
    right = (best == y).reshape(-1, len(y)).double().mean(0).numpy()
    results = {}
    for value in np.unique(environment).tolist():
        own = right[environment == value]
        top1 = float(own.mean())
        results[str(value)] = EnvironmentResult(len(own), top1, wilson(top1, len(own)))
    return ByEnvironment.of(results)
