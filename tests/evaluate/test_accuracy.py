"""The interval against the test that it inverts; hits against a loop."""

import math

import pytest
import torch

from contrastkit.evaluate.accuracy import accuracy, hits, wilson


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
    assert accuracy(0.5, 0.75, 40).interval == wilson(0.5, 40)


def test_hits_against_a_loop() -> None:
    g = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 4, (3, 50, 8), generator=g).float()  # many ties
    y = torch.randint(0, 8, (50,), generator=g)
    found = hits(scores, y)
    for r in range(3):
        for n in range(50):
            ranked = sorted(range(8), key=lambda c: (-scores[r, n, c].item(), c))
            assert found[r, n].tolist() == [ranked[0] == y[n], y[n].item() in ranked[:5]]
