"""Intersection over union, counted pixel by pixel in plain Python."""

import math

import numpy as np
import pytest
import torch

from contrastkit.rng import BOOTSTRAP, uniform
from contrastkit.transfer.iou import areas, score
from contrastkit.transfer.resampling import interval, resamples

CLASSES = ("sky", "sea", "ship", "sun")  # no image has the sun


def images(n: int = 5) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Predicted and true masks of various sizes; a tenth of the pixels has no class."""
    g = np.random.default_rng(3)
    pairs = []
    for k in range(n):
        shape = (7 + k, 11)
        true = g.integers(0, 3, shape)
        predicted = np.where(g.uniform(size=shape) < 0.7, true, g.integers(0, 3, shape))
        true[g.uniform(size=shape) < 0.1] = 255
        pairs.append((torch.from_numpy(predicted), torch.from_numpy(true)))
    return pairs


def by_hand(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[list[float], float]:
    """IoU of each class (NaN without a pixel) and the share of pixels that are right."""
    ious, right, scored = [], 0, 0
    for c in range(len(CLASSES)):
        both = either = 0
        for predicted, true in pairs:
            for p, t in zip(predicted.flatten().tolist(), true.flatten().tolist(), strict=True):
                if t != 255:
                    both += p == c and t == c
                    either += p == c or t == c
                    right += c == 0 and p == t
                    scored += c == 0
        ious.append(both / either if either else math.nan)
    return ious, right / scored


def test_scores_are_those_of_a_loop_over_pixels() -> None:
    pairs = images()
    found = score(torch.stack([areas(p, t, len(CLASSES)) for p, t in pairs]), CLASSES, times=5)
    ious, accuracy = by_hand(pairs)
    assert [found.iou[name].value for name in CLASSES[:3]] == pytest.approx(ious[:3])
    assert math.isnan(found.iou["sun"].value) and math.isnan(found.iou["sun"].interval[0])
    assert found.miou.value == pytest.approx(sum(ious[:3]) / 3)
    assert found.accuracy.value == pytest.approx(accuracy)
    assert found.images == 5


def test_intervals_are_the_percentiles_of_sets_of_drawn_images() -> None:
    pairs = images()
    found = score(torch.stack([areas(p, t, len(CLASSES)) for p, t in pairs]), CLASSES, seed=7, times=30)
    drawn = []
    for k in range(30):
        u = uniform(7, k, torch.arange(5), BOOTSTRAP, 1)[:, 0]
        ious, accuracy = by_hand([pairs[int(5 * each)] for each in u.tolist()])
        drawn.append((sum(ious[:3]) / 3, accuracy, ious[1]))
    for k, share in enumerate((found.miou, found.accuracy, found.iou["sea"])):
        assert share.interval == pytest.approx(np.percentile([row[k] for row in drawn], (2.5, 97.5)).tolist())


def test_a_class_that_no_drawn_image_has_does_not_count_in_that_draw() -> None:
    empty, full = torch.zeros(2, 2, dtype=torch.int64), torch.ones(2, 2, dtype=torch.int64)
    found = score(torch.stack([areas(empty, empty, 2), areas(full, full, 2)]), ("no", "yes"), times=50)
    assert found.miou == found.iou["yes"] == type(found.miou)(1.0, (1.0, 1.0))


def test_resamples_are_drawn_with_replacement_from_all_images() -> None:
    draws = resamples(20, 2000, seed=1)
    assert draws.shape == (2000, 20)
    assert np.bincount(draws.ravel(), minlength=20) / draws.size == pytest.approx(np.full(20, 1 / 20), rel=0.1)
    distinct = np.mean([len(set(row)) for row in draws.tolist()])
    assert distinct == pytest.approx(20 * (1 - (1 - 1 / 20) ** 20), rel=0.02)


@pytest.mark.slow
def test_an_interval_covers_the_mean_as_often_as_it_should() -> None:
    """Of means of 60 normal numbers; the percentile bootstrap is a little short of 95 %."""
    g, covered = np.random.default_rng(0), 0
    for k in range(100):
        sample = g.normal(size=60)
        low, high = interval(sample[resamples(60, 150, seed=k)].mean(1))
        covered += low <= 0 <= high
    assert 0.87 <= covered / 100 <= 0.99
