"""MoCo's linear protocol: a linear classifier trained on augmented images, behind a frozen encoder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from contrastkit.augment import View
from contrastkit.data import Loader, Source
from contrastkit.errors import UserError
from contrastkit.evaluate.accuracy import Accuracy, accuracy
from contrastkit.evaluate.features import encode, evaluating, labelled
from contrastkit.evaluate.linear import score_classifiers
from contrastkit.evaluate.supervised import LinearClassifier, train_classifier
from contrastkit.optim import ParamGroup, build_optimizer, learning_rate
from contrastkit.parts.encoder import Encoder


@dataclass(frozen=True, slots=True)
class ProtocolResult:
    """Result of :func:`moco_protocol`."""

    accuracy: Accuracy  # on the test images after the last epoch
    losses: tuple[float, ...]  # mean training loss of each epoch
    rate: float  # learning rate


def moco_protocol(
    encoder: Encoder,
    train: Source,
    test: Source,
    *,
    size: int,
    n_classes: int,
    lr: float = 30.0,
    epochs: int = 100,
    milestones: Sequence[float] = (0.6, 0.8),
    batch: int = 256,
    workers: int = 0,
    seed: int = 0,
    device: str | torch.device = "cpu",
    on_epoch: Callable[[int, float], None] | None = None,
) -> ProtocolResult:
    """The linear classification of the paper (He et al. 2019, Sec. 4.1) on the images themselves.

    A linear layer, weights N(0, 0.01) and bias 0, on the frozen encoder in eval mode; SGD with momentum 0.9, rate 30,
    no weight decay, batch 256, 100 epochs, the rate times 0.1 at 60 and 80. Training images are cropped at random to
    8-100 % of their area and flipped (not where orientation carries the class); test images get the plain view. The
    test images are looked at once, at the end; the official script prints the best of its epochs. An epoch's last,
    partial batch is dropped, which the official script keeps.

    Args:
        size: side of the images that the encoder sees, in pixels.
        on_epoch: called with the epoch (from 0) and its mean loss.

    Raises:
        UserError: no labels, or the loss is not finite.
        RuntimeError: the encoder changed, parameters or buffers; it never should.
    """
    train = labelled(train, "the linear probe")
    if train.channels not in (1, encoder.channels):
        raise UserError(f"{train.name} has {train.channels} channels, the encoder takes {encoder.channels}")
    view = View(size=size, crop_min=0.08, flip_p=0.0 if train.orientation_matters else 0.5, jitter_p=0.0, gray_p=0.0)
    device = torch.device(device)
    loader = Loader(train, (view,), batch=min(batch, len(train)), seed=seed, workers=workers, device=device)
    classifier = LinearClassifier(encoder, n_classes, frozen=True)
    fc = classifier.fc
    nn.init.normal_(fc.weight, std=0.01, generator=torch.Generator().manual_seed(seed))
    nn.init.zeros_(fc.bias)
    classifier.to(device)
    optimizer = build_optimizer([ParamGroup(params=list(fc.parameters()))], "sgd", lr=lr, weight_decay=0.0)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    with evaluating(encoder):
        losses = train_classifier(
            classifier,
            loader,
            optimizer,
            epochs=epochs,
            learning_rate=partial(learning_rate, schedule="step", base_lr=lr, milestones=milestones),
            device=device,
            on_epoch=on_epoch,
        )
    features = encode(encoder, labelled(test, "the linear probe"), size=size, workers=workers, device=device)
    after = encoder.state_dict()
    if changed := [name for name, value in before.items() if not torch.equal(value, after[name])]:
        raise RuntimeError(f"the frozen encoder changed while it was probed: {', '.join(changed)}")
    (scores,) = score_classifiers(features, fc.weight.detach().T[:, None], fc.bias.detach()[None])
    assert scores is not None  # the loss was finite
    top1, top5 = scores
    return ProtocolResult(accuracy(top1, top5 if n_classes > 5 else None, len(features.y)), losses, lr)
