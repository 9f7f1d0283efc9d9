"""Weighted k-nearest-neighbour classification of frozen features: an evaluation without training."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastkit.bounds import COUNT, TEMPERATURE
from contrastkit.evaluate.accuracy import Accuracy, accuracy, hits
from contrastkit.evaluate.features import Features
from contrastkit.evaluate.subject import EvaluationSubject, OnProgress

SIMILARITIES = 2**24  # in memory at once: 64 MiB
EQUAL = 1e-6  # similarities that differ by less are equal: it is the rounding of float32
EQUAL_VOTES = 1e-10  # likewise of the logarithms of votes, in float64


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

    The metric is the cosine similarity s. Each neighbour votes for its class with weight exp(s / T). Similarities that
    differ by less than 1e-6, the rounding of float32, are equal: of neighbours equally near, the first in the data
    count, and of classes with equal votes the lowest is chosen.

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
    COUNT.check("k", k, whole=True)
    TEMPERATURE.check("T", T)
    train, test = train.labelled("kNN"), test.labelled("kNN")
    k = min(k, len(train.y))
    bank, classes = F.normalize(train.x.to(device), dim=1), train.y.to(device)
    chunk = chunk or max(1, SIMILARITIES // len(train.y))
    right = torch.zeros(2, dtype=torch.int64, device=device)
    for x, y in zip(test.x.split(chunk), test.y.split(chunk), strict=True):
        s, neighbours = _nearest(F.normalize(x.to(device), dim=1) @ bank.T, k)
        # exp((s - best) / T) ranks classes like exp(s / T), and cannot overflow.
        weights = ((s - s[:, :1]) / T).exp()
        votes = weights.new_zeros(len(x), n_classes).scatter_add_(1, classes[neighbours], weights)
        right += hits(_settled(votes.log(), EQUAL_VOTES), y.to(device)).sum(0)
    n = len(test.y)
    return accuracy(right[0].item() / n, right[1].item() / n, n, n_classes=n_classes)


def _nearest(s: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest similarities, float64 [M, k], of each row of s [M, n], largest first, and their columns. Equal
    ones are the same number, and the first columns are taken of those equal to the k-th."""
    best, columns = s.topk(min(k + 1, s.shape[1]), dim=1)
    more = (best[:, k - 1] - best[:, -1] <= EQUAL).nonzero()[:, 0]
    if best.shape[1] > k and len(more):
        last, rows = best[more, k - 1 : k], s[more]
        nearer = rows > last + EQUAL
        alike = ~nearer & (rows >= last - EQUAL)
        taken = nearer | (alike & (alike.cumsum(1) <= k - nearer.sum(1, keepdim=True)))
        columns[more, :k] = taken.nonzero()[:, 1].view(-1, k)
    columns = columns[:, :k]
    s, order = s.gather(1, columns).double().sort(dim=1, descending=True)
    return _settled(s, EQUAL), columns.gather(1, order)


def _settled(values: Tensor, equal: float) -> Tensor:
    """The values [M, n], each replaced by the largest of those that no gap above ``equal`` separates from it."""
    ordered, order = values.sort(dim=1, descending=True)
    gap = F.pad(ordered[:, :-1] - ordered[:, 1:] > equal, (1, 0))
    first = torch.where(gap, torch.arange(values.shape[1], device=values.device), 0).cummax(1).values
    return torch.empty_like(values).scatter_(1, order, ordered.gather(1, first))
