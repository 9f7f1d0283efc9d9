"""The chart of an ablation: bars, lines over a number, or a matrix of pairs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contrastkit.ablation.engine import AblationReport, AblationRow
from contrastkit.ablation.table import ABLATIONS, UNTRAINED
from contrastkit.figures import COLOURS, GREY, INK, SMALL, chart, legend
from contrastkit.names import split_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CHART = "ablation.png"
MEASURED, PUBLISHED = COLOURS[0], COLOURS[1]
ERROR = {"ecolor": INK, "capsize": 2, "elinewidth": 1}


def draw(report: AblationReport, path: Path) -> None:
    """Plot the rows that are measured as a PNG: linear accuracy, with the published one where it is in print."""
    ablation, rows = ABLATIONS[report.ablation], report.rows
    epochs = "1 epoch" if report.epochs == 1 else f"{report.epochs} epochs"
    methods = " and ".join(
        dict.fromkeys(row.method or ablation.method for row in ablation.rows.values() if row.changes)
    )
    note = f"Measured: {methods}, recipe {split_name(report.recipe)[1]}, {epochs}, one seed"
    if ablation.chart == "matrix":
        note += ". On the diagonal: one transformation alone."
    else:
        note += "; lines: +- one standard deviation over the probe's seeds."
    if any(isinstance(row.published, float) for row in rows):
        note += f" Published ({ablation.source}): {ablation.unit}."
    height = 0.42 * len(rows) + 1.6 if ablation.chart == "bars" else 4.4
    title = f"{ablation.title}: linear probe on the test images of {report.data}"
    with chart(path, title, height=height, note=note) as figure:
        {"bars": _bars, "lines": _lines, "matrix": _matrix}[ablation.chart](figure, rows)


def _bars(figure: "Figure", rows: Sequence[AblationRow]) -> None:
    axes, places = figure.subplots(), range(len(rows))
    axes.barh(
        [i - 0.2 for i in places], [row.linear for row in rows], 0.38, xerr=[row.linear_std for row in rows],
        error_kw=ERROR, color=MEASURED, label="measured",
    )  # fmt: skip
    numbers = {i: row.published for i, row in enumerate(rows) if isinstance(row.published, float)}
    if numbers:
        axes.barh(
            [i + 0.2 for i in numbers], list(numbers.values()), 0.38, color=PUBLISHED, label="published",
        )  # fmt: skip
    for i, row in enumerate(rows):
        if isinstance(row.published, str):
            axes.annotate(row.published, (1, i + 0.2), va="center", fontsize=SMALL)
    axes.set_yticks(places, [row.name for row in rows])
    axes.set(xlabel="top-1, %", ylim=(len(rows) - 0.4, -0.6))
    axes.grid(visible=False, axis="y")
    legend(figure)


def _lines(figure: "Figure", rows: Sequence[AblationRow]) -> None:
    """A panel for each number that is varied; its values are at equal distances."""
    points = [(*_point(row.name), row) for row in rows if "=" in row.name]
    flat = [row for row in rows if "=" not in row.name]
    numbers = list(dict.fromkeys(number for _, number, _, _ in points)) or [""]
    for axes, number in zip(figure.subplots(1, len(numbers), sharey=True, squeeze=False)[0], numbers, strict=True):
        ticks = list(dict.fromkeys(value for _, n, value, _ in points if n == number))
        for i, series in enumerate(dict.fromkeys(s for s, n, _, _ in points if n == number)):
            own = [(ticks.index(value), row) for s, n, value, row in points if (s, n) == (series, number)]
            _line(axes, own, series or "measured", (MEASURED, COLOURS[2])[i % 2])
        for row in flat:
            style = {"color": GREY, "linestyle": ":"} if row.name in UNTRAINED else {"color": INK, "linestyle": "--"}
            axes.axhline(row.linear, linewidth=1, label=row.name, **style)
        axes.set_xticks(range(len(ticks)), ticks)
        axes.set_xlabel(number)
    figure.axes[0].set_ylabel("top-1, %")
    legend(figure)


def _point(name: str) -> tuple[str, str, str]:
    """Series, the number that is varied, and its value, as a text: ``linear, dim = 32``, ``K = 128``."""
    left, _, value = name.partition(" = ")
    series, _, number = left.rpartition(", ")
    return series, number, value


def _line(axes: "Axes", points: Sequence[tuple[int, AblationRow]], label: str, colour: str) -> None:
    at, rows = [x for x, _ in points], [row for _, row in points]
    deviations = [row.linear_std for row in rows]
    axes.errorbar(at, [row.linear for row in rows], yerr=deviations, marker="o", color=colour, label=label)
    printed: list[tuple[int, Any]] = [(x, row.published) for x, row in points if row.published is not None]
    known = [(x, value) for x, value in printed if isinstance(value, float)]
    if known:
        axes.plot(*zip(*known, strict=True), "D", color=PUBLISHED, label="published")
    for x, word in printed:
        if isinstance(word, str):
            axes.annotate(
                f"published: {word}", (x, 0.98), xycoords=("data", "axes fraction"), rotation=90, ha="center",
                va="top", fontsize=SMALL, color=GREY,
            )  # fmt: skip


def _matrix(figure: "Figure", rows: Sequence[AblationRow]) -> None:
    """A cell for each pair, symmetric; what is not measured is empty."""
    import numpy as np

    trained = [row for row in rows if row.name not in UNTRAINED]
    names = list(dict.fromkeys(name for row in trained for name in row.name.split(" + ")))
    cells, texts = np.full((len(names), len(names)), np.nan), {}
    for row in trained:
        i, j = (names.index(part) for part in (row.name.split(" + ") * 2)[:2])
        cells[i, j] = cells[j, i] = row.linear
        texts[i, j] = texts[j, i] = f"{row.linear:.1f}" + (f"\n({row.published})" if row.published is not None else "")
    axes = figure.subplots()
    image = axes.imshow(cells, cmap="Blues", aspect="auto")
    middle = (np.nanmin(cells) + np.nanmax(cells)) / 2
    for (i, j), text in texts.items():
        axes.text(j, i, text, ha="center", va="center", color="white" if cells[i, j] > middle else INK)
    for axis, label in ((axes.set_xticks, names), (axes.set_yticks, names)):
        axis(range(len(names)), label)
    untrained = [f"; untrained {row.linear:.1f}" for row in rows if row.name in UNTRAINED]
    axes.set_xlabel("".join(["in brackets: published" * any(row.published for row in trained), *untrained]).strip("; "))
    axes.grid(visible=False)
    figure.colorbar(image, ax=axes, label="top-1, %")
