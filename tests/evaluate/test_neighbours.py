"""Weighted kNN compared with a loop in float64."""

import math

import pytest
import torch

from contrastkit.errors import UserError
from contrastkit.evaluate.features import Features
from contrastkit.evaluate.neighbours import knn_accuracy


def clusters(n: int, C: int, seed: int, spread: float = 1.5) -> Features:
    centres = torch.randn(C, 6, generator=torch.Generator().manual_seed(99))
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, C, (n,), generator=g)
    scale = 0.1 + 5 * torch.rand(n, 1, generator=g)  # norms differ: only the cosine may matter
    return Features(scale * (centres[y] + spread * torch.randn(n, 6, generator=g)), y)


def by_hand(train: Features, test: Features, k: int, T: float, C: int) -> tuple[float, float]:
    top1 = top5 = 0
    for x, y in zip(test.x.double().tolist(), test.y.tolist(), strict=True):
        similar = []
        for z, label in zip(train.x.double().tolist(), train.y.tolist(), strict=True):
            dot = sum(a * b for a, b in zip(x, z, strict=True))
            similar.append((dot / math.hypot(*x) / math.hypot(*z), label))
        votes = [0.0] * C
        for s, label in sorted(similar, reverse=True)[:k]:
            votes[label] += math.exp(s / T)
        ranked = sorted(range(C), key=lambda c: (-votes[c], c))
        top1 += ranked[0] == y
        top5 += y in ranked[:5]
    return top1 / len(test.y), top5 / len(test.y)


@pytest.mark.parametrize(("k", "T"), [(1, 0.1), (7, 0.07), (20, 0.1), (60, 1.0)])
def test_against_a_loop(k: int, T: float) -> None:
    train, test = clusters(120, 7, seed=1), clusters(40, 7, seed=2)
    result = knn_accuracy(train, test, k=k, T=T, n_classes=7)
    top1, top5 = by_hand(train, test, k, T, 7)
    assert (result.top1, result.top5, result.n) == (pytest.approx(top1), pytest.approx(top5), 40)
    assert 0.2 < top1 < 1.0 and top1 < top5  # the case can distinguish right from wrong


def test_weights_matter() -> None:
    """One near neighbour outvotes two far ones at a low temperature, and not at a high one."""
    train = Features(torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.6, -0.8]]), torch.tensor([0, 1, 1]))
    test = Features(torch.tensor([[2.0, 0.0]]), torch.tensor([0]))
    assert knn_accuracy(train, test, k=3, T=0.1, n_classes=2).top1 == 1
    assert knn_accuracy(train, test, k=3, T=10.0, n_classes=2).top1 == 0


def test_a_tiny_temperature_does_not_overflow() -> None:
    train, test = clusters(120, 7, seed=1), clusters(40, 7, seed=2)
    nearest = knn_accuracy(train, test, k=1, T=1.0, n_classes=7)
    assert knn_accuracy(train, test, k=20, T=1e-6, n_classes=7).top1 == nearest.top1


def test_chunks_change_nothing() -> None:
    train, test = clusters(120, 7, seed=1), clusters(41, 7, seed=2)
    assert knn_accuracy(train, test, n_classes=7, chunk=4) == knn_accuracy(train, test, n_classes=7, chunk=41)


def test_more_neighbours_than_images_means_all() -> None:
    train, test = clusters(30, 3, seed=1), clusters(20, 3, seed=2)
    result = knn_accuracy(train, test, k=1000, n_classes=3)
    assert result == knn_accuracy(train, test, k=30, n_classes=3)
    assert result.top5 is None  # of three classes


def test_images_without_a_label_do_not_count() -> None:
    train, test = clusters(60, 7, seed=1), clusters(30, 7, seed=2)
    more = Features(torch.cat([train.x, test.x]), torch.cat([train.y, torch.full_like(test.y, -1)]))
    queries = Features(torch.cat([test.x, train.x]), torch.cat([test.y, torch.full_like(train.y, -1)]))
    assert knn_accuracy(more, queries, n_classes=7) == knn_accuracy(train, test, n_classes=7)


def test_no_labels_and_bad_numbers() -> None:
    train = clusters(10, 2, seed=1)
    with pytest.raises(UserError, match="needs labels"):
        knn_accuracy(Features(train.x, torch.full_like(train.y, -1)), train, n_classes=2)
    with pytest.raises(UserError, match="must be at least"):
        knn_accuracy(train, train, k=0, n_classes=2)


def test_of_neighbours_equally_near_the_first_count() -> None:
    """Copies of one image of other lengths: their similarities differ in the last bit only."""
    g = torch.Generator().manual_seed(0)
    image, other = torch.randn(2, 37, generator=g)
    lengths = 0.1 + 7 * torch.rand(200, 1, generator=g)
    train = Features(torch.cat([lengths * image, other[None]]), torch.tensor([3] * 10 + [1, 2] * 95 + [0]))
    test = Features((image + 0.3 * other)[None], torch.tensor([3]))
    for k in (1, 5, 10, 18):
        assert knn_accuracy(train, test, k=k, n_classes=4).top1 == 1, k
    late = Features(train.x, train.y.flip(0))
    assert knn_accuracy(late, test, k=5, n_classes=4).top1 == 0


def test_the_lowest_of_classes_with_equal_votes_is_chosen() -> None:
    """Each class has one copy of each of three images, in another order and of other lengths."""
    g = torch.Generator().manual_seed(0)
    images = torch.randn(3, 37, generator=g)
    for seed in range(10):
        g.manual_seed(seed)
        copies = [images[torch.randperm(3, generator=g)] * (0.1 + 7 * torch.rand(3, 1, generator=g)) for _ in range(6)]
        y = torch.arange(6).repeat_interleave(3)
        mixed = torch.randperm(18, generator=g)
        train = Features(torch.cat(copies)[mixed], y[mixed])
        test = Features(images.sum(0, keepdim=True), torch.tensor([0]))
        assert knn_accuracy(train, test, k=18, n_classes=6).top1 == 1
        five = Features(test.x, torch.tensor([5]))
        assert knn_accuracy(train, five, k=18, n_classes=6).top5 == 0
