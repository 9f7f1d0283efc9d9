"""The supervised loop: training a classifier with labels. Linear protocols, baselines and fine-tuning differ only in
classifier, optimizer and schedule."""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contrastkit.compat import BatchNorm
from contrastkit.data import Loader
from contrastkit.errors import UserError
from contrastkit.optim import SchedulePoint, apply_schedule
from contrastkit.parts.encoder import Encoder
from contrastkit.precision import Autocast
from contrastkit.rng import MIXUP, at_step, beta


class LinearClassifier(nn.Module):
    """An encoder, then a linear layer ``fc``: images [N, 1 or channels, H, W] float in [0, 1] -> logits [N, n_classes].

    Gray images are repeated for an encoder of three channels. In training, parts of the encoder without a trained
    parameter are in eval mode.
    """

    def __init__(
        self,
        encoder: Encoder,
        n_classes: int,
        *,
        frozen: bool = False,
        neck: nn.Module | None = None,
        batch_norm: Literal["train", "eval"] = "train",
    ) -> None:
        """
        Args:
            frozen: keep the encoder in eval mode and without gradients, whatever its parameters require.
            neck: between the two: features [N, D] -> [N, D'], with an attribute ``dim``, D'.
            batch_norm: "eval" normalises by the encoder's running statistics, in training too, and keeps them.
        """
        super().__init__()
        self.encoder, self.frozen, self.batch_norm = encoder, frozen, batch_norm
        self.neck = nn.Identity() if neck is None else neck
        self.fc = nn.Linear(getattr(self.neck, "dim", encoder.dim), n_classes)

    def forward(self, images: Tensor) -> Tensor:
        images = images.expand(-1, self.encoder.channels, -1, -1).contiguous(memory_format=torch.channels_last)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            features = self.encoder(images)
        return self.fc(self.neck(features))

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        for part in (*self.encoder.modules(), *self.neck.modules()):
            if _is_frozen(part) or (self.batch_norm == "eval" and isinstance(part, BatchNorm)):
                part.eval()
        return self


def _is_frozen(part: nn.Module) -> bool:
    """Whether a part has parameters and none of them is trained."""
    params = list(part.parameters())
    return bool(params) and not any(p.requires_grad for p in params)


class Diverged(UserError):
    """The loss of a training is not finite."""


@dataclass(frozen=True)
class LoopState:
    """How far a training has come: all that resuming it needs beside classifier, optimizer and torch's generator."""

    step: int  # steps completed
    total: Tensor  # of this epoch's losses
    losses: tuple[float, ...]  # mean loss of each completed epoch

    def after(self, loss: Tensor, length: int) -> "LoopState":
        """The state after one more step with this loss, in epochs of ``length`` steps."""
        step, total = self.step + 1, self.total.to(loss.device) + loss
        if step % length:
            return LoopState(step, total, self.losses)
        return LoopState(step, torch.zeros_like(total), (*self.losses, total.item() / length))


@dataclass(frozen=True)
class Objective:
    """What is minimised: cross-entropy with the targets softened or mixed.

    Attributes:
        smoothing: e of label smoothing (Szegedy et al. 2015, arXiv:1512.00567, Sec. 7): the target is 1 - e for the
            class, plus e / n_classes for each.
        mixup: alpha of mixup (Zhang et al. 2017, arXiv:1710.09412, Sec. 2): images x_i and their targets become
            s x_i + (1 - s) x_j, with one s ~ Beta(alpha, alpha) a batch as in the official code, a function of seed and
            step. Its j is a random permutation of the batch; ours is the next image of a batch whose order is random.
            0 disables it.
    """

    smoothing: float = 0.0
    mixup: float = 0.0

    def share(self, seed: int, progress: float) -> float:
        """The share s of each image itself, at ``progress``."""
        return beta(seed, at_step(progress), MIXUP, self.mixup) if self.mixup else 1.0

    def loss(self, logits: Tensor, label: Tensor, weights: Tensor | None, share: float) -> Tensor:
        """The mean over a batch: logits [n, n_classes] of the mixed images, label int64 [n], weights float [n]."""
        label = label.to(logits.device)
        if share < 1:
            of_next = None if weights is None else weights.roll(-1)
            own, other = (self.loss(logits, *of, 1.0) for of in ((label, weights), (label.roll(-1), of_next)))
            return share * own + (1 - share) * other
        if weights is None:
            return F.cross_entropy(logits, label, label_smoothing=self.smoothing)
        losses = F.cross_entropy(logits, label, reduction="none", label_smoothing=self.smoothing)
        return (weights.to(logits.device) * losses).mean()


