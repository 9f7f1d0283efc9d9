"""The plots of a run's metrics."""

from pathlib import Path
from typing import Any


def draw_curves(rows: list[dict[str, Any]], file: Path) -> None:
    """Plot every metric against the epoch, one small panel each."""
    from matplotlib.figure import Figure

    names = [
        name
        for name in dict.fromkeys(name for row in rows for name in row)
        if name not in ("step", "epoch", "seconds") and any(isinstance(row.get(name), int | float) for row in rows)
    ]
    columns = 3
    rows_of_panels = -(-len(names) // columns)
    figure = Figure(figsize=(4 * columns, 2.6 * rows_of_panels), layout="constrained")
    axes = figure.subplots(rows_of_panels, columns, squeeze=False).flat
    for name, axis in zip(names, axes, strict=False):
        points = [(row["epoch"], row[name]) for row in rows if None not in (row.get("epoch"), row.get(name))]
        axis.plot(*zip(*points, strict=True), linewidth=1.2, marker="." if len(points) < 30 else None)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("epoch", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.3)
    for axis in list(figure.axes)[len(names) :]:
        axis.remove()
    figure.savefig(file, format="png", dpi=110)
