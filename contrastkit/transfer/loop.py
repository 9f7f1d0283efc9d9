"""The loop that trains what is put on an encoder, step by step, and goes on where it was stopped."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from contrastkit import checkpoint
from contrastkit.data.source import digest
from contrastkit.errors import Interrupted, UserError
from contrastkit.evaluate.origin import encoder_hash
from contrastkit.evaluate.subject import OnProgress
from contrastkit.optim import SchedulePoint, apply_schedule
from contrastkit.parts.encoder import Encoder
from contrastkit.rng import STEPS, generator_seed
from contrastkit.training.signals import Signals
from contrastkit.transfer.batches import Batches, Example
from contrastkit.transfer.boxes import BoxSet
from contrastkit.transfer.masks import MaskSet

CHECK_EVERY = 10  # steps between looks at the loss, for each of which a GPU is waited for
SAVE_SECONDS = 300.0

Log = Callable[[str], None]


class Saved:
    """The file of an unfinished training, and what the training is, so that no other one goes on with it."""

    def __init__(self, file: Path, settings: dict[str, Any]) -> None:
        """``settings``: plain values."""
        self.file, self.settings = file, settings

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
        """Load the state, if there is one; return the number of completed steps.

        Raises:
            UserError: it is damaged, or of a training with other settings.
        """
        if not self.file.exists():
            return 0
        state = checkpoint.load(self.file)
        found = state.get("settings")
        differing = [name for name, value in self.settings.items() if not found or found.get(name) != value]
        advice = f"delete it to start anew, or choose another --out: {self.file}"
        if differing:
            raise UserError(f"an unfinished training has another {', another '.join(differing)}; {advice}")
        try:
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            return int(state["step"])
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"an unfinished training does not fit this one; {advice}") from error

    def write(self, model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
        checkpoint.save(self.file, state | {"settings": self.settings})

    def remove(self) -> None:
        self.file.unlink(missing_ok=True)


def described(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as plain values, equal to themselves after they were written and read."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}


def identity(name: str, encoder: Encoder, data: BoxSet | MaskSet) -> dict[str, str]:
    """Tells a training on this encoder and set from others with its settings: names stay the same where weights, lists
    or annotations change."""
    classes = digest("\n".join(data.classes).encode())
    return {
        "encoder": name,
        "set of weights": encoder_hash(encoder),
        "data": data.name,
        "training part": f"{data.train.fingerprint()}.{classes}",
    }


def telling(task: str, steps: int, log: Log, on_progress: OnProgress) -> Callable[[int, float], None]:
    """What :func:`fit` calls to report its progress: a line at each fifth of the training."""
    told = 0

    def on_step(step: int, loss: float) -> None:
        nonlocal told
        on_progress(task, step, steps)
        if step * 5 // steps > told:
            told = step * 5 // steps
            log(f"step {step:,}/{steps:,}  loss {loss:.4f}")

    return on_step


def fit(
    model: nn.Module,
    loss_of: Callable[[list[Example]], Tensor],
    batches: Batches,
    optimizer: torch.optim.Optimizer,
    *,
    steps: int,
    rate: Callable[[float], float],
    clip_norm: float = 0.0,
    seed: int = 0,
    saved: Saved | None = None,
    log: Log = lambda line: None,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> None:
    """Train to ``steps`` steps. What ``loss_of`` draws from torch's generators is a function of (seed, step), so that a
    training that was stopped ends as it would have.

    Args:
        model: what is saved, on its device and in the mode to train in.
        loss_of: a batch -> the loss, a scalar.
        rate: the learning rate as a function of progress (steps completed / all steps) in [0, 1).
        saved: where the state is kept every few minutes and when a signal stops the training; None keeps nothing.
        on_step: called every few steps with the number of completed steps and the loss.

    Raises:
        Interrupted: by a signal, after the state was saved.
        UserError: the loss is not finite, or the saved state is not of this training.
    """
    step = saved.restore(model, optimizer) if saved else 0
    if step:
        log(f"going on after step {step:,} of {steps:,}")
    written = time.monotonic()
    with Signals(log) as signals:
        for batch in batches.batches(step, steps):
            progress = step / steps
            torch.manual_seed(generator_seed(seed, step, 0, STEPS))
            loss = loss_of(batch)
            loss.backward()
            apply_schedule(optimizer, progress, SchedulePoint(lr=rate(progress), clip_norm=clip_norm))
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
            if step % CHECK_EVERY and step < steps and signals.received is None:
                continue
            if not math.isfinite(value := loss.item()):
                raise UserError(f"the loss is {value} at step {step}, learning rate {rate(progress):.3g}: lower --lr")
            on_step(step, value)
            if saved and (signals.received or step == steps or time.monotonic() - written > SAVE_SECONDS):
                saved.write(model, optimizer, step)
                written = time.monotonic()
            if signals.received is not None:
                if saved:
                    log(f"stopped after step {step:,} of {steps:,}: the same command goes on from there")
                raise Interrupted(signals.received)
