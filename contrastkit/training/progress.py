"""Progress of a training: clock, losses, and the reporters that receive them."""

import contextlib
import math
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import torch
from torch import Tensor

from contrastkit import dist
from contrastkit.record import MeterState
from contrastkit.run import Run
from contrastkit.types import Batch, Step


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of a training, for a progress line."""

    step: int
    steps: int  # of the whole schedule
    epoch: float
    epochs: int
    loss: float
    items: str  # what there are batches of, such as images
    images_per_s: float
    seconds_left: float  # at the current speed, without evaluations
    waiting: float  # share of the time spent waiting for data
    memory_mib: float
    evaluation: dict[str, float]  # the monitor's latest; empty before the first

    @property
    def pace(self) -> str:
        left = timedelta(seconds=round(self.seconds_left))
        speed = f"{self.images_per_s:,.0f} {self.items}/s"
        return f"{speed}  waiting {self.waiting:.0%}  {self.memory_mib:,.0f} MiB  {left} to go"


class Reporter(Protocol):
    """Receives the reports of a training: the command line displays them, a test collects them."""

    def log(self, line: str) -> None:
        """Receive a line of lasting interest, which also goes to log.txt."""

    def on_step(self, progress: Progress) -> None:
        """Receive the progress, every few steps."""


class NullReporter:
    """A reporter that ignores everything."""

    def log(self, line: str) -> None:
        pass

    def on_step(self, progress: Progress) -> None:
        pass


class TeeReporter:
    """A reporter that forwards everything, and writes lines to the run's log.txt."""

    def __init__(self, reporter: Reporter, run: Run) -> None:
        self.on_step, self._reporter, self._run = reporter.on_step, reporter, run

    def log(self, line: str) -> None:
        self._reporter.log(line)
        self._run.log(line)


class Meter:
    """Measures the loop: losses, training time (without evaluation and checkpoints), and time spent waiting for data.

    Losses stay on the device until :meth:`read`. The means of an epoch survive a resume within it.
    """

    def __init__(self, batch: int, items: str = "images") -> None:
        """
        Args:
            batch: items a step.
            items: what they are, in words.
        """
        self.batch, self.items = batch, items
        self.seconds = 0.0  # of training, since the run began
        self.unsaved = 0.0  # of training, since the last checkpoint
        self.sums: dict[str, float] = {}  # over the epoch
        self.count = 0  # steps of the epoch included in sums
        self.loss = math.nan  # newest
        self.images_per_s = math.nan  # since this start
        self._pending: list[dict[str, Tensor]] = []
        self._images = 0
        self._waited = self._spent = 0.0
        self._since: float | None = None

    def state(self) -> MeterState:
        return MeterState(self.seconds, self.sums, self.count)

    def restore(self, state: MeterState) -> None:
        self.seconds, self.sums, self.count = state.seconds, state.sums, state.count

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        self._since = time.perf_counter()
        try:
            yield
        finally:
            self._lap()
            self._since = None

    @contextlib.contextmanager
    def excluded(self) -> Iterator[None]:
        """Exclude the time in this context from training."""
        self._lap()
        try:
            yield
        finally:
            self._since = time.perf_counter()

    def timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield the batches, and measure the time spent waiting for each."""
        while True:
            started = time.perf_counter()
            batch = next(batches, None)
            self._waited += time.perf_counter() - started
            if batch is None:
                return
            yield batch

    def add(self, out: Step) -> None:
        self._pending.append({"loss": out.loss.detach(), **{k: v.detach() for k, v in out.logs.items()}})
        self._images += self.batch

    def read(self) -> tuple[int, float] | None:
        """Transfer the losses to the host.

        Returns:
            None, or the number of finite losses before the first that is not finite, and that loss.
        """
        names = list(self._pending[0])
        values = torch.stack([torch.stack([p[n].float() for n in names]) for p in self._pending])
        self._pending.clear()
        for i, row in enumerate(dist.all_reduce_mean(values).tolist()):
            if not math.isfinite(row[0]):
                return i, row[0]
            for name, value in zip(names, row, strict=True):
                self.sums[name] = self.sums.get(name, 0.0) + value
            self.count += 1
            self.loss = row[0]
        self._lap()
        self.images_per_s = self._images / self._spent
        return None

    @property
    def unread(self) -> int:
        """Steps since the last :meth:`read`."""
        return len(self._pending)

    def progress(self, step: int, steps: int, epochs: int, evaluation: dict[str, float]) -> Progress:
        return Progress(
            step=step,
            steps=steps,
            epoch=step / steps * epochs,
            epochs=epochs,
            loss=self.loss,
            items=self.items,
            images_per_s=self.images_per_s,
            seconds_left=(steps - step) * self.batch / self.images_per_s,
            waiting=self._waited / self._spent,
            memory_mib=_memory_mib(),
            evaluation=evaluation,
        )

    def end_epoch(self) -> dict[str, float]:
        """The means of the epoch; resets them for the next one."""
        means = {name: total / self.count for name, total in self.sums.items()}
        self.sums, self.count = {}, 0
        return {
            **means,
            "images_per_s": self.images_per_s,
            "waiting": self._waited / self._spent,
            "memory_mib": _memory_mib(),
            "seconds": self.seconds,
        }

    def lap(self) -> float:
        """Seconds of training until now, since the run began."""
        self._lap()
        return self.seconds

    def _lap(self) -> None:
        now = time.perf_counter()
        assert self._since is not None
        spent, self._since = now - self._since, now
        self.seconds += spent
        self.unsaved += spent
        self._spent += spent


def epoch_line(row: dict[str, float], progress: Progress) -> str:
    """An epoch's row of metrics as a line of text."""
    parts = [f"epoch {row['epoch']:.0f}/{progress.epochs}", f"loss {row['loss']:.4f}", progress.pace]
    if "knn" in row:
        parts.append(f"kNN {row['knn']:.1%}")
    if "std" in row:
        parts.append(f"std {row['std']:.2f}/sqrt(d)")
    if "rank" in row:
        parts.append(f"rank {row['rank']:.0f}")
    return "  ".join(parts)


def _memory_mib() -> float:
    """Peak memory of the GPU in use, else of this process."""
    if torch.cuda.is_available() and (peak := torch.cuda.max_memory_allocated()):
        return peak / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