PLAIN = Objective()


def train_classifier(
    classifier: nn.Module,
    loader: Loader,
    optimizer: torch.optim.Optimizer,
    *,
    epochs: int,
    learning_rate: Callable[[float], float],
    weights: Tensor | None = None,
    objective: Objective = PLAIN,
    device: str | torch.device = "cpu",
    autocast: Autocast = contextlib.nullcontext,
    state: LoopState | None = None,
    on_step: Callable[[LoopState], None] = lambda state: None,
    on_epoch: Callable[[int, float], None] | None = None,
) -> tuple[float, ...]:
    """Train a classifier on the first view of labelled images; return each epoch's mean loss.

    With weights w the loss of a batch of n images is sum_i w_i l_i / n, so weights of mean 1 keep its scale. The
    classifier is left in training mode.

    Args:
        classifier: images [N, C, H, W] float in [0, 1] -> logits [N, n_classes], on ``device``.
        loader: batches of a source whose images all have labels.
        optimizer: of :func:`contrastkit.optim.build_optimizer`.
        learning_rate: the rate as a function of progress (steps completed / all steps) in [0, 1).
        weights: float [images of the source], not negative: the weight of each image in the loss. None: equal weights.
        autocast: returns the context in which the classifier runs; the loss is computed in float32.
        state: where to go on; classifier, optimizer and torch's generator are those of that step.
        on_step: called after each step with the state.
        on_epoch: called with the epoch (from 0) and its mean loss.

    Raises:
        UserError: an image without a label, or weights that do not match.
        Diverged: a loss that is not finite.
    """
    _check(loader, weights)
    steps = epochs * loader.steps_per_epoch
    state = state or LoopState(0, torch.zeros((), device=device), ())
    classifier.train()
    for batch in loader.batches(state.step, steps):
        progress = state.step / steps
        images, share = (
            batch.views[0].to(device, memory_format=torch.channels_last),
            objective.share(loader.seed, progress),
        )
        with autocast():
            logits = classifier(images if share == 1 else share * images + (1 - share) * images.roll(-1, 0))
        weight = None if weights is None else weights[batch.index].float()
        loss = objective.loss(logits.float(), batch.label, weight, share)
        loss.backward()
        apply_schedule(optimizer, progress, SchedulePoint(lr=learning_rate(progress)))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        state = state.after(loss.detach(), loader.steps_per_epoch)
        if state.step % loader.steps_per_epoch == 0:
            _require_finite(state, lambda step: learning_rate(step / steps))
            if on_epoch is not None:
                on_epoch(len(state.losses) - 1, state.losses[-1])
        on_step(state)
    return state.losses


def _require_finite(state: LoopState, rate: Callable[[int], float]) -> None:
    if not math.isfinite(state.losses[-1]):
        raise Diverged(
            f"the loss is {state.losses[-1]} in epoch {len(state.losses) - 1}: lower the learning rate of "
            f"{max(map(rate, range(state.step))):g}"
        )


def _check(loader: Loader, weights: Tensor | None) -> None:
    source = loader.source
    if source.labels is None or bool((source.labels < 0).any()):
        raise UserError(f"{source.name} has images without a label: exclude them")
    if weights is None:
        return
    if weights.shape != (len(source),):
        raise UserError(f"{source.name} has {len(source)} images, but there are {len(weights)} weights")
    if not bool((weights.isfinite() & (weights >= 0)).all()):
        raise UserError("the weights of images must be finite and not negative")
