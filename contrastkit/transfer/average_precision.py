"""Average precision of predicted boxes, by torchmetrics with faster-coco-eval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from contrastkit.errors import UserError
from contrastkit.evaluate.subject import OnProgress
from contrastkit.transfer.boxes import Boxes
from contrastkit.transfer.resampling import Share, interval, resamples

RESAMPLES = 200

Predictions = dict[str, Tensor]  # of one image: boxes float [n, 4], scores float [n], labels int64 [n]


@dataclass(frozen=True, slots=True)
class DetectionScore:
    """COCO's average precision: the mean over 101 recalls, at a smallest overlap (IoU) of predicted and true box.

    Attributes:
        ap: mean over the overlaps 0.5, 0.55, ..., 0.95 and the classes.
        ap50, ap75: at these overlaps.
        classes: ``ap`` of each class that has a test box, by name.
        images: number of test images.
    """

    ap: Share
    ap50: Share
    ap75: Share
    classes: dict[str, Share]
    images: int


def require_metric() -> None:
    """
    Raises:
        UserError: the libraries that compute it are not installed.
    """
    try:
        import faster_coco_eval  # noqa: F401
        import torchmetrics.detection  # noqa: F401
    except ImportError as error:
        raise UserError(
            'average precision needs torchmetrics and faster-coco-eval: pip install "contrastkit[detect]"'
        ) from error


def average_precision(
    predicted: Sequence[Predictions],
    truth: Sequence[Boxes],
    classes: Sequence[str],
    *,
    seed: int = 0,
    times: int = RESAMPLES,
    on_progress: OnProgress = lambda task, done, total: None,
) -> DetectionScore:
    """Score the predictions of a set's images, which are resampled for the intervals.

    Difficult objects count as COCO's crowds: to find one is neither right nor wrong, nor is to miss it. VOC's own
    rule differs in that a crowd takes any number of boxes, a difficult object one.
    """
    on_progress("average precision", 0, times)
    value = _values(predicted, truth, len(classes))
    drawn = []
    for k, rows in enumerate(resamples(len(truth), times, seed), start=1):
        drawn.append(_values([predicted[i] for i in rows], [truth[i] for i in rows], len(classes)))
        on_progress("average precision", k, times)
    shares = [Share(value[i], interval(np.array([row[i] for row in drawn]))) for i in range(len(value))]
    ap, ap50, ap75, *of_classes = shares
    named = {name: share for name, share in zip(classes, of_classes, strict=True) if math.isfinite(share.value)}
    return DetectionScore(ap, ap50, ap75, named, len(truth))


def _values(predicted: Sequence[Predictions], truth: Sequence[Boxes], n_classes: int) -> list[float]:
    """AP, AP50, AP75 and the AP of each class; NaN for those without a true box."""
    from torchmetrics.detection import MeanAveragePrecision

    metric = MeanAveragePrecision(backend="faster_coco_eval", class_metrics=True)
    metric.warn_on_many_detections = False
    targets = [{"boxes": each.box, "labels": each.label, "iscrowd": each.difficult.long()} for each in truth]
    metric.update(list(predicted), targets)
    found: dict[str, Any] = metric.compute()
    values = [math.nan] * n_classes
    for label, ap in zip(found["classes"].view(-1).tolist(), found["map_per_class"].view(-1).tolist(), strict=True):
        values[label - 1] = ap if ap >= 0 else math.nan  # -1 stands for a class without a true box
    scores = [found[name].item() for name in ("map", "map_50", "map_75")]
    return [score if score >= 0 else math.nan for score in scores] + values
