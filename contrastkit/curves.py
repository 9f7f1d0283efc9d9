"""The plots of a run's metrics, and what each metric is."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from contrastkit.figures import GREY, SMALL, chart, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import Tensor

COLUMNS = 3
PANEL, AROUND = 1.75, 1.0  # heights in inches: of a row of panels, of title and note
GREEN, FAR = "#e3f4e8", 1e9  # of healthy values without a greatest, what is shown ends before
MEAN = "mean of the epoch"
NOTE = "One point an epoch. Dashed: what to compare with; green: healthy"
FEW = 30  # points that are marked one by one


class Metric(NamedTuple):
    """A number of metrics.jsonl as it is shown.

    Attributes:
        unit: of the values multiplied by ``factor``.
        references: values, likewise multiplied, that tell good from bad, and their names.
        healthy: the least and the greatest of the healthy values, likewise multiplied, if there are such.
    """

    title: str
    unit: str
    factor: float = 1.0
    references: tuple[tuple[float, str], ...] = ()
    healthy: tuple[float, float] | None = None


# In the order of the panels; a method's other numbers follow, under their own names.
METRICS = {
    "loss": Metric("loss", MEAN),
    "knn": Metric("kNN within the training part", "top-1, %", 100),
    "top1": Metric("positives that are found", "top-1, %", 100),
    "std": Metric("spread of the outputs", "std x sqrt(d)", 1, ((1.0, "even"), (0.2, "collapse below")), (0.2, 1.0)),
    "rank": Metric("rank of the outputs", "effective directions", 1, ((2.0, "collapse below"),), (2.0, math.inf)),
    "alignment": Metric("distance of two views", "squared, 0 to 4"),
    "uniformity": Metric("uniformity (0: collapsed)", "log, -8 to 0"),
    "lr": Metric("learning rate", "at the epoch's end"),
    "images_per_s": Metric("speed", "inputs/s"),
    "waiting": Metric("waiting for data", "% of the time", 100),
    "memory_mib": Metric("memory", "MiB"),
    "unreadable": Metric("files that cannot be read", "files"),
}
NOT_DRAWN = ("step", "epoch", "seconds", "chance_loss")


def draw_curves(rows: Sequence[dict[str, Any]], path: Path, *, title: str, classes: int | None = None) -> None:
    """Plot the metrics of a run against the epoch, one panel each (:func:`panels`), as a PNG."""
    shown = panels(rows, classes)
    down = -(-len(shown) // COLUMNS) or 1
    with chart(path, title, height=PANEL * down + AROUND, note=f"{NOTE}.") as figure:
        for (metric, points), axes in zip(shown, figure.subplots(down, COLUMNS, squeeze=False).flat, strict=False):
            draw_metric(axes, metric, points)
        for axes in list(figure.axes)[len(shown) :]:
            axes.remove()


def panels(rows: Sequence[dict[str, Any]], classes: int | None = None) -> list[tuple[Metric, list[tuple[float, Any]]]]:
    """What is drawn of the rows of metrics.jsonl: each metric, and its epochs and values.

    A metric that no row has as a number, and a count of unreadable files that is always 0, is left out.
    ``chance_loss`` is a reference of the loss, and chance among ``classes`` of kNN, where they are known.
    """
    names = [
        name
        for name in dict.fromkeys((*METRICS, *(name for row in rows for name in row)))
        if name not in NOT_DRAWN and any(is_number(row.get(name)) for row in rows)
    ]
    if "unreadable" in names and not any(row.get("unreadable") for row in rows):
        names.remove("unreadable")
    shown = []
    for name in names:
        metric = METRICS.get(name, Metric(name, MEAN))
        if name == "loss" and (chance := [row["chance_loss"] for row in rows if is_number(row.get("chance_loss"))]):
            metric = metric._replace(references=((chance[-1], "chance"),))
        if name == "knn" and classes is not None and classes > 1:
            metric = metric._replace(references=((metric.factor / classes, "chance"),))
        shown.append(
            (metric, [(row["epoch"], row[name]) for row in rows if name in row and is_number(row.get("epoch"))])
        )
    return shown


def class_count(labels: "Tensor | None") -> int | None:
    """How many classes have labels int64 [N], in which -1 is none; None without labels."""
    return None if labels is None else len(labels[labels >= 0].unique())


def draw_metric(axes: "Axes", metric: Metric, points: Sequence[tuple[float, Any]], **style: Any) -> None:
    """One curve in a panel, with the metric's title, unit and references; a gap where a value is no finite number.

    Args:
        points: epoch and value.
        style: of the line, as of ``Axes.plot``.
    """
    from matplotlib.ticker import MaxNLocator

    values = [metric.factor * value if is_number(value) else math.nan for _, value in points]
    dots = len(points) < FEW or not all(map(math.isfinite, values))  # a value between gaps is no line
    axes.plot([epoch for epoch, _ in points], values, marker="." if dots else None, **style)
    if metric.healthy is not None:
        _shade(axes, *metric.healthy)
    for value, name in metric.references:
        axes.axhline(value, color=GREY, linestyle="--", linewidth=0.8)
        axes.annotate(
            f"{name} {value:.3g}", (0.99, value), (0, 2), xycoords=("axes fraction", "data"),
            textcoords="offset points", ha="right", va="bottom", fontsize=7, color=GREY,
        )  # fmt: skip
    axes.set_title(plain(metric.title))
    axes.set_xlabel("epoch", fontsize=SMALL)
    axes.set_ylabel(metric.unit, fontsize=SMALL)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))


def _shade(axes: "Axes", low: float, high: float) -> None:
    """Colour the heights from ``low`` to ``high``, without a change of the axis: of the colour, not a tint of what is
    below, so that a second one on the same axes changes nothing."""
    from matplotlib.patches import Rectangle

    height = min(high, FAR) - low
    band = Rectangle((0, low), 1, height, transform=axes.get_yaxis_transform(), color=GREEN, linewidth=0, zorder=0)
    axes.add_artist(band)  # add_patch would rescale the axis to it


def is_number(value: Any) -> bool:
    """Whether a value of metrics.jsonl is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)
