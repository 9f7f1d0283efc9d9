"""Fine-tuning: a subject's encoder trained on labels, beside a linear probe, training from scratch and published
weights, all on the same labels."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from contrastkit import bounds
from contrastkit.data import Loader, Source
from contrastkit.data.source import digest
from contrastkit.errors import check_choice
from contrastkit.evaluate.accuracy import accuracy
from contrastkit.evaluate.by_environment import by_environment
from contrastkit.evaluate.classifier import ClassifierRecord, save_classifier
from contrastkit.evaluate.confusion import classes_without_training, per_class
from contrastkit.evaluate.features import labelled
from contrastkit.evaluate.few_labels import FewLabels, choose, drawing_order, folds
from contrastkit.evaluate.finetune_report import FineTuned, FinetuneReport, Labels, opening
from contrastkit.evaluate.finetune_starts import starts_of, trainable_encoder
from contrastkit.evaluate.finetune_trial import Outcome, Start, Trial, images_digest
from contrastkit.evaluate.journal import Journal
from contrastkit.evaluate.linear import LinearProbe, linear_probe
from contrastkit.evaluate.origin import encoder_hash
from contrastkit.evaluate.subject import EvaluationSubject, OnProgress
from contrastkit.evaluate.supervised import Diverged, LinearClassifier
from contrastkit.evaluate.weighting import weighted
from contrastkit.parts.encoder import Encoder
from contrastkit.precision import Precision, resolve
from contrastkit.protocols import PROTOCOLS, FinetuneProtocol

MODEL = "model.safetensors"
SEEDS = 3


def finetune(
    subject: EvaluationSubject,
    *,
    protocol: str = "tiny",
    numbers: Mapping[str, Any] | None = None,
    few: FewLabels | None = None,
    weights: Path | None = None,
    seeds: int = SEEDS,
    seed: int = 0,
    baselines: bool = False,
    precision: Precision = "auto",
    out: Path | None = None,
    restart: bool = False,
    on_progress: OnProgress | None = None,
    on_line: Callable[[str], None] = lambda line: None,
) -> FinetuneReport:
    """Fine-tune the subject's first encoder on the labelled training images, or on a few of them.

    Of several learning rates, the one with the best top-1 on held-out training images is chosen, of equally good ones
    the one with the lower cross-entropy there; then classifiers are trained with it on all labelled images, and only
    these are evaluated on the test images. A call that was killed goes on when it is repeated, bit for bit.

    Args:
        protocol: a row of :data:`contrastkit.protocols.PROTOCOLS`.
        numbers: fields of the protocol to replace.
        few: which labelled images to use; None: all.
        weights: a file with those of the training images (:func:`contrastkit.evaluate.weighting.weighted`).
        seeds: classifiers trained at the chosen rate, with the seeds ``seed``, which chooses images too, and following.
        baselines: also train the encoder from scratch, and fine-tune its published weights, if any, at their own rates.
        precision: arithmetic of the training; images are evaluated in float32.
        out: folder of the state and of the classifier of the first seed, :data:`MODEL`; None keeps neither.
        restart: discard the state of an unfinished call with other arguments.
        on_line: called with a line on each learning rate and seed.

    Raises:
        UserError: no such protocol, a number out of bounds, labels that do not suffice (:func:`choose`), weights of
            other images, no test part, sounds, raw pixels, an encoder without that many layers, every rate diverged,
            or ``out`` holds the state of an unfinished call with other arguments.
    """
    subject, used, lines = weighted(subject, weights)
    plan = _plan(subject, protocol, numbers or {}, few or FewLabels(), seeds, seed, baselines)
    arithmetic = resolve(precision, torch.device(subject.device))
    options = plan.identity | {"baselines": baselines, "precision": arithmetic}
    with Journal(out, options, device=subject.device, restart=restart) as journal:
        for line in opening(plan.row, plan.labels, begun=journal.begun):
            on_line(line)
        work = _Work(plan, Trial(plan.subject, arithmetic, journal), on_progress, on_line)
        results = work.compared(None if out is None else partial(_save, out / MODEL, subject))
    return FinetuneReport(
        data=subject.data.name,
        protocol=protocol,
        numbers=plan.row,
        size=subject.size,
        precision=arithmetic,
        labels=plan.labels,
        results=results,
        weights=used,
        model=None if out is None else str(out / MODEL),
        notices=(*lines, *plan.notices, *_notices(plan, results)),
    )


@dataclass(frozen=True)
class _Plan:
    """A fine-tuning, decided and checked."""

    subject: EvaluationSubject  # its parts are the labelled images
    encoder: Encoder
    row: FinetuneProtocol
    train: Source
    test: Source
    names: tuple[str, ...]  # of the classes, also of those without a chosen image
    splits: Sequence[tuple[Tensor, Tensor]]  # of the training images, to choose learning rates; the first by training
    seeds: range
    starts: Sequence[Start]
    notices: tuple[str, ...]

    @property
    def held(self) -> tuple[Source, Source] | None:
        """The rest and the held-out images that choose among several learning rates."""
        if len(self.row.lr) < 2:
            return None
        rest, held_out = self.splits[0]
        return self.train.subset(rest), self.train.subset(held_out)

    @property
    def identity(self) -> dict[str, Any]:
        """What determines the results, as the journal has it."""
        known = asdict(self.row) | {"seeds": len(self.seeds), "seed": self.seeds.start, "size": self.subject.size}
        known |= {"encoder": encoder_hash(self.encoder)}
        known |= {"images": images_digest(self.train), "test images": images_digest(self.test)}
        w = self.train.weights
        return known if w is None else known | {"weights of images": digest(w.numpy().tobytes())}

    @property
    def labels(self) -> Labels:
        counts = _labels(self.train).unique(return_counts=True)[1]
        held_out = 0 if self.held is None else len(self.held[1])
        return Labels(len(self.train), int(counts.min()), int(counts.max()), held_out, len(self.test))


def _plan(
    subject: EvaluationSubject,
    protocol: str,
    numbers: Mapping[str, Any],
    few: FewLabels,
    seeds: int,
    seed: int,
    baselines: bool,
) -> _Plan:
    check_choice("protocol", protocol, PROTOCOLS)
    row = replace(PROTOCOLS[protocol], **numbers)
    bounds.SEEDS.check("--seeds", seeds, whole=True)
    bounds.SEED.check("--seed", seed, whole=True)
    encoder = trainable_encoder(subject)
    train, test = subject.labelled_parts()
    (train, notices), test = choose(train, few, seed), labelled(test, "fine-tuning")
    splits = folds(_labels(train), drawing_order(train, seed), train.group_ids)
    if not splits and len(row.lr) > 1:
        row = replace(row, lr=(row.lr[(len(row.lr) - 1) // 2],))
        notices = (*notices, f"no image is left to choose a learning rate on: it is {row.lr[0]:g}, unchecked")
    starts, more = starts_of(subject, encoder, row, baselines=baselines)
    parts = replace(subject, data=replace(subject.data, train=train, test=test))
    seed_range = range(seed, seed + seeds)
    names = subject.class_names
    return _Plan(parts, encoder, row, train, test, names, splits, seed_range, starts, (*notices, *more))


def _notices(plan: _Plan, results: Mapping[str, FineTuned | LinearProbe]) -> list[str]:
    absent = classes_without_training(_labels(plan.train), _labels(plan.test), plan.names)
    of_results = [f"{name}: {notice}" for name, result in results.items() for notice in result.notices]
    return [*plan.subject.left_out, *absent, *of_results]


@dataclass(frozen=True)
class _Work:
    """The trainings of all starts, on the same images."""

    plan: _Plan
    trial: Trial
    on_progress: OnProgress | None
    on_line: Callable[[str], None]

    def compared(self, save: Callable[[LinearClassifier], None] | None) -> dict[str, FineTuned | LinearProbe]:
        """The results of all starts, and of a linear probe; ``save`` gets the first classifier of the first start."""
        plan = self.plan
        first, *others = plan.starts
        results: dict[str, FineTuned | LinearProbe] = {first.name: self.finetuned(first, save)}
        name, train, test = next(plan.subject.labelled_features(self.on_progress))
        results[f"{name}, linear probe"] = linear_probe(
            train,
            test,
            n_classes=len(plan.names),
            classes=plan.subject.data.train.classes,
            seeds=plan.seeds,
            splits=plan.splits,
            device=plan.subject.device,
        )
        return results | {start.name: self.finetuned(start) for start in others}

    def finetuned(self, start: Start, save: Callable[[LinearClassifier], None] | None = None) -> FineTuned:
        """Choose the learning rate, and train with it once per seed."""
        plan, rates = self.plan, self.plan.row.lr
        chosen, validation = rates[0], list[float | None]()
        if plan.held is not None:
            rest, held_out = plan.held
            with self.trial.loader(start.protocol, rest, plan.seeds[0]) as loader:
                outcomes = [self._run(start, f"learning rate {r:g}", loader, held_out, r, "held-out") for r in rates]
            chosen = _best(rates, outcomes)
            validation = [None if outcome.diverged else outcome.top1 for outcome in outcomes]
        finals = []
        for seed in plan.seeds:
            on_end = save if seed == plan.seeds[0] else None
            what = f"seed {seed}, learning rate {chosen:g}"
            with self.trial.loader(start.protocol, plan.train, seed) as loader:
                finals.append(self._run(start, what, loader, plan.test, chosen, "test", on_end))
        if any(outcome.diverged for outcome in finals):
            raise Diverged(f"{start.name} diverged at learning rate {chosen:g}: give lower ones with --lr")
        top1, top5 = [each.top1 for each in finals], [each.top5 for each in finals]
        answers = torch.stack([each.answers for each in finals]).long()
        read = (answers >= 0).all(0)
        means, y = (statistics.fmean(top1), statistics.fmean(top5)), _labels(plan.test)[read]
        where = plan.test.environment
        return FineTuned(
            accuracy=accuracy(*means, int(read.sum()), n_classes=len(plan.names)),
            seeds=tuple(top1),
            std=statistics.stdev(top1) if len(top1) > 1 else None,
            rate=chosen,
            rates=rates,
            validation=tuple(validation),
            losses=finals[0].losses,
            per_class=per_class(answers[:, read], y, plan.names),
            environments=by_environment(answers[:, read], y, None if where is None else where[read.numpy()]),
        )

    def _run(
        self,
        start: Start,
        what: str,
        loader: Loader,
        test: Source,
        lr: float,
        part: str,
        on_end: Callable[[LinearClassifier], None] | None = None,
    ) -> Outcome:
        """One training, reported as it runs and when it has ended."""

        def report(epoch: int, loss: float) -> None:
            if self.on_progress is not None:
                self.on_progress(f"{start.name}, {what}: epochs", epoch + 1, start.protocol.epochs)

        outcome = self.trial.run(start, what, loader, test, lr=lr, on_epoch=report, on_end=on_end)
        score = "diverged" if outcome.diverged else f"{100 * outcome.top1:.2f} % of {len(test):,} {part} images"
        self.on_line(f"{start.name}: {what}: {score}")
        return outcome


def _labels(source: Source) -> Tensor:
    assert source.labels is not None
    return source.labels


def _best(rates: tuple[float, ...], outcomes: list[Outcome]) -> float:
    """The rate with the best top-1, of equally good ones that with the lowest loss.

    Raises:
        Diverged: all of them did.
    """
    converged = [(-each.top1, each.loss, rate) for rate, each in zip(rates, outcomes, strict=True) if not each.diverged]
    if not converged:
        raise Diverged("fine-tuning diverged at every learning rate: give lower ones with --lr")
    return min(converged)[2]


def _save(path: Path, subject: EvaluationSubject, classifier: LinearClassifier) -> None:
    source = subject.data.train
    record = ClassifierRecord(
        encoder=None if subject.kind is None else dict(subject.kind),
        neck=getattr(classifier.neck, "layers", ()),
        n_classes=subject.n_classes,
        classes=None if source.classes is None else tuple(source.classes),
        size=subject.size,
    )
    save_classifier(path, classifier, record)


def folder_of(subject: EvaluationSubject) -> Path:
    """Where a fine-tuning is kept: ``RUN/finetune``, or ``RUN/finetune-DATA`` on another set than the run's; of an
    encoder by name, ``runs/finetune-ENCODER-DATA``."""
    data = Path(subject.data.name).stem
    if subject.run is not None:
        return subject.run / ("finetune" if subject.reports is not None else f"finetune-{data}")
    name = (subject.kind or {}).get("name", "encoder").replace(":", "-")
    return Path("runs") / f"finetune-{name}-{data}"
