"""Weighted k-nearest-neighbour classification of frozen features: an evaluation without training."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F

from contrastkit.errors import UserError
from contrastkit.evaluate.accuracy import Accuracy, accuracy, hits
from contrastkit.evaluate.features import Features
from contrastkit.evaluate.subject import EvaluationSubject, OnProgress

SIMILARITIES = 2**24  # in memory at once: 64 MiB


@dataclass(frozen=True, slots=True)
class KnnReport:
    """Result of :func:`knn`."""

    data: str  # name of the data set
    k: int
    T: float
    size: int  # side in pixels of the images
    accuracy: dict[str, Accuracy]  # of each encoder
    notices: tuple[str, ...] = ()  # what a reader of the numbers should know, one line each

    def as_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "notices"}


def knn(subject: EvaluationSubject, *, k: int = 20, T: float = 0.1, on_progress: OnProgress | None = None) -> KnnReport:
    """Weighted k-nearest-neighbour accuracy of each encoder's features: :func:`knn_accuracy`.

    Raises:
        UserError: no labels, no test part, or k or T not positive.
    """
    accuracy = {
        name: knn_accuracy(train, test, k=k, T=T, n_classes=subject.n_classes, device=subject.device)
        for name, train, test in subject.labelled_features(on_progress)
    }
    return KnnReport(subject.data.name, k, T, subject.size, accuracy, subject.left_out)


@torch.no_grad()
def knn_accuracy(
    train: Features,
    test: Features,
    *,
    k: int = 20,
    T: float = 0.1,
    n_classes: int,
    chunk: int | None = None,
    device: str | torch.device = "cpu",
) -> Accuracy:
    """Classify test features by their k nearest training features (Wu et al. 2018, arXiv:1805.01978, Sec. 3.4).

    The metric is the cosine similarity s. Each neighbour votes for its class with weight exp(s / T).

    Args:
        train, test: features of any norm; images without a label (-1) and unreadable ones are left out.
        k: number of neighbours, limited to that of the training images. Common choices: k = 200, T = 0.1 (MoCo's
            CIFAR-10 demo) and k = 20, T = 0.07 (DINO).
        T: temperature of the votes.
        n_classes: classes are 0 ... n_classes - 1.
        chunk: test images per step; None keeps the similarities within 64 MiB.

    Raises:
        UserError: no labels, or k or T not positive.
    """
    if k < 1 or T <= 0:
        raise UserError(f"kNN needs k >= 1 and T > 0, got k = {k} and T = {T}")
    train, test = train.labelled("kNN"), test.labelled("kNN")
    k = min(k, len(train.y))
    bank, classes = F.normalize(train.x.to(device), dim=1), train.y.to(device)
    chunk = chunk or max(1, SIMILARITIES // len(train.y))
    right = torch.zeros(2, dtype=torch.int64, device=device)
    for x, y in zip(test.x.split(chunk), test.y.split(chunk), strict=True):
        s, neighbours = (F.normalize(x.to(device), dim=1) @ bank.T).topk(k, dim=1)
        # exp((s - best) / T) ranks classes like exp(s / T), and cannot overflow.
        weights = ((s - s[:, :1]) / T).exp()
        votes = weights.new_zeros(len(x), n_classes).scatter_add_(1, classes[neighbours], weights)
        right += hits(votes, y.to(device)).sum(0)
    n = len(test.y)
    return accuracy(right[0].item() / n, right[1].item() / n, n, n_classes=n_classes)
