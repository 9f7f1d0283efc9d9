"""The results of each class compared with loops over the test images and with scikit-learn."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import balanced_accuracy_score, confusion_matrix
from torch import Tensor

from contrastkit.evaluate import confusion as module
from contrastkit.evaluate.confusion import (
    class_names,
    classes_without_training,
    confusion_chart,
    confusions,
    mean_per_class,
    per_class,
)
from contrastkit.intervals import wilson

NAMES = ("ant", "bee", "cat", "dog", "eel")


def answers(n: int = 200, S: int = 1) -> tuple[Tensor, Tensor]:
    """No test image of a dog, but answers; neither an eel nor an answer."""
    g = torch.Generator().manual_seed(0)
    y = torch.randint(0, 3, (n,), generator=g)
    noise = torch.randint(0, 4, (S, n), generator=g)
    return torch.where(torch.rand(S, n, generator=g) < 0.6, y, noise), y


@pytest.mark.parametrize("S", [1, 3])
def test_against_a_loop(S: int) -> None:
    said, y = answers(S=S)
    results = per_class(said, y, NAMES)
    assert list(results) == ["ant", "bee", "cat", "dog"]
    for c, name in enumerate(NAMES[:3]):
        images = [i for i in range(len(y)) if y[i] == c]
        counts = {other: sum(int(said[s, i] == k) for s in range(S) for i in images) for k, other in enumerate(NAMES)}
        assert results[name].n == len(images)
        assert results[name].answers == {other: count for other, count in counts.items() if count}
        assert results[name].top1 == counts[name] / (S * len(images))
        assert results[name].interval == wilson(results[name].top1, len(images)), "of the images, not of the answers"
    dog = results["dog"]
    assert dog.n == 0 and dog.answers == {} and all(map(math.isnan, (dog.top1, *dog.interval)))


def test_against_scikit_learn() -> None:
    (said,), y = answers()
    results = per_class(said, y, NAMES)
    matrix = [[results[true].answers.get(answer, 0) for answer in results] for true in results]
    np.testing.assert_array_equal(matrix, confusion_matrix(y, said, labels=range(4)))
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        assert mean_per_class(results) == pytest.approx(balanced_accuracy_score(y, said))


def test_the_most_frequent_answer_and_mistake_come_first() -> None:
    y = torch.tensor([0] * 10 + [1] * 4)
    said = torch.tensor([0] * 3 + [2] * 5 + [1] * 2 + [1] * 3 + [0])
    results = per_class(said, y, NAMES)
    assert list(results["ant"].answers.items()) == [("cat", 5), ("ant", 3), ("bee", 2)]
    assert confusions(results) == [(0.5, "ant", "cat"), (0.25, "bee", "ant"), (0.2, "ant", "bee")]


@pytest.mark.parametrize(
    ("own", "names"),
    [
        (None, ("0", "1", "2")),
        (("a", "b", "c", "d"), ("a", "b", "c")),
        (("a",), ("a", "1", "2")),
        (("a", "b", "a"), ("0", "b", "2")),
        (("2", "1", "0"), ("2", "1", "0")),
        (("1", "a", "a"), ("1", "class 1", "2")),
        (("class 2", "2"), ("class 2", "2", "class class 2")),
    ],
)
def test_every_class_has_a_name_of_its_own(own: tuple[str, ...] | None, names: tuple[str, ...]) -> None:
    assert class_names(own, 3) == names


def test_classes_without_a_training_image_are_told() -> None:
    train, test = torch.tensor([0, 1, 1]), torch.tensor([0, 1, 2, 4, 4])
    assert classes_without_training(train, test[:2], NAMES) == []
    assert classes_without_training(train, test[:3], NAMES) == [
        "no training image of cat: its test images cannot be right"
    ]
    assert "no training image of cat, eel: their" in classes_without_training(train, test, NAMES)[0]


@pytest.mark.slow
@pytest.mark.parametrize(("C", "labelled"), [(2, 2), (40, 40), (41, 21), (102, 34)])
def test_as_many_classes_are_labelled_as_fit(
    C: int, labelled: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their labels do not overlap; how many are left out is said."""
    seen: list[Any] = []
    real = module._draw_matrix

    def spy(axes: Any, *how: Any) -> None:
        real(axes, *how)
        seen.append(axes)

    monkeypatch.setattr(module, "_draw_matrix", spy)
    y = torch.arange(C).repeat(3)
    names = [f"a long name of a class, of which there are several: {c}" for c in range(C)]
    confusion_chart(tmp_path / "c.png", per_class(y.where(torch.arange(3 * C) % 7 > 0, 0), y, names), "a title")
    with Image.open(tmp_path / "c.png") as picture:
        assert picture.size[0] == 1200
    (axes,) = seen
    labels = axes.get_yticklabels()
    assert len(labels) == labelled
    assert ("labelled" in axes.get_xlabel()) == (labelled < C)
    boxes = sorted((label.get_window_extent() for label in labels), key=lambda part: part.y0)
    assert all(below.y1 <= above.y0 + 3 for below, above in zip(boxes, boxes[1:], strict=False))
    assert all(part.x0 >= 0 for part in boxes)
    shares = axes.images[0].get_array()
    np.testing.assert_allclose(shares.sum(1), 100)
