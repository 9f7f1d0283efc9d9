"""One fine-tuning: a classifier, what of it is trained and at which rates, its training, and its score."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastkit import precision
from contrastkit.augment import View
from contrastkit.data import Loader, Source
from contrastkit.data.source import digest
from contrastkit.errors import UserError
from contrastkit.evaluate.accuracy import best_classes, hits, of_mean_1, weighted_mean
from contrastkit.evaluate.classifier import start_head_
from contrastkit.evaluate.features import encode
from contrastkit.evaluate.journal import Journal
from contrastkit.evaluate.subject import EvaluationSubject
from contrastkit.evaluate.supervised import Diverged, LinearClassifier, Objective, train_classifier
from contrastkit.optim import ParamGroup, build_optimizer, learning_rate
from contrastkit.parts.depth import depths, layer_rates
from contrastkit.parts.encoder import Encoder
from contrastkit.protocols import FinetuneProtocol


@dataclass(frozen=True)
class Outcome:
    """What a training leaves behind; shares in [0, 1]. NaN where it diverged."""

    top1: float
    top5: float
    loss: float  # mean cross-entropy on the images that it was scored on
    losses: tuple[float, ...]  # mean training loss of each epoch
    answers: Tensor  # int32, the class that each of these images is taken for; -1 of one that cannot be read

    @property
    def diverged(self) -> bool:
        return math.isnan(self.top1)


@dataclass(frozen=True)
class Start:
    """Where trainings start: ``classifier(seed)`` makes a new one each time, its linear layer yet to be drawn."""

    key: str  # in the journal
    name: str  # as it is shown
    classifier: Callable[[int], LinearClassifier]
    protocol: FinetuneProtocol


@dataclass(frozen=True)
class Trial:
    """How all trainings of a command are run and scored."""

    subject: EvaluationSubject
    precision: precision.Precision
    journal: Journal

    def loader(self, protocol: FinetuneProtocol, source: Source, seed: int) -> Loader:
        """Batches to train on, for any number of trainings one after the other: its processes are those of all."""
        subject = self.subject
        batch, view = even_batch(len(source), protocol.train_batch), training_view(protocol, source, subject.size)
        options: dict[str, Any] = {"workers": subject.workers, "max_bad": subject.max_bad}
        return Loader(source, (view,), batch=batch, seed=seed, device=torch.device(subject.device), **options)

    def run(
        self,
        start: Start,
        key: str,
        loader: Loader,
        test: Source,
        *,
        lr: float,
        on_epoch: Callable[[int, float], None],
        on_end: Callable[[LinearClassifier], None] | None = None,
    ) -> Outcome:
        """Train on the batches of a :meth:`loader`, by its seed, and score on a source; or what the journal has of it.

        Args:
            key: of the training in the journal.
            on_end: gets the trained classifier, unless it diverged, before the journal takes note that it is done.
        """
        key = f"{start.key}, {key}"
        if (done := self.journal.result(key)) is not None:
            return Outcome(**done | {"losses": tuple(done["losses"])})
        place = torch.device(self.subject.device)
        with torch.random.fork_rng([place] if place.type == "cuda" else []):
            torch.manual_seed(loader.seed)
            classifier = start.classifier(loader.seed)
            start_head_(classifier, start.protocol.head_std, loader.seed)
            classifier.to(device=place).to(memory_format=torch.channels_last)
            try:
                losses = self._train(start.protocol, classifier, key, loader, lr=lr, on_epoch=on_epoch)
                outcome = self._score(classifier, test, losses)
            except Diverged:
                outcome = Outcome(math.nan, math.nan, math.nan, (), torch.empty(0, dtype=torch.int32))
        if on_end is not None and not outcome.diverged:
            on_end(classifier)
        self.journal.finish(key, vars(outcome) | {"losses": list(outcome.losses)})
        return outcome

    def _train(
        self,
        protocol: FinetuneProtocol,
        classifier: LinearClassifier,
        key: str,
        loader: Loader,
        *,
        lr: float,
        on_epoch: Callable[[int, float], None],
    ) -> tuple[float, ...]:
        device = torch.device(self.subject.device)
        optimizer = build_optimizer(
            param_groups(classifier, protocol),
            protocol.optimizer,
            lr=lr,
            weight_decay=protocol.weight_decay,
            momentum=protocol.momentum,
            nesterov=protocol.nesterov,
            lr_inside_momentum=True,  # SimCLR's LARS
        )
        schedule = partial(
            learning_rate,
            schedule=protocol.schedule,
            base_lr=lr,
            warmup=protocol.warmup_epochs / protocol.epochs,
            milestones=protocol.milestones,
            gamma=protocol.gamma,
        )
        return train_classifier(
            classifier,
            loader,
            optimizer,
            epochs=protocol.epochs,
            learning_rate=schedule,
            weights=None if loader.source.weights is None else of_mean_1(loader.source.weights),
            objective=Objective(smoothing=protocol.smoothing, mixup=protocol.mixup),
            device=device,
            autocast=precision.autocast(self.precision, device),
            state=self.journal.resume(key, classifier, optimizer),
            on_step=self.journal.keeper(key, classifier, optimizer),
            on_epoch=on_epoch,
        )

    def _score(self, classifier: LinearClassifier, test: Source, losses: tuple[float, ...]) -> Outcome:
        subject = self.subject
        options: dict[str, Any] = {"workers": subject.workers, "max_bad": subject.max_bad, "device": subject.device}
        logits = encode(classifier, test, size=subject.size, batch=subject.batch, **options)
        rows, read = logits.labelled_rows("fine-tuning"), logits.labelled("fine-tuning")
        if not bool(read.x.isfinite().all()):
            raise Diverged("the classifier's outputs are not finite")
        best = best_classes(read.x)
        top1, top5 = (weighted_mean(right, read.weights) for right in hits(best, read.y).double().T)
        answers = torch.full((len(test),), -1, dtype=torch.int32)
        answers[rows] = best[:, 0].int()
        loss = weighted_mean(F.cross_entropy(read.x, read.y, reduction="none"), read.weights)
        return Outcome(top1, top5, loss, losses, answers)


def training_view(protocol: FinetuneProtocol, source: Source, size: int) -> View:
    """Random crops and, unless orientation carries the class, horizontal flips."""
    flip_p = (0.0 if source.orientation_matters else 0.5) if protocol.flip_p is None else protocol.flip_p
    return View(
        size=size,
        crop_min=protocol.crop_min,
        interpolation=protocol.interpolation,
        flip_p=flip_p,
        jitter_p=0.0,
        gray_p=0.0,
    )


def even_batch(n: int, most: int) -> int:
    """The size of the equal batches into which n images are cut, each of at most ``most``; fewer images than there are
    batches are left over."""
    return n // math.ceil(n / most)


def param_groups(classifier: LinearClassifier, protocol: FinetuneProtocol) -> list[ParamGroup]:
    """What is trained, at which factor on the learning rate; the rest of the encoder is frozen.

    Weight decay and LARS's adaptation spare biases and norms, decay also what the encoder exempts (a vision
    transformer's positions and class token), adaptation the linear layer (SimCLR's code).

    Raises:
        UserError: the encoder has fewer layers, or unknown ones.
    """
    encoder, groups = classifier.encoder, dict[tuple[float, bool, bool], ParamGroup]()
    depth, rates, first = _layers(encoder, protocol)
    exempt = _exempt(encoder)
    named = [(name, p, rates[depth[name]], depth[name] >= first) for name, p in encoder.named_parameters()]
    named += [(f"neck.{name}", p, 1.0, protocol.layers != 0) for name, p in classifier.neck.named_parameters()]
    for name, p, rate, is_trained in named:
        p.requires_grad_(is_trained)
        decay = p.ndim > 1 and name not in exempt
        new = ParamGroup(params=[], lr_scale=protocol.encoder_lr * rate, decay=decay, adapt=p.ndim > 1)
        groups.setdefault((rate, decay, p.ndim > 1), new).params.append(p)
    head = [ParamGroup(params=[p], decay=p.ndim > 1, adapt=False) for p in classifier.fc.parameters()]
    return [*groups.values(), *head]


def _layers(encoder: Encoder, protocol: FinetuneProtocol) -> tuple[dict[str, int], list[float], int]:
    """The depth of each parameter, the factor of each depth, and the first depth that is trained."""
    if protocol.layers is None and protocol.layer_decay == 1:
        return dict.fromkeys((name for name, _ in encoder.named_parameters()), 0), [1.0], 0
    depth, n = depths(encoder)
    if protocol.layers is None:
        return depth, layer_rates(n, protocol.layer_decay), 0
    if protocol.layers > n:
        raise UserError(f"--layers {protocol.layers}: this encoder has {n}, and none trains its stem too; at most {n}")
    return depth, layer_rates(n, protocol.layer_decay), n + 2 if not protocol.layers else n + 1 - protocol.layers


def _exempt(encoder: Encoder) -> set[str]:
    """Parameters of more than one dimension that their network exempts from weight decay."""
    named: Any = getattr(encoder.trunk, "no_weight_decay", set)
    return {f"trunk.{name}" for name in named()}


def images_digest(source: Source) -> str:
    """Of images and their labels."""
    return digest(source.fingerprint().encode(), source.label_bytes)
