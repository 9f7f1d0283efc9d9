"""Accuracy where the test images change: under common corruptions, and on another set with the same classes."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from contrastkit.data import Source
from contrastkit.evaluate.accuracy import Accuracy, accuracy_of
from contrastkit.evaluate.features import PIXELS, Features
from contrastkit.evaluate.linear import fit_linear
from contrastkit.evaluate.neighbours import knn_classes
from contrastkit.evaluate.subject import EvaluationSubject, OnProgress
from contrastkit.figures import COLOURS, chart, legend, plain, shortened
from contrastkit.measure.corruptions import CORRUPTIONS, STRENGTHS, CorruptedSource, constants_of
from contrastkit.measure.elsewhere import Elsewhere, Other, Tested, about
from contrastkit.names import RATES_SEEDS

K, T = 20, 0.1  # of kNN, as of `contrastkit knn`


@dataclass(frozen=True, slots=True)
class Shift:
    """Result of :func:`shift`. Classifiers are trained on the training images as they are."""

    constants_of: str  # CIFAR-10-C or ImageNet-C
    k: int
    T: float
    clean: dict[str, Tested]  # of each encoder, on the test images as they are
    corrupted: dict[str, dict[str, tuple[Tested, ...]]]  # of each encoder and corruption, at strengths 1 to 5
    constants: dict[str, tuple[float, ...]]  # of each corruption, at strengths 1 to 5
    elsewhere: Elsewhere | None

    def mean(self, encoder: str, by: str) -> float | None:
        """Mean top-1 over all corruptions and strengths, by "knn" or "probe"; None without corruptions."""
        every = [getattr(tested, by).top1 for each in self.corrupted.get(encoder, {}).values() for tested in each]
        return statistics.fmean(every) if every else None

    def rows(self, encoder: str) -> list[tuple[str, str, Tested]]:
        """The rows of a table: which images, how they are changed, and the result."""
        rows = [("as they are", "", self.clean[encoder])]
        for name, each in self.corrupted.get(encoder, {}).items():
            for strength, number, tested in zip(STRENGTHS, self.constants[name], each, strict=True):
                rows.append((f"{name} {strength}", CORRUPTIONS[name].constant.format(number), tested))
        if self.elsewhere is not None:
            if self.elsewhere.lacking:
                rows.append(("the same classes", "as they are", self.elsewhere.clean[encoder]))
            rows.append((self.elsewhere.data, "another set", self.elsewhere.accuracy[encoder]))
        return rows


Answers = tuple[Tensor, Tensor]  # best classes, best first, of kNN [N, <= 5] and of the probe [S, N, <= 5]
Classify = Callable[[Features], Answers]


@dataclass(frozen=True)
class Changes:
    """The changed test images, opened and checked."""

    corrupted: dict[tuple[str, int], CorruptedSource]  # by corruption and strength
    other: Other | None


def prepare(subject: EvaluationSubject, *, corrupt: bool, other: Other | None, seed: int) -> Changes:
    """
    Args:
        corrupt: test on corrupted test images.
        other: another set to test on.
        seed: of the corruptions' noise.

    Raises:
        UserError: no labels, no test part, or images that cannot be corrupted.
    """
    _, test = subject.labelled_parts()
    every = [(name, strength) for name in CORRUPTIONS for strength in STRENGTHS] if corrupt else []
    parts = {key: CorruptedSource(test, *key, size=subject.size, seed=seed) for key in every}
    return Changes(parts, other)


def shift(
    subject: EvaluationSubject, changes: Changes, *, seed: int, on_progress: OnProgress | None = None
) -> tuple[Shift, list[str]]:
    """kNN and linear probe, fitted to the training images and tested on changed test images; and what a reader should
    know, one line each.

    Args:
        seed: of the probe.
    """
    parts, other = changes.corrupted, changes.other
    constants = {name: each.numbers(subject.size) for name, each in CORRUPTIONS.items()} if parts else {}
    result = Shift(constants_of(subject.size), K, T, {}, {}, constants, None if other is None else other.found)
    notices: list[str] = []
    for name, train, own in subject.labelled_features(on_progress):
        classify = _fitted(subject, name, train, seed, on_progress)
        answers = classify(own)
        result.clean[name] = _tested(answers, own, subject.n_classes)

        def on(source: Source, what: str, name: str = name, classify: Classify = classify) -> Tested:
            return _tested_on(source, what, subject, name, classify, on_progress)

        if parts and subject.encoders[name] is None and subject.size > PIXELS:
            notices.append(f"{name}: no corruptions, since shrinking to {PIXELS} px takes them away")
        elif parts:
            tested = {(c, strength): on(source, f"{c} {strength}") for (c, strength), source in parts.items()}
            result.corrupted[name] = {c: tuple(tested[c, strength] for strength in STRENGTHS) for c in CORRUPTIONS}
        if other is not None:
            found = other.found
            found.accuracy[name] = on(other.source, found.data)
            same = _of_classes(answers, own, found.classes, subject.class_names)
            found.clean[name] = _tested(*same, subject.n_classes)
    return result, [*subject.left_out, *notices, *([] if other is None else about(other, subject))]


def _fitted(
    subject: EvaluationSubject, name: str, train: Features, seed: int, on_progress: OnProgress | None
) -> Classify:
    """Fit kNN and the probe: a function of the features of labelled test images."""
    C, device = subject.n_classes, subject.device
    if on_progress is not None:
        on_progress(f"linear probe: {name}", 0, None)
    probe = fit_linear(train, n_classes=C, seeds=range(seed, seed + RATES_SEEDS), device=device)

    def classify(test: Features) -> Answers:
        nearest = knn_classes(train, test, k=K, T=T, n_classes=C, device=device)
        return nearest, probe.answers(test.labelled("the linear probe"))

    return classify


def _tested_on(
    source: Source,
    what: str,
    subject: EvaluationSubject,
    name: str,
    classify: Classify,
    on_progress: OnProgress | None,
) -> Tested:
    """Encode changed images, and test on them."""

    def told(task: str, completed: int, total: int | None) -> None:
        if on_progress is not None:
            on_progress(f"{task}, {what}", completed, total)

    (test,) = subject.features(name, source, on_progress=told)
    return _tested(classify(test), test, subject.n_classes)


def _tested(answers: Answers, test: Features, C: int) -> Tested:
    y = test.labelled("kNN").y
    knn, probe = (accuracy_of(best, y, n_classes=C) for best in answers)
    return Tested(knn, probe)


def _of_classes(
    answers: Answers, test: Features, classes: tuple[str, ...], names: tuple[str, ...]
) -> tuple[Answers, Features]:
    """The answers to those test images that are of these classes, and the images."""
    test = test.labelled("kNN")
    kept = torch.tensor([name in classes for name in names])[test.y].nonzero()[:, 0]
    return (answers[0][kept], answers[1][:, kept]), test.subset(kept)


def shift_chart(path: Path, result: Shift, data: str) -> None:
    """Draw the accuracy against the strength of each corruption, which there must be, as a PNG."""
    note = (
        f"Strengths 1 to 5 have the constants of {result.constants_of}. Classifiers are trained on images as they are; "
        "dashed: tested on such, too. Bars: 95 % Wilson interval for the test images."
    )
    with chart(path, f"Accuracy under corruptions of the test images of {data}", height=5.2, note=note) as figure:
        panels = figure.subplots(2, len(CORRUPTIONS), sharex=True, sharey="row")
        for row, by in zip(panels, ("knn", "probe"), strict=True):
            for axes, corruption in zip(row, CORRUPTIONS, strict=True):
                for i, (colour, (name, tested)) in enumerate(zip(COLOURS, result.corrupted.items(), strict=False)):
                    accuracies: list[Accuracy] = [getattr(each, by) for each in tested[corruption]]
                    share = 100 * np.array([each.top1 for each in accuracies])
                    low, high = 100 * np.array([each.interval for each in accuracies]).T
                    bars = np.abs([share - low, high - share])
                    label = plain(shortened(name, 40))
                    apart = 0.12 * (i - (len(result.corrupted) - 1) / 2)  # so that no bar hides another
                    axes.errorbar(np.array(STRENGTHS) + apart, share, bars, fmt="o-", color=colour, label=label)
                    axes.axhline(100 * getattr(result.clean[name], by).top1, linestyle="--", color=colour, linewidth=1)
        for axes, corruption in zip(panels[0], CORRUPTIONS, strict=True):
            axes.set_title(corruption)
        for axes in panels[1]:
            axes.set(xlabel="strength", xticks=STRENGTHS)
        panels[0][0].set_ylabel("kNN, top-1 in %")
        panels[1][0].set_ylabel("linear probe, top-1 in %")
        legend(figure)
