"""Fine-tuning: a subject's encoder trained on labels, beside a linear probe, training from scratch and published
weights, all on the same labels."""

import hashlib
import statistics
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from contrastkit import bounds, dist, precision
from contrastkit.data import Source
from contrastkit.errors import UserError, check_choice
from contrastkit.evaluate.accuracy import Accuracy, accuracy
from contrastkit.evaluate.classifier import ClassifierRecord, save_classifier
from contrastkit.evaluate.features import labelled
from contrastkit.evaluate.few_labels import FewLabels, choose, class_name, hold_out
from contrastkit.evaluate.finetune_starts import starts_of
from contrastkit.evaluate.finetune_trial import Outcome, Start, Trial, even_batch
from contrastkit.evaluate.journal import Journal
from contrastkit.evaluate.linear import LinearProbe, linear_probe
from contrastkit.evaluate.subject import EvaluationSubject, OnProgress
from contrastkit.evaluate.supervised import LinearClassifier
from contrastkit.parts.encoder import Encoder
from contrastkit.protocols import PROTOCOLS, FinetuneProtocol

MODEL = "model.safetensors"
SEEDS = 3


@dataclass(frozen=True, slots=True)
class FineTuned:
    """Accuracies of one encoder after training with labels."""

    accuracy: Accuracy  # on the test images, mean over the seeds
    seeds: tuple[float, ...]  # top-1 of each seed
    std: float | None  # of top-1 over the seeds (divided by n - 1); None for a single seed
    rate: float  # the chosen learning rate
    rates: tuple[float, ...]
    validation: tuple[
        float | None, ...
    ]  # top-1 of each rate on held-out training images, None where it diverged; or ()
    losses: tuple[float, ...]  # mean training loss of each epoch, of the first seed


@dataclass(frozen=True, slots=True)
class Labels:
    """How many labelled images there are."""

    images: int
    least: int  # of a class
    most: int
    held_out: int  # of them, while the learning rate is chosen
    test: int


@dataclass(frozen=True, slots=True)
class FinetuneReport:
    """Result of :func:`finetune`."""

    data: str  # name of the data set
    protocol: str
    numbers: FinetuneProtocol  # of the protocol, with the user's changes
    size: int  # side in pixels of the images
    precision: str
    labels: Labels
    results: dict[str, FineTuned | LinearProbe]
    model: str | None  # file of the fine-tuned classifier of the first seed
    notices: tuple[str, ...]  # what a reader of the numbers should know, one line each

    def as_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "notices"}


