"""MoCo's linear protocol: a linear classifier trained on augmented images, behind a frozen encoder."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from contrastkit.augment import View
from contrastkit.data import Loader, Source
from contrastkit.data.loader import MAX_BAD
from contrastkit.errors import UserError
from contrastkit.evaluate.accuracy import Accuracy, accuracy_of
from contrastkit.evaluate.by_environment import ByEnvironment, by_environment
from contrastkit.evaluate.confusion import ClassResult, class_names, per_class
from contrastkit.evaluate.features import Features, encode, labelled
from contrastkit.evaluate.linear import classified
from contrastkit.evaluate.supervised import LinearClassifier, train_classifier
from contrastkit.names import MOCO_EPOCHS, MOCO_RATE
from contrastkit.optim import ParamGroup, build_optimizer, learning_rate
from contrastkit.parts.encoder import Encoder
from contrastkit.parts.mode import evaluating


@dataclass(frozen=True, slots=True)
class ProtocolResult:
    """Result of :func:`moco_protocol`."""

    accuracy: Accuracy  # on the test images after the last epoch
    losses: tuple[float, ...]  # mean training loss of each epoch
    rate: float  # learning rate of the first epochs
    per_class: dict[str, ClassResult]
    environments: ByEnvironment | None = None  # None where the test images have none


def moco_protocol(
    encoder: Encoder,
    train: Source,
    test: Source,
    *,
    size: int,
    n_classes: int,
    classes: Sequence[str] | None = None,
    lr: float = MOCO_RATE,
    epochs: int = MOCO_EPOCHS,
    milestones: Sequence[float] = (0.6, 0.8),
    batch: int = 256,
    workers: int = 0,
    max_bad: float = MAX_BAD,
    seed: int = 0,
    device: str | torch.device = "cpu",
    on_epoch: Callable[[int, float], None] | None = None,
) -> ProtocolResult:
    """The linear classification protocol of the paper (He et al. 2019, Sec. 4.1), on the images themselves.

    A linear layer, weights N(0, 0.01) and bias 0, on the frozen encoder in eval mode; SGD with momentum 0.9, learning
    rate 30, no weight decay, batch 256, 100 epochs, the rate times 0.1 at 60 and 80. The test images get the plain view
    and are evaluated once, after the last epoch; the official script prints the best of its epochs. The last, partial
    batch of an epoch is dropped; the official script keeps it. Weights of the training images are those of the source.

    Args:
        size: side of the images that the encoder sees, in pixels.
        classes: names of the classes 0 ... n_classes - 1; None: their numbers.
        max_bad: share of unreadable images above which this raises a UserError. In training the next image stands in
            for one; of the test images they are left out.
        on_epoch: called with the epoch (from 0) and its mean loss.

    Raises:
        UserError: no labels, or the loss is not finite.
        RuntimeError: a parameter or buffer of the encoder changed, which is a bug.
    """
    train, test = labelled(train, "the linear probe"), labelled(test, "the linear probe")
    if train.channels not in (1, encoder.channels):
        raise UserError(f"{train.name} has {train.channels} channels, the encoder takes {encoder.channels}")
    device = torch.device(device)
    view = crop_and_flip(train, size)
    classifier = initial_classifier(encoder, n_classes, seed).to(device)
    fc = classifier.fc
    options: dict[str, Any] = {"workers": workers, "max_bad": max_bad, "device": device}
    loader = Loader(train, (view,), batch=min(batch, len(train)), seed=seed, **options)
    with loader, evaluating(encoder), unchanged(encoder):
        losses = train_classifier(
            classifier,
            loader,
            build_optimizer([ParamGroup(params=list(fc.parameters()))], "sgd", lr=lr, weight_decay=0.0),
            epochs=epochs,
            learning_rate=partial(learning_rate, schedule="step", base_lr=lr, milestones=milestones),
            weights=train.weights,
            device=device,
            on_epoch=on_epoch,
        )
        features = encode(encoder, test, size=size, **options).read()
    return _result(features, fc, losses, lr, class_names(classes, n_classes))


def _result(
    test: Features, fc: nn.Linear, losses: tuple[float, ...], lr: float, names: Sequence[str]
) -> ProtocolResult:
    (best,) = classified(test, fc.weight.detach().T[:, None], fc.bias.detach()[None])
    assert best is not None  # the loss was finite
    accuracy = accuracy_of(best, test.y, n_classes=len(names))
    environments = by_environment(best[:, 0], test.y, test.environment)
    return ProtocolResult(accuracy, losses, lr, per_class(best[:, 0], test.y, names), environments)


def crop_and_flip(source: Source, size: int) -> View:
    """Random crops of 8-100 % of the area and, unless orientation carries the class, horizontal flips."""
    return View(size=size, crop_min=0.08, flip_p=0.0 if source.orientation_matters else 0.5, jitter_p=0.0, gray_p=0.0)


def initial_classifier(encoder: Encoder, n_classes: int, seed: int) -> LinearClassifier:
    """A linear layer on the frozen encoder, weights N(0, 0.01) and bias 0."""
    classifier = LinearClassifier(encoder, n_classes, frozen=True)
    nn.init.normal_(classifier.fc.weight, std=0.01, generator=torch.Generator().manual_seed(seed))
    nn.init.zeros_(classifier.fc.bias)
    return classifier


@contextlib.contextmanager
def unchanged(encoder: nn.Module) -> Iterator[None]:
    """Verify at the end that no parameter or buffer has changed.

    Raises:
        RuntimeError: one has.
    """
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    yield
    after = encoder.state_dict()
    if changed := [name for name, value in before.items() if not torch.equal(value, after[name])]:
        raise RuntimeError(f"the frozen encoder changed while it was probed: {', '.join(changed)}")
