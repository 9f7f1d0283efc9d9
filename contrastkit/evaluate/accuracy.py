"""Accuracy and its confidence interval."""

import statistics
from dataclasses import dataclass

import torch
from torch import Tensor

from contrastkit.errors import UserError
from contrastkit.intervals import wilson


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Accuracy over n answers; shares in [0, 1]."""

    top1: float
    top5: float | None  # None for five classes or fewer, where it would always be 1
    n: int
    interval: tuple[float, float]  # top1's 95 % Wilson interval


def accuracy(top1: float, top5: float, n: int, *, n_classes: int) -> Accuracy:
    """An :class:`Accuracy` with its interval, of the shares of n answers whose top one and top five are correct."""
    return Accuracy(top1, top5 if n_classes > 5 else None, n, wilson(top1, n))


def best_classes(scores: Tensor) -> Tensor:
    """The classes of the five highest scores, best first: [..., C] -> int64 [..., min(5, C)].

    Ties are broken by the lower class, so the result does not depend on the sorting of a device.
    """
    return scores.sort(dim=-1, descending=True, stable=True).indices[..., :5]


def hits(best: Tensor, y: Tensor) -> Tensor:
    """Correctness of the top one and the top five: best classes [..., N, 1 to 5], true classes y [N] -> bool
    [..., N, 2]."""
    right = best == y[:, None]
    return torch.stack([right[..., 0], right.any(dim=-1)], dim=-1)


def accuracy_of(best: Tensor, y: Tensor, *, n_classes: int) -> Accuracy:
    """The accuracy of best classes [N, 1 to 5], or the mean over S classifiers of [S, N, 1 to 5], given true classes
    y [N]."""
    top1, top5 = map(statistics.fmean, hits(best, y).double().mean(-2).reshape(-1, 2).T.tolist())
    return accuracy(top1, top5, len(y), n_classes=n_classes)


def of_mean_1(weights: Tensor) -> Tensor:
    """Weights of images, float [N], scaled to mean 1.

    Raises:
        UserError: all are 0.
    """
    if not weights.any():
        raise UserError("all images of a part have weight 0: raise the penalty of the reweighting")
    return weights / weights.mean()


def weighted_mean(values: Tensor, weights: Tensor | None) -> float:
    """The mean of values [N] under the weights of their images, float [N]; None: the plain one.

    Raises:
        UserError: all weights are 0.
    """
    if weights is not None:
        values = values * of_mean_1(weights.double())
    return values.mean().item()