def finetune(
    subject: EvaluationSubject,
    *,
    protocol: str = "tiny",
    numbers: Mapping[str, Any] | None = None,
    few: FewLabels | None = None,
    seeds: int = SEEDS,
    seed: int = 0,
    baselines: bool = False,
    precision_: precision.Precision = "auto",
    out: Path | None = None,
    restart: bool = False,
    on_progress: OnProgress | None = None,
    on_line: Callable[[str], None] = lambda line: None,
) -> FinetuneReport:
    """Fine-tune the subject's first encoder on the labelled training images, or on a few of them.

    Of several learning rates, the one with the best top-1 on held-out training images is chosen, of equally good ones
    the one with the lower cross-entropy there; then classifiers are trained with it on all labelled images, one per
    seed, and only these are evaluated on the test images. A call that was killed goes on where it was when it is
    repeated, with the same result bit for bit.

    Args:
        protocol: a row of :data:`contrastkit.protocols.PROTOCOLS`.
        numbers: fields of the protocol to replace.
        few: which labelled images to use; None: all.
        seeds: number of classifiers trained at the chosen rate, with the seeds ``seed``, ``seed + 1``, ...
        seed: also of the choice of images.
        baselines: also train the same encoder from scratch, and fine-tune its published supervised weights if there are
            any, with the same budget and a rate of their own.
        precision_: arithmetic of the training; images are evaluated in float32.
        out: folder of the state and of the classifier of the first seed, :data:`MODEL`; None keeps neither.
        restart: discard the state of an unfinished call with other arguments.
        on_line: called with a line on each learning rate and seed.

    Raises:
        UserError: no such protocol, a number out of bounds, labels that do not suffice (:func:`choose`), no test part,
            sounds, raw pixels, an encoder without that many layers, every rate diverged, or ``out`` holds the state of
            an unfinished call with other arguments.
    """
    check_choice("protocol", protocol, PROTOCOLS)
    row = replace(PROTOCOLS[protocol], **(numbers or {}))
    bounds.SEEDS.check("--seeds", seeds, whole=True)
    bounds.SEED.check("--seed", seed, whole=True)
    encoder = _encoder(subject)
    train, test = subject.labelled_parts()
    (train, notices), test = choose(train, few or FewLabels(), seed), labelled(test, "fine-tuning")
    starts, more = starts_of(subject, encoder, row, n_classes=subject.n_classes, baselines=baselines)
    held = hold_out(train, seed) if len(row.lr) > 1 else None
    if held is None and len(row.lr) > 1:
        row = replace(row, lr=(row.lr[(len(row.lr) - 1) // 2],))
        more = (*more, f"one image a class leaves none to choose a learning rate on: it is {row.lr[0]:g}, unchecked")
    labels = _labels(train, test, held)
    arithmetic = precision.resolve(precision_, torch.device(subject.device))
    options = {"protocol": asdict(row), "seeds": seeds, "seed": seed, "size": subject.size, "baselines": baselines}
    options |= {"precision": arithmetic, "images": _digest(train), "encoder": _weights(encoder)}
    results: dict[str, FineTuned | LinearProbe] = {}
    with Journal(out, options, restart=restart) as journal:
        for line in _opening(row, labels, journal):
            on_line(line)
        parts = replace(subject, data=replace(subject.data, train=train, test=test))
        work = _Work(Trial(parts, arithmetic, journal), train, test, held, row.lr, range(seed, seed + seeds))
        work.on_progress, work.on_line = on_progress, on_line
        for start in starts:
            save = partial(_save, out, subject, row) if start is starts[0] and out is not None else None
            results[start.name] = work.finetuned(start, save)
            if start is starts[0]:
                name, on, tested = next(parts.labelled_features(on_progress))
                results[f"{name}, linear probe"] = linear_probe(
                    on, tested, n_classes=subject.n_classes, seeds=work.seeds, device=subject.device
                )
    return FinetuneReport(
        data=subject.data.name,
        protocol=protocol,
        numbers=row,
        size=subject.size,
        precision=arithmetic,
        labels=labels,
        results=results,
        model=None if out is None else str(out / MODEL),
        notices=(*notices, *more, *parts.left_out, *_unseen(train, test), *_at_edge(results)),
    )


@dataclass
class _Work:
    """The trainings of all starts, on the same images."""

    trial: Trial
    train: Source
    test: Source
    held: tuple[Source, Source] | None
    rates: tuple[float, ...]
    seeds: range
    on_progress: OnProgress | None = None
    on_line: Callable[[str], None] = lambda line: None

    def finetuned(self, start: Start, save: Callable[[LinearClassifier], None] | None) -> FineTuned:
        """Choose the learning rate, and train with it once per seed; ``save`` gets the first seed's classifier."""
        chosen = self.rates[0]
        validation: tuple[float | None, ...] = ()
        if self.held is not None:
            rest, held_out = self.held
            scores = []
            for rate in self.rates:
                epoch = self._epochs(start, f"learning rate {rate:g}")
                key = f"learning rate {rate:g}"
                scores.append(self.trial.run(start, key, rest, held_out, lr=rate, seed=self.seeds[0], on_epoch=epoch))
                self.on_line(f"{start.name}: {key}: {_told(scores[-1], held_out, 'held-out training')}")
            chosen, validation = _best(self.rates, scores), tuple(None if s.diverged else s.top1 for s in scores)
        finals = []
        for seed in self.seeds:
            epoch, end = self._epochs(start, f"seed {seed}"), save if seed == self.seeds[0] else None
            how: dict[str, Any] = {} if end is None else {"on_end": end}
            key = f"seed {seed}"
            finals.append(
                self.trial.run(start, key, self.train, self.test, lr=chosen, seed=seed, on_epoch=epoch, **how)
            )
            self.on_line(f"{start.name}: {key}, learning rate {chosen:g}: {_told(finals[-1], self.test, 'test')}")
        if any(outcome.diverged for outcome in finals):
            raise UserError(f"{start.name} diverged at learning rate {chosen:g}: give lower ones with --lr")
        top1, top5 = [each.top1 for each in finals], [each.top5 for each in finals]
        n_classes = self.trial.subject.n_classes
        return FineTuned(
            accuracy=accuracy(statistics.fmean(top1), statistics.fmean(top5), len(self.test), n_classes=n_classes),
            seeds=tuple(top1),
            std=statistics.stdev(top1) if len(top1) > 1 else None,
            rate=chosen,
            rates=self.rates,
            validation=validation,
            losses=finals[0].losses,
        )

    def _epochs(self, start: Start, what: str) -> Callable[[int, float], None]:
        """Reports of a training's epochs."""

        def report(epoch: int, loss: float) -> None:
            if self.on_progress is not None:
                self.on_progress(f"{start.name}, {what}: epochs", epoch + 1, start.protocol.epochs)

        return report


def _encoder(subject: EvaluationSubject) -> Encoder:
    """The encoder to fine-tune.

    Raises:
        UserError: there is none, it is for sounds or other channels, or several processes have been started.
    """
    source, encoder = subject.data.train, next(iter(subject.encoders.values()))
    if dist.world_size() > 1:
        raise UserError("fine-tuning runs in one process: start it without torchrun")
    if not isinstance(encoder, Encoder):
        raise UserError("fine-tuning trains an encoder, and raw pixels have none: give a run, or --encoder NAME")
    if not source.modality.has_pixels:
        raise UserError(f"fine-tuning crops and flips images, but these are {source.modality.plural}: use probe")
    if source.channels not in (1, encoder.channels):
        raise UserError(f"{source.name} has {source.channels} channels, the encoder takes {encoder.channels}")
    return encoder


def _labels(train: Source, test: Source, held: tuple[Source, Source] | None) -> Labels:
    assert train.labels is not None
    counts = train.labels.unique(return_counts=True)[1]
    return Labels(len(train), int(counts.min()), int(counts.max()), len(held[1]) if held else 0, len(test))


def _opening(row: FinetuneProtocol, labels: Labels, journal: Journal) -> list[str]:
    """What is about to be done."""
    batch = even_batch(labels.images, row.train_batch)
    a_class = f"{labels.least}" if labels.least == labels.most else f"{labels.least} to {labels.most}"
    lines = [
        f"{labels.images:,} labelled training images ({a_class} a class); {row.epochs} epochs of "
        f"{labels.images // batch:,} steps of {batch} images"
    ]
    if labels.held_out:
        lines.append(f"{len(row.lr)} learning rates, one chosen on {labels.held_out:,} of them that are held out")
    return [*lines, "going on with what an earlier start has done"] if journal.begun else lines


def _told(outcome: Outcome, on: Source, part: str) -> str:
    if outcome.diverged:
        return "diverged"
    return f"{100 * outcome.top1:.2f} % of {len(on):,} {part} images, loss {outcome.loss:.3f}"


def _best(rates: tuple[float, ...], outcomes: list[Outcome]) -> float:
    """The rate with the best top-1, of equally good ones that with the lowest loss.

    Raises:
        UserError: all diverged.
    """
    converged = [(-each.top1, each.loss, rate) for rate, each in zip(rates, outcomes, strict=True) if not each.diverged]
    if not converged:
        raise UserError("fine-tuning diverged at every learning rate: give lower ones with --lr")
    return min(converged)[2]


def _save(out: Path, subject: EvaluationSubject, row: FinetuneProtocol, classifier: LinearClassifier) -> None:
    source = subject.data.train
    record = ClassifierRecord(
        encoder=None if subject.kind is None else dict(subject.kind),
        channels=classifier.encoder.channels,
        neck=getattr(classifier.neck, "layers", ()),
        n_classes=subject.n_classes,
        classes=None if source.classes is None else tuple(source.classes),
        size=subject.size,
    )
    save_classifier(out / MODEL, classifier, record)


def _unseen(train: Source, test: Source) -> list[str]:
    assert train.labels is not None and test.labels is not None
    unseen = sorted(set(test.labels.tolist()) - set(train.labels.tolist()))
    return [f"no labelled training image is of {class_name(test, c)}, which the test part has" for c in unseen]


def _at_edge(results: Mapping[str, FineTuned | LinearProbe]) -> list[str]:
    return [
        f"{name}: the best learning rate, {each.rate:g}, is at the edge: a wider range may do better"
        for name, each in results.items()
        if len(each.validation) > 1 and each.rate in (min(each.rates), max(each.rates))
    ]


def _digest(source: Source) -> str:
    """Of the chosen images and their labels."""
    return hashlib.sha256(source.fingerprint().encode() + source.label_bytes).hexdigest()[:16]


def _weights(encoder: Encoder) -> str:
    """Of an encoder's parameters and buffers."""
    digest = hashlib.sha256()
    for name, value in encoder.state_dict().items():
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def folder_of(subject: EvaluationSubject) -> Path:
    """Where a fine-tuning is kept: ``RUN/finetune``, or ``RUN/finetune-DATA`` on another set than the run's; of an
    encoder by name, ``runs/finetune-ENCODER-DATA``."""
    data = Path(subject.data.name).stem
    if subject.run is not None:
        return subject.run / ("finetune" if subject.reports is not None else f"finetune-{data}")
    name = (subject.kind or {}).get("name", "encoder").replace(":", "-")
    return Path("runs") / f"finetune-{name}-{data}"
