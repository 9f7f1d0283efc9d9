"""kNN of a subject: the accuracy of each encoder, in all and per class, and test images beside their neighbours."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastkit.data import Source
from contrastkit.errors import listed
from contrastkit.evaluate.accuracy import Accuracy, accuracy_of
from contrastkit.evaluate.by_environment import ByEnvironment, by_environment
from contrastkit.evaluate.confusion import ClassResult, classes_without_training, per_class
from contrastkit.evaluate.features import Features
from contrastkit.evaluate.neighbours import knn_classes, nearest
from contrastkit.evaluate.subject import EvaluationSubject, OnProgress
from contrastkit.figures import Cell, sheet
from contrastkit.rng import permutation

WRONG, RIGHT = 5, 3  # examples of each kind, at most
NEIGHBOURS = 6  # shown of each
ORDINALS = ("nearest", "2nd", "3rd", "4th", "5th", "6th")


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A training image near a test image."""

    index: int  # its position in the training part
    path: str  # of its file, relative to the folder of the part; "" for an image that is no file
    label: str  # its class
    similarity: float  # cosine


@dataclass(frozen=True, slots=True)
class Example:
    """A test image, what kNN takes it for, and its nearest training images."""

    index: int  # its position in the test part
    path: str
    label: str
    answer: str
    neighbours: tuple[Neighbour, ...]


@dataclass(frozen=True, slots=True)
class KnnReport:
    """Result of :func:`knn`."""

    data: str  # name of the data set
    k: int
    T: float
    size: int  # side in pixels of the images
    accuracy: dict[str, Accuracy]  # of each encoder
    per_class: dict[str, dict[str, ClassResult]]  # of each encoder, by class
    examples: tuple[Example, ...]  # by the first encoder: wrong ones, then right ones
    environments: dict[str, ByEnvironment]  # of each encoder; {} where the test images have none
    notices: tuple[str, ...] = ()  # what a reader of the numbers should know, one line each

    def as_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "notices"}


def knn(subject: EvaluationSubject, *, k: int = 20, T: float = 0.1, on_progress: OnProgress | None = None) -> KnnReport:
    """Classify test images by their nearest training images, with each encoder: :func:`knn_classes`.

    Raises:
        UserError: no labels, no test part, or k or T not positive.
    """
    names = subject.class_names
    accuracies: dict[str, Accuracy] = {}
    classes: dict[str, dict[str, ClassResult]] = {}
    environments: dict[str, ByEnvironment] = {}
    examples: tuple[Example, ...] = ()
    notices: list[str] = []
    for name, train, test in subject.labelled_features(on_progress):
        best = knn_classes(train, test, k=k, T=T, n_classes=len(names), device=subject.device)
        tested = test.labelled("kNN")
        y = tested.y
        accuracies[name] = accuracy_of(best, y, n_classes=len(names))
        classes[name] = per_class(best[:, 0], y, names)
        if (found := by_environment(best[:, 0], y, tested.environment)) is not None:
            environments[name] = found
        if len(accuracies) == 1:
            examples = _drawn(train, test, best[:, 0], min(k, NEIGHBOURS), subject)
            trained = train.labelled("kNN").y
            notices = [*classes_without_training(trained, y, names), *_too_many(k, trained, names)]
    notices = [*subject.left_out, *notices]
    return KnnReport(subject.data.name, k, T, subject.size, accuracies, classes, examples, environments, tuple(notices))


def neighbour_sheet(path: Path, report: KnnReport, subject: EvaluationSubject) -> None:
    """Draw the examples of a report beside their neighbours, as a PNG; the subject must be the report's, of images."""
    train, test = subject.labelled_parts()
    rows = []
    for example in report.examples:
        said = f"{example.label}\ntaken for {example.answer}" if example.answer != example.label else example.label
        row: list[Cell | None] = [Cell(_image(test, example.index), said, example.answer == example.label)]
        for near in example.neighbours:
            caption = f"{near.label}\n{near.similarity:.3f}"
            row.append(Cell(_image(train, near.index), caption, near.label == example.label))
        rows.append(row)
    columns = ("test image", *ORDINALS[: max((len(e.neighbours) for e in report.examples), default=0)])
    wrong = sum(example.answer != example.label for example in report.examples)
    sheet(
        path,
        rows,
        title=f"Nearest training images on {report.data}, by {next(iter(report.accuracy))}",
        columns=columns,
        note=(
            f"{wrong} wrong and {len(rows) - wrong} right answers of kNN with k = {report.k}, drawn at random · number:"
            " cosine similarity · a neighbour is right if it has the test image's class"
        ),
    )


def _image(source: Source, index: int) -> Tensor:
    return source.fetch(torch.tensor([index]))[0]


def _drawn(train: Features, test: Features, answers: Tensor, k: int, subject: EvaluationSubject) -> tuple[Example, ...]:
    """Examples drawn at random among the wrong answers and among the right ones."""
    names, (train_part, test_part) = subject.class_names, subject.labelled_parts()
    bank, queries = train.labelled("kNN"), test.labelled("kNN")
    trained, tested = train.labelled_rows("kNN").tolist(), test.labelled_rows("kNN").tolist()
    order = permutation(0, 0, len(answers))
    right = (answers == queries.y)[order]
    rows = torch.cat([order[~right][:WRONG], order[right][:RIGHT]])
    similarities = F.normalize(queries.x[rows], dim=1) @ F.normalize(bank.x, dim=1).T
    near = nearest(similarities, min(k, len(bank.y)))
    examples = []
    for row, s, columns in zip(rows.tolist(), *(part.tolist() for part in near), strict=True):
        neighbours = tuple(
            Neighbour(trained[j], _path(train_part, trained[j]), names[bank.y[j]], similarity)
            for j, similarity in zip(columns, s, strict=True)
        )
        i, label, answer = tested[row], names[queries.y[row]], names[answers[row]]
        examples.append(Example(i, _path(test_part, i), label, answer, neighbours))
    return tuple(examples)


def _path(source: Source, index: int) -> str:
    return source.paths[index] if source.paths else ""


def _too_many(k: int, y: Tensor, names: Sequence[str]) -> list[str]:
    """A notice if k is more than the training images, or than those of a class."""
    if k > len(y):
        return [f"k = {k} is more than the {len(y):,} training images: all of them vote"]
    counts = y.bincount(minlength=len(names)).tolist()
    small = sorted((n, name) for n, name in zip(counts, names, strict=True) if 0 < n < k)
    if not small:
        return []
    some = listed([f"{name} {n}" for n, name in small], 4)
    return [
        f"k = {k} is more than the training images of {len(small)} of {len(names)} classes ({some}): other classes "
        f"always vote on theirs; compare --k {small[0][0]}"
    ]
