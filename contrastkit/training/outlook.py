"""What a training will show and take, in words: before its first step, and after a few."""

import torch

from contrastkit.augment import View
from contrastkit.data import Source
from contrastkit.methods import EVERY, Method, Recipe
from contrastkit.names import split_name
from contrastkit.training.memory import LARGE, free_bytes
from contrastkit.training.plan import Plan
from contrastkit.training.progress import Meter

FEW = 9  # steps whose times project the rest, at least
ENLARGED, LOST = 3 / 4, 4.0  # ratios of an image's side to its views' that are worth a remark


def before(plan: Plan, steps_per_epoch: int, needed: int | None) -> list[str]:
    """How large the images are seen, how many steps there are and what they take, one line each.

    Args:
        needed: bytes of a step, see :func:`contrastkit.training.memory.step_bytes`.
    """
    (method, row), lines = split_name(plan.name), []
    if row == "small" and f"{method}/imagenet" in EVERY and not plan.resumes:
        precision = plan.options.precision
        lines.append(
            f"{row} is for photos on a CPU or on GPUs of less than {LARGE[precision]} GiB together in {precision}: "
            "--recipe imagenet has the paper's numbers"
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
    return f"{line}{', enlarged' if ratio < ENLARGED else ''}: --size changes it"


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
    """The mean time of the first steps of a start, apart from the very first one, which compiles, and from those whose
    batches were made meanwhile. Batches that processes make come in bursts: the mean is over two rounds at least."""

    def __init__(self, device: torch.device, *, ahead: int = 0) -> None:
        """
        Args:
            ahead: batches that the processes that load data make in advance.
        """
        self.told, self._device = False, device
        self._aside, self._least = 1 + ahead, max(FEW, 2 * ahead)
        self._steps, self._began = 0, 0.0

    def mark(self, meter: Meter) -> None:
        """A step has ended."""
        self._steps += 1
        if self._steps == self._aside:
            if self._device.type == "cuda":  # or its work would only be queued
                torch.cuda.synchronize(self._device)
            self._began = meter.lap()

    def project(self, left: int, meter: Meter, *, evaluates: bool) -> str | None:
        """Once, after enough steps, the last of which is done on the device too: what the ``left`` steps will take."""
        counted = self._steps - self._aside
        if self.told or not left or counted < self._least:
            return None
        self.told = True
        step = (meter.lap() - self._began) / counted
        return (
            f"the {left:,} steps to come take about {duration(left * step)}, {step:.2g} s each (mean of {counted})"
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
        parts.append("kNN is the accuracy by 20 neighbours within the training part")
    if "std" in row:
        parts.append("std is the spread of the outputs, 1 if even on the sphere, 0 if collapsed")
        parts.append("rank is the number of directions along which they lie")
    return f"legend: {'; '.join(parts)}" if parts else None
