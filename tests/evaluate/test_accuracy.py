"""The interval compared with the test that it inverts; hits compared with a loop."""

import math

import pytest
import torch

from contrastkit.evaluate.accuracy import accuracy, best_classes, hits
from contrastkit.evaluate.features import Features
from contrastkit.evaluate.linear import linear_probe
from contrastkit.evaluate.neighbours import knn_accuracy
from contrastkit.intervals import wilson


@pytest.mark.parametrize(("right", "n"), [(8, 10), (1, 7), (4900, 10000), (499, 500)])
def test_wilson_inverts_the_score_test(right: int, n: int) -> None:
    low, high = wilson(right / n, n)
    assert low < right / n < high
    for p in (low, high):  # at both ends the score statistic is exactly z
        assert abs(right / n - p) / math.sqrt(p * (1 - p) / n) == pytest.approx(1.959964)


def test_wilson_at_the_ends() -> None:
    z2 = 1.959964**2
    assert wilson(0.0, 10) == (0.0, pytest.approx(z2 / (10 + z2)))
    assert wilson(1.0, 10) == (pytest.approx(10 / (10 + z2)), pytest.approx(1.0))


def test_accuracy_carries_the_interval_of_its_top1() -> None:
    assert accuracy(0.5, 0.75, 40, n_classes=6).interval == wilson(0.5, 40)


def test_hits_against_a_loop() -> None:
    g = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 4, (3, 50, 8), generator=g).float()  # many ties
    y = torch.randint(0, 8, (50,), generator=g)
    correct = hits(best_classes(scores), y)
    for r in range(3):
        for n in range(50):
            ranked = sorted(range(8), key=lambda c: (-scores[r, n, c].item(), c))
            assert correct[r, n].tolist() == [ranked[0] == y[n], y[n].item() in ranked[:5]]


def test_of_equal_scores_the_lower_class_is_first() -> None:
    equal = torch.zeros(8, 8)
    assert hits(best_classes(equal), torch.arange(8)).tolist() == [[c == 0, c < 5] for c in range(8)]


def test_few_classes_are_all_among_the_best_five() -> None:
    scores = torch.tensor([[0.0, 1.0, 2.0]]).expand(3, 3)
    assert hits(best_classes(scores), torch.arange(3)).tolist() == [[False, True], [False, True], [True, True]]


@pytest.mark.parametrize(("n_classes", "there"), [(4, False), (5, False), (6, True)])
def test_of_five_classes_there_is_no_top5(n_classes: int, there: bool) -> None:
    """It would always be 1."""
    g = torch.Generator().manual_seed(0)
    features = Features(torch.randn(60, 4, generator=g), torch.arange(60) % n_classes)
    assert (knn_accuracy(features, features, n_classes=n_classes).top5 is not None) == there
    probe = linear_probe(features, features, n_classes=n_classes, rates=(0.1,), seeds=(0,), epochs=1)
    assert (probe.accuracy.top5 is not None) == there
