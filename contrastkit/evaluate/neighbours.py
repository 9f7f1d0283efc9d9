"""Weighted k-nearest-neighbour classification of frozen features: an evaluation without training."""

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastkit.bounds import COUNT, TEMPERATURE
from contrastkit.evaluate.accuracy import Accuracy, accuracy_of, best_classes
from contrastkit.evaluate.features import Features

SIMILARITIES = 2**24  # in memory at once: 64 MiB
EQUAL = 1e-6  # similarities that differ by less are equal: it is the rounding of float32
EQUAL_VOTES = 1e-10  # likewise of the logarithms of votes, in float64


@torch.no_grad()
def knn_classes(
    train: Features,
    test: Features,
    *,
    k: int = 20,
    T: float = 0.1,
    n_classes: int,
    chunk: int | None = None,
    device: str | torch.device = "cpu",
) -> Tensor:
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

    Returns:
        int64 [N, min(5, n_classes)] on the CPU: the classes with the most votes, best first, of each test image that is
        not left out.

    Raises:
        UserError: no labels, or k or T not positive.
    """
    COUNT.check("k", k, whole=True)
    TEMPERATURE.check("T", T)
    train, test = train.labelled("kNN"), test.labelled("kNN")
    k = min(k, len(train.y))
    bank, classes = F.normalize(train.x.to(device), dim=1), train.y.to(device)
    best = []
    for x in test.x.split(chunk or max(1, SIMILARITIES // len(train.y))):
        s, neighbours = nearest(F.normalize(x.to(device), dim=1) @ bank.T, k)
        # exp((s - best) / T) ranks classes like exp(s / T), and cannot overflow.
        weights = ((s - s[:, :1]) / T).exp()
        votes = weights.new_zeros(len(x), n_classes).scatter_add_(1, classes[neighbours], weights)
        best.append(best_classes(_settled(votes.log(), EQUAL_VOTES)).cpu())
    return torch.cat(best)


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
    """The accuracy of :func:`knn_classes`, whose arguments these are."""
    best = knn_classes(train, test, k=k, T=T, n_classes=n_classes, chunk=chunk, device=device)
    return accuracy_of(best, test.labelled("kNN").y, n_classes=n_classes)


def nearest(s: Tensor, k: int) -> tuple[Tensor, Tensor]:
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
