"""The supervised loop: training a classifier with labels. Linear protocols, baselines and fine-tuning differ only in
classifier, optimizer and schedule."""

import contextlib
import math
from collections.abc import Callable
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contrastkit.data import Loader
from contrastkit.errors import UserError
from contrastkit.optim import SchedulePoint, apply_schedule
from contrastkit.parts.encoder import Encoder
from contrastkit.precision import Autocast


class LinearClassifier(nn.Module):
    """An encoder, then a linear layer ``fc``: images [N, 1 or channels, H, W] float in [0, 1] -> logits [N, n_classes].

    Gray images are repeated for an encoder of three channels. A ``frozen`` encoder stays in eval mode and gets no
    gradient.
    """

    def __init__(self, encoder: Encoder, n_classes: int, *, frozen: bool = False) -> None:
        super().__init__()
        self.encoder, self.frozen = encoder, frozen
        self.fc = nn.Linear(encoder.dim, n_classes)

    def forward(self, images: Tensor) -> Tensor:
        images = images.expand(-1, self.encoder.channels, -1, -1).contiguous(memory_format=torch.channels_last)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            features = self.encoder(images)
        return self.fc(features)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self


def train_classifier(
    classifier: nn.Module,
    loader: Loader,
    optimizer: torch.optim.Optimizer,
    *,
    epochs: int,
    learning_rate: Callable[[float], float],
    weights: Tensor | None = None,
    device: str | torch.device = "cpu",
    autocast: Autocast = contextlib.nullcontext,
    on_epoch: Callable[[int, float], None] | None = None,
) -> tuple[float, ...]:
    """Train a classifier with cross-entropy on the first view of labelled images; return each epoch's mean loss.

    With weights w the loss of a batch of n images is sum_i w_i l_i / n, so weights of mean 1 keep its scale. The
    classifier is left in training mode.

    Args:
        classifier: images [N, C, H, W] float in [0, 1] -> logits [N, n_classes], on ``device``.
        loader: batches of a source whose images all have labels.
        optimizer: of :func:`contrastkit.optim.build_optimizer`.
        learning_rate: the rate as a function of progress (steps completed / all steps) in [0, 1).
        weights: float [images of the source], not negative: the weight of each image in the loss. None: equal weights.
        autocast: returns the context in which the classifier runs; the loss is computed in float32.
        on_epoch: called with the epoch (from 0) and its mean loss.

    Raises:
        UserError: an image without a label, weights that do not match, or a loss that is not finite.
    """
    _check(loader, weights)
    steps, step = epochs * loader.steps_per_epoch, 0
    losses: list[float] = []
    classifier.train()
    for epoch in range(epochs):
        total = torch.zeros((), device=device)
        for batch in loader.batches(epoch * loader.steps_per_epoch, (epoch + 1) * loader.steps_per_epoch):
            progress = step / steps
            with autocast():
                logits = classifier(batch.views[0].to(device, memory_format=torch.channels_last))
            loss = _loss(logits.float(), batch.label, None if weights is None else weights[batch.index].float())
            loss.backward()
            apply_schedule(optimizer, progress, SchedulePoint(lr=learning_rate(progress)))
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            total += loss.detach()
            step += 1
        losses.append(total.item() / loader.steps_per_epoch)
        if not math.isfinite(losses[-1]):
            peak = max(learning_rate(i / steps) for i in range(step))
            raise UserError(f"the loss is {losses[-1]} in epoch {epoch}: lower the learning rate of {peak:g}")
        if on_epoch is not None:
            on_epoch(epoch, losses[-1])
    return tuple(losses)


def _loss(logits: Tensor, label: Tensor, weights: Tensor | None) -> Tensor:
    """Cross-entropy of logits [n, n_classes], averaged over the batch with the weight [n] of each image."""
    label = label.to(logits.device)
    if weights is None:
        return F.cross_entropy(logits, label)
    return (weights.to(logits.device) * F.cross_entropy(logits, label, reduction="none")).mean()


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
