"""Another set to test on, with classes of the same names."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from contrastkit.data import Source, open_data
from contrastkit.errors import UserError, listed
from contrastkit.evaluate.accuracy import Accuracy
from contrastkit.evaluate.confusion import class_names
from contrastkit.evaluate.fit import require_kind_of
from contrastkit.evaluate.subject import EvaluationSubject
from contrastkit.run import Run

NAMED = 6  # classes listed in a line


@dataclass(frozen=True, slots=True)
class Tested:
    """What one encoder's features are worth on one set of test images."""

    knn: Accuracy
    probe: Accuracy  # mean of the classifiers of all seeds


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Accuracy on another set."""

    data: str
    part: str  # of it: "test" or "train"
    classes: tuple[str, ...]  # that both sets have
    left_out: tuple[str, ...]  # classes of the other set without a partner, whose images are left out
    lacking: tuple[str, ...]  # classes that the other set lacks
    trained_on: int | None  # images left out because classifiers are fitted to them; None where that is not known
    accuracy: dict[str, Tested]  # of each encoder
    clean: dict[str, Tested]  # on the own test images of the same classes


@dataclass(frozen=True)
class Other:
    """Another set, its labels numbered as the subject's."""

    source: Source
    found: Elsewhere


def open_other(subject: EvaluationSubject, data: str, data_dir: Path | None) -> Other:
    """Open another set: its test part if that has labels, else its training part.

    Images of the subject's training part are left out: the classifiers are fitted to them.

    Raises:
        UserError: no such set, other items than the subject's, no labels, no class in common, or no image that the
            classifiers are not fitted to.
    """
    pixels: dict[str, Any] = {}  # as the encoder knows them
    if subject.run is not None:
        options = Run.open(subject.run).record.options
        pixels = {"stretch": options.stretch, "background": options.background, "recorded_dir": options.data_dir}
    opened = open_data(data, data_dir=data_dir, **pixels)
    require_kind_of(subject.data, f"--shift-data {opened.name}", opened.train)
    if opened.test is not None and _labelled(opened.test):
        return _matched(subject, opened.name, "test", opened.test)
    return _matched(subject, opened.name, "train", opened.train)


def _labelled(source: Source) -> bool:
    return source.labels is not None and bool((source.labels >= 0).any())


def _matched(subject: EvaluationSubject, data: str, part: str, source: Source) -> Other:
    """Another set with the labels of the subject's classes of the same names."""
    if source.labels is None or not _labelled(source):
        raise UserError(f"--shift-data {data} has no labels to test with: put its images in one folder per class")
    own, theirs = subject.class_names, class_names(source.classes, int(source.labels.max()) + 1)
    number = torch.tensor([own.index(name) if name in own else -1 for name in theirs])
    y = torch.where(source.labels >= 0, number[source.labels], -1)
    rows = (y >= 0).nonzero()[:, 0]
    if not len(rows):
        raise UserError(
            f"no class of --shift-data {data} ({listed(list(theirs), NAMED)}) has the name of one of "
            f"{subject.data.name} ({listed(list(own), NAMED)})"
        )
    rows, trained_on = _unseen(subject, data, source, rows)
    there = {own[c] for c in y[rows].tolist()}
    kept = source.subset(rows)
    kept.labels, kept.classes = y[rows], own
    return Other(
        kept,
        Elsewhere(
            data=data,
            part=part,
            classes=tuple(name for name in own if name in there),
            left_out=tuple(name for name in theirs if name not in own),
            lacking=tuple(name for name in own if name not in there),
            trained_on=trained_on,
            accuracy={},
            clean={},
        ),
    )


def _unseen(subject: EvaluationSubject, data: str, source: Source, rows: Tensor) -> tuple[Tensor, int | None]:
    """The rows without the images that the classifiers are fitted to, and how many those are; None: not known."""
    fitted = source.subset(rows).found_in(subject.data.train)
    if fitted is None:
        return rows, None
    if fitted.all():
        raise UserError(
            f"--shift-data {data}: the classifiers are fitted to all of its {source.modality.plural}, which are in the "
            f"training part of {subject.data.name}: name another set"
        )
    return rows[~fitted], int(fitted.sum())


def about(other: Other, subject: EvaluationSubject) -> list[str]:
    """What a reader of the accuracies should know, one line each."""
    found, what, lines = other.found, other.source.modality.plural, []
    lines.append(f"{found.data}: its {found.part} part, {len(other.source):,} {what} of {len(found.classes)} classes")
    if found.trained_on:
        lines.append(
            f"{found.data}: left out {found.trained_on:,} {what} that are in the training part of {subject.data.name}, "
            "to which the classifiers are fitted"
        )
    elif found.trained_on is None:
        lines.append(
            f"{found.data}: not checked whether its {what} are in the training part of {subject.data.name}, to which "
            "the classifiers are fitted: the two are stored in different ways"
        )
    if found.left_out:
        lines.append(f"{found.data}: left out, since no class has the name: {listed(list(found.left_out), NAMED)}")
    if found.lacking:
        lines.append(
            f"{found.data} has no {what} of {listed(list(found.lacking), NAMED)}: an answer may be one of these"
        )
    return lines
