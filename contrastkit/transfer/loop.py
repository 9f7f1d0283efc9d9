"""The loop that trains what is put on an encoder, step by step, and goes on where it was stopped."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from contrastkit.errors import Interrupted
from contrastkit.evaluate.journal import Journal
from contrastkit.evaluate.origin import encoder_hash
from contrastkit.evaluate.subject import OnProgress
from contrastkit.evaluate.supervised import Diverged, LoopState
from contrastkit.optim import SchedulePoint, apply_schedule
from contrastkit.rng import STEPS, generator_seed
from contrastkit.training.signals import Signals
from contrastkit.transfer.batches import Batches, Example
from contrastkit.transfer.boxes import BoxSet
from contrastkit.transfer.masks import MaskSet
from contrastkit.transfer.subject import TransferSubject

CHECK_EVERY = 10  # steps between looks at the loss, for each of which a GPU is waited for

Log = Callable[[str], None]


def journal_of(
    task: str,
    states: Path | None,
    subject: TransferSubject,
    data: BoxSet | MaskSet,
    settings: dict[str, Any],
    *,
    restart: bool = False,
) -> Journal:
    """The journal of the trainings of a task on the subject's encoders, in a folder of its own in ``states``.

    It also tells encoders and sets by what they are: names stay the same where weights, lists or annotations change.
    Baselines may come and go between two starts: what is done of the other encoders stays.

    Args:
        states: None keeps nothing.
        settings: plain values.
        restart: discard the state of an unfinished task with others.

    Raises:
        UserError: see :class:`Journal`.
    """
    if states is None:
        return Journal(None, {})
    parts = {"training part": data.train.fingerprint(), "test part": data.test.fingerprint()}
    weights = {name: encoder_hash(encoder) for name, encoder in subject.encoders.items()}
    options = settings | {"data": data.name, "classes": data.classes} | parts
    how: dict[str, Any] = {"weights": weights, "device": subject.device, "restart": restart}
    return Journal(states / f"{task}-{data.name}", options, **how)


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
    journal: Journal | None = None,
    key: str = "",
    log: Log = lambda line: None,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> None:
    """Train to ``steps`` steps. What ``loss_of`` draws from torch's generators is a function of (seed, step), so that a
    training that was stopped ends as it would have.

    Args:
        model: what is saved, on its device and in the mode to train in.
        loss_of: a batch -> the loss, a scalar.
        rate: the learning rate as a function of progress (steps completed / all steps) in [0, 1).
        journal: where the state is kept now and then and when a signal stops the training; None keeps nothing.
        key: of this training there.
        on_step: called every few steps with the number of completed steps and the loss.

    Raises:
        Interrupted: by a signal, after the state was saved.
        Diverged: the loss is not finite.
        UserError: the state in the journal does not fit.
    """
    journal = Journal(None, {}) if journal is None else journal
    resumed, keep = journal.resume(key, model, optimizer), journal.keeper(key, model, optimizer)
    step = 0 if resumed is None else resumed.step
    if step:
        log(f"going on after step {step:,} of {steps:,}")
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
                raise Diverged(f"the loss is {value} at step {step}, learning rate {rate(progress):.3g}: lower --lr")
            on_step(step, value)
            keep(LoopState(step, loss.detach(), ()), now=signals.received is not None or step == steps)
            if signals.received is not None:
                if journal.file is not None:
                    log(f"stopped after step {step:,} of {steps:,}: the same command goes on from there")
                raise Interrupted(signals.received)
