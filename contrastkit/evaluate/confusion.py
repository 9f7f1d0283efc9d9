"""What a classifier makes of the images of each class: accuracy with intervals, and what they are taken for."""

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from contrastkit.errors import listed
from contrastkit.figures import COLOURS, chart, plain, shortened
from contrastkit.intervals import wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LABELLED = 40  # classes whose names fit beside the matrix
ACROSS = 60  # letters that fit below it on one line
NUMBERED = 16  # classes whose percentages fit into its cells


@dataclass(frozen=True, slots=True)
class ClassResult:
    """The answers to the test images of one class."""

    n: int  # test images
    top1: float  # share of right answers; NaN without test images
    interval: tuple[float, float]  # its 95 % Wilson interval, for n images
    answers: dict[str, int]  # class -> how often it was the answer, of all classifiers together, most frequent first


PerClass = Mapping[str, ClassResult]  # by the name of the true class


def per_class(answers: Tensor, y: Tensor, names: Sequence[str]) -> dict[str, ClassResult]:
    """The results of each class that has test images or is an answer, in the order of the classes.

    Like the accuracy of all images, that of a class is the mean over the classifiers, and its interval is that of the
    images: several classifiers do not make more of them.

    Args:
        answers: int64 [N], or [S, N] of S classifiers that differ by their seed.
        y: int64 [N], the true classes.
        names: of the classes 0 ... C - 1.
    """
    C, answers = len(names), answers.reshape(-1, len(y)).cpu()
    cells = torch.bincount((y.cpu() * C + answers).flatten(), minlength=C * C).view(C, C)
    images = torch.bincount(y.cpu(), minlength=C).tolist()
    results = {}
    for c in (cells.sum(1) + cells.sum(0)).nonzero()[:, 0].tolist():
        n = images[c]
        top1 = cells[c, c].item() / (len(answers) * n) if n else math.nan
        order = cells[c].argsort(descending=True, stable=True)[: int((cells[c] > 0).sum())].tolist()
        taken = {names[other]: int(cells[c, other]) for other in order}
        results[names[c]] = ClassResult(n, top1, wilson(top1, n) if n else (math.nan, math.nan), taken)
    return results


def class_names(classes: Sequence[str] | None, n: int) -> tuple[str, ...]:
    """A different name for each of n classes: its own, or its number if it has none or shares it with another;
    "class 1" where "1" is a class's own name."""
    own = list(classes or ())[:n]
    often, names = Counter(own), []
    for c in range(n):
        if c < len(own) and often[own[c]] == 1:
            name = own[c]
        else:
            name = str(c)
            while name in often:
                name = f"class {name}"
        names.append(name)
    return tuple(names)


def mean_per_class(results: PerClass) -> float:
    """The mean of the classes' accuracies: every class counts the same, however many test images it has."""
    return statistics.fmean(result.top1 for result in results.values() if result.n)


def confusions(results: PerClass) -> list[tuple[float, str, str]]:
    """All mistakes, the most frequent first: the share of a class that is taken for another, and the names of both."""
    mistakes = [
        (count / sum(result.answers.values()), true, answer)
        for true, result in results.items()
        for answer, count in result.answers.items()
        if answer != true
    ]
    return sorted(mistakes, key=lambda mistake: -mistake[0])


def confusion_chart(path: Path, results: PerClass, title: str) -> None:
    """Draw the confusion matrix beside the accuracy of each class, as a PNG."""
    names = list(results)
    C, at = len(names), {name: i for i, name in enumerate(names)}
    matrix = np.full((C, C), np.nan)
    for i, result in enumerate(results.values()):
        if total := sum(result.answers.values()):
            matrix[i] = 0
            for answer, count in result.answers.items():
                matrix[i, at[answer]] = 100 * count / total
    note = (
        "Left: % of the test images of a row's class that are taken for a column's class. Right: share of a class's "
        "images that are right, with its 95 % Wilson interval."
    )
    if mistakes := [
        f"{true} for {answer} ({100 * share:.0f}\N{NO-BREAK SPACE}%)" for share, true, answer in confusions(results)[:3]
    ]:
        note += f" Most often taken for another: {', '.join(mistakes)}."
    side = min(4.6, max(1.2, 0.45 * C))
    with chart(path, title, height=side + 2.6, note=note) as figure:
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(2.3, 1))
        _draw_matrix(left, matrix, names)
        _draw_accuracies(right, list(results.values()), 100 * mean_per_class(results))
        if C > NUMBERED:
            figure.colorbar(
                left.images[0], ax=[left, right], location="top", aspect=50, shrink=0.5, label="% of the class"
            )


def _draw_matrix(axes: "Axes", matrix: np.ndarray, names: Sequence[str]) -> None:
    C = len(names)
    axes.imshow(matrix, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    axes.grid(visible=False)
    step = -(-C // LABELLED)
    size = 8 if C <= 30 else 7
    short = [plain(shortened(name, 22)) for name in names[::step]]
    axes.set_yticks(range(0, C, step), short, fontsize=size)
    axes.set_xticks(range(0, C, step), short, fontsize=size, rotation=0 if C * max(map(len, short)) <= ACROSS else 90)
    kind = f"1 in {step} of {C} classes is labelled" if step > 1 else f"{C} classes"
    axes.set(ylabel="class of the test image", xlabel=f"taken for ({kind})")
    if C <= NUMBERED:
        for (i, j), share in np.ndenumerate(matrix):
            if share > 0:
                ink = "white" if share > 55 else "black"
                axes.text(j, i, f"{share:.0f}", ha="center", va="center", color=ink, fontsize=8)


def _draw_accuracies(axes: "Axes", results: Sequence[ClassResult], mean: float) -> None:
    rows = [i for i, result in enumerate(results) if result.n]
    top1 = 100 * np.array([results[i].top1 for i in rows])
    low, high = 100 * np.array([results[i].interval for i in rows]).T
    size = max(1.0, min(3.0, 150 / len(results)))
    axes.errorbar(
        top1, rows, xerr=np.abs([top1 - low, high - top1]), fmt="o", markersize=size, capsize=0, elinewidth=size / 2,
        ecolor=COLOURS[4],
    )  # fmt: skip
    axes.axvline(mean, color=COLOURS[3], linestyle="--", linewidth=1, zorder=3)
    axes.set_title(f"dashed: mean, {mean:.1f} %", fontsize=8)
    axes.tick_params(axis="y", length=0, labelleft=False)
    axes.set(xlabel="top-1 of the class, %", xlim=(-2, 102))


def classes_without_training(train: Tensor, test: Tensor, names: Sequence[str]) -> list[str]:
    """A notice if there are test images of classes, int64, of which there is no training image."""
    absent = [names[c] for c in test.unique().tolist() if not (train == c).any()]
    if not absent:
        return []
    whose = "its" if len(absent) == 1 else "their"
    return [f"no training image of {listed(absent, 5)}: {whose} test images cannot be right"]
