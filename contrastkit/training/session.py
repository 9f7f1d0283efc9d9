"""Everything around the steps of a training: measuring, reporting, evaluating, saving, stopping."""

import contextlib
import time
from collections.abc import Iterator

import torch

from contrastkit import dist
from contrastkit.data import Loader
from contrastkit.errors import UserError
from contrastkit.methods import Method, Recipe
from contrastkit.monitor import Monitor
from contrastkit.precision import Autocast
from contrastkit.run import Run
from contrastkit.training import outlook, state
from contrastkit.training.progress import Meter, Reporter, epoch_line
from contrastkit.training.signals import Signals
from contrastkit.types import Batch, Step

WAITING = 0.1  # share of the time spent waiting for data, above which the input is said to be the bound
EVALUATING = 0.1  # share of the rest's time that evaluations take, above which it is said
CHECK_EVERY = 10  # steps between transfers of the losses to the host, each of which waits for the device
SAVE_SECONDS = 900.0  # training time between checkpoints within a long epoch


class Session:
    """One start of a training: the loop calls :meth:`after_step`, which reads the losses every few steps, and at the
    end of an epoch evaluates, records and saves.

    Attributes:
        stopped: whether a signal to any process made :meth:`after_step` stop the loop.
    """

    def __init__(
        self,
        name: str,
        method: Method,
        recipe: Recipe,
        loader: Loader,
        optimizer: torch.optim.Optimizer,
        *,
        run: Run,
        monitor: Monitor,
        reporter: Reporter,
        device: torch.device,
        autocast: Autocast,
        save_every: int,
    ) -> None:
        self.name, self.method, self.recipe, self.loader, self.optimizer = name, method, recipe, loader, optimizer
        self.run, self.monitor, self.reporter = run, monitor, reporter
        self.device, self.autocast, self.save_every = device, autocast, save_every
        self.meter = Meter(recipe.batch, recipe.modality.plural)
        self.steps = recipe.epochs * loader.steps_per_epoch
        self.signals = Signals(reporter.log)
        self.pace = outlook.Pace(device, ahead=loader.ahead)
        self.stopped = self._told = self._explained = False

    def resume(self) -> int:
        """Restore the run's last checkpoint; return the number of completed steps."""
        step = 0
        if self.run.last.exists():
            step = state.restore(self.run, self.name, self.method, self.optimizer, self.meter, self.device)
            if not 0 <= step <= self.steps:
                raise UserError(f"{self.run.last} is damaged: step must lie between 0 and {self.steps}, not {step}")
        elif (weights := self.run.record.weights) is not None:
            raise UserError(
                f"{self.run.path} ended before it had its weights, those of {weights.source}: start a new run from them"
            )
        else:
            self.reporter.log(f"{self.run.path} has no checkpoint yet: starting from scratch")
        self.run.rewind(step)
        self.monitor.resume(self.run.metrics())
        return step

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Catch signals and measure time."""
        with self.signals, self.meter.running():
            yield

    def evaluate_start(self) -> None:
        """Log and record what the starting weights are worth, before the first step; once, also if that is repeated."""
        if not self.monitor.every or any("knn" in row for row in self.run.metrics()):
            return
        if (knn := self.monitor.knn(self.method, self.autocast)) is not None:
            self.reporter.log(f"before the first step, the starting weights have kNN {knn:.1%}")
            self._record({"step": 0, "epoch": 0, "knn": knn})

    def timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        return self.meter.timed(batches)

    def after_step(self, step: int, out: Step) -> bool:
        """Process the end of a step, the ``step``-th of the schedule, counted from 1.

        Returns:
            Whether to leave the loop; if so, everything has been saved.

        Raises:
            UserError: a loss or a weight is not finite, or too many images are unreadable.
        """
        self.meter.add(out)
        self.pace.mark(self.meter)
        epoch_ends = step % self.loader.steps_per_epoch == 0
        signalled = self.signals.received is not None and dist.world_size() == 1
        if not (signalled or epoch_ends or step % CHECK_EVERY == 0):
            return False
        self._read_losses(step)
        line = None if signalled else self.pace.project(self.steps - step, self.meter, evaluates=self.monitor.every > 0)
        if line is not None:
            self.reporter.log(line)
        progress = self.meter.progress(step, self.steps, self.recipe.epochs, self.monitor.latest)
        self.reporter.on_step(progress)
        flags = self.signals.received is not None, self.meter.unsaved > SAVE_SECONDS, self.loader.has_news
        self.stopped, overdue, unreadable = dist.any_of(flags, self.device)
        if unreadable:
            for path, reason in self.loader.share_unreadable():
                self.reporter.log(f"cannot read {path} ({reason}): substituted the next image")
        if epoch_ends:
            row = self._end_epoch(step)
            self.reporter.log(epoch_line(row, progress))
            self._explain(row)
            if row["waiting"] > WAITING and not self._told:
                self.reporter.log(f"{row['waiting']:.0%} of the time goes into waiting for data: {self.loader.advice}")
                self._told = True
            self._save(step, keep=self._keep(step // self.loader.steps_per_epoch))
        elif self.stopped or overdue:
            self._save(step)
        return self.stopped

    def _explain(self, row: dict[str, float]) -> None:
        """Once, below the first line with an evaluation, or the first one if there is none to come: its numbers."""
        if not self._explained and ("std" in row or not self.monitor.every):
            self._explained = True
            if (line := outlook.legend(self.method, row)) is not None:
                self.reporter.log(line)

    def _read_losses(self, step: int) -> None:
        first = step - self.meter.unread + 1
        if (failure := self.meter.read()) is not None:
            i, loss = failure
            lr = self.recipe.schedule_at((first + i - 1) / self.steps).lr
            raise UserError(
                f"the loss is {loss} at step {first + i}, learning rate {lr:.3g}: "
                f"lower --lr, add --warmup-epochs or --clip-norm; {self.run.last_good}"
            )

    def _end_epoch(self, step: int) -> dict[str, float]:
        """Evaluate if due; record the epoch's metrics."""
        epoch = step // self.loader.steps_per_epoch
        lr = self.recipe.schedule_at((step - 1) / self.steps).lr
        row = {
            "step": step, "epoch": epoch, "lr": lr, **self.meter.end_epoch(),
            "unreadable": len(self.loader.unreadable),
        }  # fmt: skip
        if self.monitor.chance_loss is not None:
            row["chance_loss"] = self.monitor.chance_loss
        if self.monitor.due(epoch, last=step == self.steps):
            with self.meter.excluded():
                dist.average_batch_norm(self.method)
                row |= self._evaluate(epoch, row["loss"])
            if self.monitor.warning:
                self.reporter.log(self.monitor.warning)
        self._record(row)
        return row

    def _record(self, row: dict[str, float]) -> None:
        if (notice := self.run.add_metrics(row)) is not None:
            self.reporter.log(notice)

    def _evaluate(self, epoch: int, loss: float) -> dict[str, float]:
        """Evaluate; the first time, say what the evaluations to come take if that is much."""
        began, first = time.perf_counter(), not self._explained
        row = self.monitor.evaluate(self.method, loss, self.autocast)
        spent, epochs = time.perf_counter() - began, self.recipe.epochs
        left = sum(self.monitor.due(e, last=e == epochs) for e in range(epoch + 1, epochs + 1))
        training = self.meter.seconds / epoch * (epochs - epoch)
        if first and left * spent > EVALUATING * training:
            self.reporter.log(
                f"an evaluation takes {outlook.duration(spent)}, the {left} to come {outlook.duration(left * spent)} "
                "(--monitor-every)"
            )
        return row

    def _keep(self, epoch: int) -> str | None:
        return f"epoch-{epoch:04d}.pt" if self.save_every and epoch % self.save_every == 0 else None

    def save(self, step: int, *, keep: str | None = None) -> None:
        """Write the state after ``step`` steps, see :func:`contrastkit.training.state.save`."""
        state.save(self.run, self.name, step, self.method, self.optimizer, self.meter, self.device, keep=keep)

    def _save(self, step: int, *, keep: str | None = None) -> None:
        with self.meter.excluded():
            self.save(step, keep=keep)
            self.meter.unsaved = 0.0
