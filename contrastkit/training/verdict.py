"""How a training went, in one line: did kNN rise, stay level or fall by more than noise, or else which way did the loss
go?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from contrastkit.intervals import difference

TREND = 0.5  # Kendall's tau of the losses from which on they have a direction: in three of four pairs of epochs

Change = Literal["rose", "level", "fell"]
Point = tuple[int, float]  # epoch, value


@dataclass(frozen=True)
class Verdict:
    """From where a training began to its last evaluation.

    Attributes:
        what: "knn", the accuracy, if it was measured twice; else "loss", the mean of an epoch.
        change: "rose", "level" or "fell". kNN: whether the 95 % interval of the difference lies above, around or below
            zero (:func:`contrastkit.intervals.difference`). The loss: its direction, which first and last value
            share with at least three of four pairs of epochs; None if it has none. That describes, and tests nothing:
            the losses of neighbouring epochs are not independent.
        first, last: the two values; ``epochs``: after which epochs they were taken, 0 for starting weights.
        interval: of the difference of kNN accuracies; None for the loss.
        images: on which kNN was measured; None for the loss.
        best, best_epoch: the highest kNN accuracy and its epoch, if the last is below it by more than noise, like
            ``change``, and it is not the first; else None.
    """

    what: Literal["knn", "loss"]
    change: Change | None
    first: float
    last: float
    epochs: tuple[int, int]
    interval: tuple[float, float] | None = None
    images: int | None = None
    best: float | None = None
    best_epoch: int | None = None

    @property
    def line(self) -> str:
        """In words."""
        begin, end = self.epochs
        changed = {"rose": "rose", "level": "stayed level", "fell": "fell", None: "went"}[self.change]
        if self.interval is None:
            return (
                f"verdict: the loss {changed} from {self.first:.3f} in epoch {begin} to {self.last:.3f} in epoch {end}"
                "; it does not say whether the features are better: kNN would, with labels"
            )
        points, low, high = (100 * x for x in (self.last - self.first, *self.interval))
        start = f"after epoch {begin}" if begin else "before the first step"
        best = "" if self.best is None else f", but was {self.best:.1%} after epoch {self.best_epoch}"
        return (
            f"verdict: kNN {changed}: {self.first:.1%} {start}, {self.last:.1%} after epoch {end}, "
            f"{points:+.1f} points (95% interval {low:+.1f} to {high:+.1f}, {self.images:,} queries){best}"
        )


def judge(rows: Sequence[Mapping[str, float | None]], images: int | None, *, since: float = 0) -> Verdict | None:
    """The verdict on a run, None if it has fewer than two epochs with a number.

    Args:
        rows: of metrics.jsonl.
        images: on which kNN is measured; None without labels.
        since: the step at which the training began, above 0 for one that extends another: it is judged from the last
            number up to there.
    """
    knn = _series(rows, "knn", since)
    if images is not None and len(knn) > 1:
        return _of_knn(knn, images)
    loss = _series(rows, "loss", since)
    if len(loss) < 2:
        return None
    (begin, first), (end, last) = loss[0], loss[-1]
    from scipy.stats import kendalltau

    tau = kendalltau(*zip(*loss, strict=True)).statistic  # nan if all losses are equal
    change: Change | None = None
    if tau <= -TREND and last < first:
        change = "fell"
    elif tau >= TREND and last > first:
        change = "rose"
    return Verdict("loss", change, first, last, (begin, end))


def _of_knn(knn: Sequence[Point], images: int) -> Verdict:
    (begin, first), (end, last) = knn[0], knn[-1]
    interval = difference(last, first, images)
    change: Change = "rose" if interval[0] > 0 else "fell" if interval[1] < 0 else "level"
    verdict = Verdict("knn", change, first, last, (begin, end), interval, images)
    best_epoch, best = max(knn, key=lambda point: point[1])
    if best_epoch == begin or difference(last, best, images)[1] >= 0:
        return verdict
    return replace(verdict, best=best, best_epoch=best_epoch)


def _series(rows: Sequence[Mapping[str, float | None]], name: str, since: float) -> list[Point]:
    """The points of the rows that have a value, from the last one up to the step ``since`` on."""
    points = [
        (step, (int(epoch), value))
        for row in rows
        if (value := row.get(name)) is not None
        and (epoch := row.get("epoch")) is not None
        and (step := row.get("step")) is not None
    ]
    earlier = sum(step <= since for step, _ in points)
    return [point for _, point in points[max(0, earlier - 1) :]]
