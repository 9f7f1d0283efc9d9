"""Intersection over union of predicted and true masks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from contrastkit.transfer.masks import IGNORED
from contrastkit.transfer.resampling import Share, interval, resamples

RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class SegmentationScore:
    """How well masks are predicted.

    Attributes:
        miou: mean of ``iou`` over the classes that are in a test mask or predicted somewhere.
        accuracy: share of the pixels whose class is predicted.
        iou: of each class, by name: pixels that have it and are predicted so, of those that have it or are.
        images: number of test images.
    """

    miou: Share
    accuracy: Share
    iou: dict[str, Share]
    images: int


def areas(predicted: Tensor, mask: Tensor, n_classes: int) -> Tensor:
    """Numbers of pixels of one image: int64 [3, n_classes], predicted and true at once, predicted, and true.

    Args:
        predicted, mask: classes, int64 [H, W]; pixels that are :data:`IGNORED` in the mask do not count.
    """
    scored = mask != IGNORED
    p, m = predicted[scored], mask[scored]
    return torch.stack([torch.bincount(each, minlength=n_classes) for each in (p[p == m], p, m)])


def score(areas: Tensor, classes: Sequence[str], *, seed: int = 0, times: int = RESAMPLES) -> SegmentationScore:
    """Scores of a set, from the :func:`areas` of its images [N, 3, C]. Pixels of all images are counted together, as
    VOC does; images are resampled for the intervals."""
    counts = areas.numpy().astype(np.float64)
    draws = resamples(len(counts), times, seed)
    weights = np.stack([np.bincount(draw, minlength=len(counts)) for draw in draws])  # [times, N]
    sums = np.concatenate([counts.sum(0)[None], np.einsum("bn,nkc->bkc", weights, counts)])
    with np.errstate(invalid="ignore"):
        iou = sums[:, 0] / (sums[:, 1] + sums[:, 2] - sums[:, 0])
        accuracy = sums[:, 0].sum(1) / sums[:, 2].sum(1)
    return SegmentationScore(
        miou=_share(np.array([row[np.isfinite(row)].mean() for row in iou])),
        accuracy=_share(accuracy),
        iou={name: _share(iou[:, c]) for c, name in enumerate(classes)},
        images=len(counts),
    )


def _share(values: NDArray[np.float64]) -> Share:
    """The first value, of all images, and the interval of the others."""
    return Share(float(values[0]), interval(values[1:]))
