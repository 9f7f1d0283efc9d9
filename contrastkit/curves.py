"""The plots of a run's metrics, and what each metric is."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from contrastkit.figures import GREY, SMALL, chart, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 3
PANEL, AROUND = 1.75, 1.0  # heights in inches: of a row of panels, of title and note
MEAN = "mean of the epoch"
FEW = 30  # points that are marked one by one


class Metric(NamedTuple):
    """A number of metrics.jsonl as it is shown.

    Attributes:
        unit: of the values multiplied by ``factor``.
        references: values, likewise multiplied, that tell good from bad, and their names.
    """

    title: str
    unit: str
    factor: float = 1.0
    references: tuple[tuple[float, str], ...] = ()


# In the order of the panels; a method's other numbers follow, under their own names.
METRICS = {
    "loss": Metric("loss", MEAN),
    "knn": Metric("kNN on training images", "top-1, %", 100),
    "top1": Metric("positives that are found", "top-1, %", 100),
    "std": Metric("spread of the outputs", "std x sqrt(d)", 1, ((1.0, "even"), (0.2, "collapse below"))),
    "rank": Metric("rank of the outputs", "effective directions", 1, ((2.0, "collapse below"),)),
    "alignment": Metric("distance of two views", "squared, 0 to 4"),
    "uniformity": Metric("uniformity (0: collapsed)", "log, -4 to 0"),
    "lr": Metric("learning rate", "at the epoch's end"),
    "images_per_s": Metric("speed", "images/s"),
    "waiting": Metric("waiting for data", "% of the time", 100),
    "memory_mib": Metric("memory", "MiB"),
    "unreadable": Metric("files that cannot be read", "files"),
}
NOT_DRAWN = ("step", "epoch", "seconds", "chance_loss")


def draw_curves(rows: Sequence[dict[str, Any]], path: Path, *, title: str) -> None:
    """Plot the metrics of a run against the epoch, one panel each (:func:`panels`), as a PNG."""
    shown = panels(rows)
    down = -(-len(shown) // COLUMNS) or 1
    with chart(
        path, title, height=PANEL * down + AROUND, note="One point an epoch; dashed: reference values."
    ) as figure:
        for (metric, points), axes in zip(shown, figure.subplots(down, COLUMNS, squeeze=False).flat, strict=False):
            draw_metric(axes, metric, points)
        for axes in list(figure.axes)[len(shown) :]:
            axes.remove()


def panels(rows: Sequence[dict[str, Any]]) -> list[tuple[Metric, list[tuple[float, Any]]]]:
    """What is drawn of the rows of metrics.jsonl: each metric, and its epochs and values.

    A metric that no row has as a number, and a count of unreadable files that is always 0, is left out.
    ``chance_loss`` is a reference of the loss.
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
        shown.append(
            (metric, [(row["epoch"], row[name]) for row in rows if name in row and is_number(row.get("epoch"))])
        )
    return shown


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


def is_number(value: Any) -> bool:
    """Whether a value of metrics.jsonl is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)
