"""The curves of a comparison, overlaid."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contrastkit.compare.comparison import Comparison, Row
from contrastkit.curves import METRICS, NOTE, draw_metric, is_number
from contrastkit.figures import COLOURS, chart, legend, plain, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Transform

PANELS = ("loss", "knn", "std", "rank")
STYLES = ("-", "--")  # with the colours they tell apart this many rows:
ROWS = len(STYLES) * len(COLOURS)
PANEL, AROUND = 2.6, 1.2  # heights in inches: of a row of panels, of title, legend and note
LETTERS = 48  # of a name in the legend
APART = 8  # typographic points between rows that have one epoch


def comparison_chart(path: Path, comparison: Comparison) -> None:
    """Draw the metrics of all rows against the epoch, a panel for each of :data:`PANELS` that there is, as a PNG: the
    mean over the runs of a row, at the epochs that all of them have, and a band of one standard deviation (n - 1)."""
    from matplotlib.transforms import ScaledTranslation

    shown = list(zip(comparison.rows, comparison.curves, strict=True))[:ROWS]
    names = [name for name in PANELS if any(_curve(curves, name) for _, curves in shown)]
    down = -(-len(names) // 2) or 1
    with chart(path, f"Training on {comparison.data}", height=PANEL * down + AROUND, note=_note(comparison)) as figure:
        panels = list(figure.subplots(down, min(2, len(names) or 1), squeeze=False).flat)
        for name, axes in zip(names, panels, strict=False):
            for i, (row, curves) in enumerate(shown):
                inches = (i - (len(shown) - 1) / 2) * APART / 72
                beside = ScaledTranslation(inches, 0, figure.dpi_scale_trans)
                _draw(axes, name, row, _curve(curves, name), i, beside)
        for axes in panels[len(names) :]:
            axes.remove()
        legend(figure)


Point = tuple[float, float, float | None]  # epoch, mean, standard deviation


def _curve(curves: Sequence[Sequence[dict[str, Any]]], name: str) -> list[Point]:
    """A metric over the runs of a row, at the epochs that all of them have."""
    each = [
        {row["epoch"]: row[name] for row in rows if is_number(row.get(name)) and is_number(row.get("epoch"))}
        for rows in curves
    ]
    common = sorted(set.intersection(*map(set, each)))
    points: list[Point] = []
    for epoch in common:
        values = [values[epoch] for values in each]
        points.append((epoch, statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None))
    return points


def _draw(axes: "Axes", name: str, row: Row, points: Sequence[Point], i: int, beside: "Transform") -> None:
    """Row ``i``. One epoch is moved by ``beside``, as those of the other rows would hide it."""
    metric = METRICS[name]
    if i:
        metric = metric._replace(references=())  # once
    colour, style = COLOURS[i % len(COLOURS)], STYLES[i // len(COLOURS)]
    label = plain(shortened(row.name, LETTERS)) + ("" if row.finished else " (unfinished)")
    place = axes.transData + beside if len(points) == 1 else axes.transData
    how: dict[str, Any] = {"color": colour, "linestyle": style, "transform": place}
    draw_metric(axes, metric, [point[:2] for point in points], label=label, **how)
    if len(points) == 1:  # matplotlib's own scaling leaves out what is moved
        epoch, mean, std = points[0]
        axes.update_datalim([(epoch, metric.factor * (mean + sign * (std or 0.0))) for sign in (-1, 1)])
        axes.autoscale_view()
    if len(row.runs) > 1 and points:
        epochs, means, stds = zip(*points, strict=True)
        low, high = ([metric.factor * (m + s * sign) for m, s in zip(means, stds, strict=True)] for sign in (-1, 1))
        if len(points) > 1:
            axes.fill_between(epochs, low, high, color=colour, alpha=0.2, linewidth=0)
        else:  # a band would have no width
            axes.vlines(epochs, low, high, **how)


def _note(comparison: Comparison) -> str:
    notes = [f"{NOTE}."]
    if any(len(row.runs) > 1 for row in comparison.rows):
        notes.append("Line and band (of one epoch, point and bar): mean over seeds +- one standard deviation (n - 1).")
    if len(comparison.rows) > ROWS:
        notes.append(f"The first {ROWS} of {len(comparison.rows)} rows.")
    return " ".join(notes)
