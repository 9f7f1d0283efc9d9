"""How a training went, in one line: did kNN, or else the loss, rise, stay level or fall, by more than noise?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from contrastkit.intervals import difference

P = 0.05  # of the loss: the probability of such a trend in numbers of random order
LEAST = 5  # epochs: of fewer, no order is as improbable as P


@dataclass(frozen=True)
class Verdict:
    """From the first evaluation of a training to its last.

    Attributes:
        what: "knn", the accuracy, if it was measured twice; else "loss", the mean of an epoch.
        change: "rose", "level" or "fell". kNN: whether the 95 % interval of the difference lies above, around or below
            zero (:func:`contrastkit.intervals.difference`). The loss: whether Kendall's rank correlation with the epoch
            is significant at 5 %. None: fewer than five epochs of losses, which cannot tell.
        first, last: the two values; ``epochs``: when they were taken.
        interval: of the difference of kNN accuracies; None for the loss.
        p: of the loss's trend, two-sided; None for kNN or too few epochs.
        images: on which kNN was measured; None for the loss.
    """

    what: Literal["knn", "loss"]
    change: Literal["rose", "level", "fell"] | None
    first: float
    last: float
    epochs: tuple[int, int]
    interval: tuple[float, float] | None = None
    p: float | None = None
    images: int | None = None

    @property
    def line(self) -> str:
        """In words."""
        begin, end = self.epochs
        changed = {"rose": "rose", "level": "stayed level", "fell": "fell", None: "went"}[self.change]
        if self.interval is not None:
            points, low, high = (100 * x for x in (self.last - self.first, *self.interval))
            return (
                f"verdict: kNN {changed}: {self.first:.1%} after epoch {begin}, {self.last:.1%} after epoch {end}, "
                f"{points:+.1f} points (95% interval {low:+.1f} to {high:+.1f}, {self.images:,} images)"
            )
        rule = f"fewer than {LEAST} epochs" if self.p is None else f"Kendall's test p = {self.p:.2g}"
        return (
            f"verdict: the loss {changed} from {self.first:.3f} in epoch {begin} to {self.last:.3f} in epoch {end} "
            f"({rule}); it does not say whether the features are better: kNN would, with labels"
        )


def judge(rows: Sequence[Mapping[str, float | None]], images: int | None) -> Verdict | None:
    """The verdict on a run, None if it has fewer than two epochs with a number.

    Args:
        rows: of metrics.jsonl.
        images: on which kNN is measured; None without labels.
    """
    knn = _series(rows, "knn")
    if images is not None and len(knn) > 1:
        (begin, first), (end, last) = knn[0], knn[-1]
        interval = difference(last, first, images)
        change: Literal["rose", "level", "fell"] = "rose" if interval[0] > 0 else "fell" if interval[1] < 0 else "level"
        return Verdict("knn", change, first, last, (begin, end), interval, images=images)
    loss = _series(rows, "loss")
    if len(loss) < 2:
        return None
    (begin, first), (end, last) = loss[0], loss[-1]
    if len(loss) < LEAST:
        return Verdict("loss", None, first, last, (begin, end))
    from scipy.stats import kendalltau

    tau, p = kendalltau(*zip(*loss, strict=True))
    change = "level" if not p < P else "rose" if tau > 0 else "fell"  # p is nan if all losses are equal
    return Verdict("loss", change, first, last, (begin, end), p=float(p) if p == p else 1.0)


def _series(rows: Sequence[Mapping[str, float | None]], name: str) -> list[tuple[int, float]]:
    """(epoch, value) of the rows that have it."""
    return [(int(epoch), value) for row in rows if (value := row.get(name)) is not None and (epoch := row.get("epoch"))]
