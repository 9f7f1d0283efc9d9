"""What a training will show and take, in words: before its first step, and after a few."""

import itertools
import statistics
import time

import torch

from contrastkit.augment import View
from contrastkit.data import Source
from contrastkit.methods import Method, Recipe
from contrastkit.names import split_name
from contrastkit.training.memory import LARGE, free_bytes
from contrastkit.training.plan import Plan

FEW = 10  # first steps of a start, whose times project the rest
ENLARGED, LOST = 3 / 4, 4.0  # ratios of an image's side to its views' that are worth a remark


def before(plan: Plan, steps_per_epoch: int, needed: int | None) -> list[str]:
    """How large the images are seen, how many steps there are and what they take, one line each.

    Args:
        needed: bytes of a step, see :func:`contrastkit.training.memory.step_bytes`.
    """
    row, lines = split_name(plan.name)[1], []
    if row == "small" and not plan.resumes:
        lines.append(
            f"{row} is for photos on a CPU or on GPUs of less than {LARGE / 2**30:.0f} GiB together: --recipe imagenet "
            "has the paper's numbers"
        )
    if isinstance(plan.recipe.views[0], View):
        lines.append(seen_at(plan.recipe, plan.data.pretrain, tiny=row == "tiny"))
    memory = "what a step takes is not known in advance" if needed is None else f"a step takes at least {size(needed)}"
    return [
        *lines,
        f"{steps_per_epoch:,} steps an epoch, {plan.recipe.epochs * steps_per_epoch:,} in all; {memory}, "
        f"{size(free_bytes(plan.device))} of memory are free",
    ]


def seen_at(recipe: Recipe, source: Source, *, tiny: bool) -> str:
    """The size of the images and of their views, and what follows."""
    sides = sorted({view.size for view in recipe.views}, reverse=True)
    line = f"images of about {source.size} px are seen at {' and '.join(map(str, sides))} px"
    ratio = source.size / sides[0]
    if ratio > LOST:
        other = ", and --recipe small is for photos" if tiny else ""
        return f"{line}, up to {ratio:.0f} times smaller, so small things are lost: --size shows more{other}"
    return f"{line}, enlarged: --size changes it" if ratio < ENLARGED else f"{line} (--size)"


def size(n: int) -> str:
    """Bytes in words."""
    return f"{n / 2**30:,.1f} GiB" if n >= 2**30 else f"{n / 2**20:,.0f} MiB"


def duration(seconds: float) -> str:
    """A time in words, in the two largest units."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    if minutes < 120:
        return f"{minutes} min"
    hours = round(seconds / 3600) if minutes >= 48 * 60 else minutes // 60
    return f"{hours} h {minutes % 60} min" if minutes < 48 * 60 else f"{hours // 24} d {hours % 24} h"


class Pace:
    """The median time of the first steps of a start, the very first one aside: it compiles and fills queues."""

    def __init__(self, device: torch.device) -> None:
        self.told, self._device = False, device
        self._ends: list[float] = []

    def mark(self) -> None:
        """A step has ended."""
        if self.told or len(self._ends) == FEW:
            return
        if self._device.type == "cuda":  # or its work would only be queued
            torch.cuda.synchronize(self._device)
        self._ends.append(time.perf_counter())

    def project(self, left: int, *, evaluates: bool) -> str | None:
        """Once, after ``FEW`` steps or at the end of a shorter epoch: what the ``left`` steps will take."""
        times = [end - start for start, end in itertools.pairwise(self._ends)]
        if self.told or not (left and times):
            return None
        self.told = True
        step = statistics.median(times)
        return (
            f"the {left:,} steps to come take about {duration(left * step)}, {step:.2g} s each (median of {len(times)})"
            f"{', and evaluations besides' if evaluates else ''}"
        )


def legend(method: Method, row: dict[str, float]) -> str | None:
    """What the numbers of an epoch's line mean, those that it has."""
    parts, chance = [], method.chance_loss
    if method.directions > 1:
        many = "both" if method.directions == 2 else f"{method.directions}"
        parts.append(f"the loss is the sum of {many} directions")
    if chance is not None:
        parts.append(f"a loss of {chance:.2f} tells nothing apart")
    if "knn" in row:
        parts.append("kNN is the accuracy by 20 neighbours within the training images")
    if "std" in row:
        parts.append("std is the spread of the outputs, 1 if even on the sphere, 0 if collapsed")
        parts.append("rank is the number of directions along which they lie")
    return f"legend: {'; '.join(parts)}" if parts else None
