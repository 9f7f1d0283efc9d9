"""Average precision: of hand-made boxes, and against a plain loop at one overlap."""

import builtins
import math

import numpy as np
import pytest
import torch

from contrastkit.errors import UserError
from contrastkit.transfer.average_precision import average_precision, require_metric
from contrastkit.transfer.boxes import Boxes


def boxes(*rows: tuple[float, float, float, float, int], difficult: tuple[int, ...] = ()) -> Boxes:
    """Objects: left, top, right, bottom, label."""
    values = torch.tensor(rows, dtype=torch.float32).view(-1, 5)
    hard = torch.tensor([i in difficult for i in range(len(values))], dtype=torch.bool)
    return Boxes(values[:, :4], values[:, 4].long(), hard, None)


def found(*rows: tuple[float, float, float, float, int, float]) -> dict[str, torch.Tensor]:
    """Predictions: left, top, right, bottom, label, score."""
    values = torch.tensor(rows, dtype=torch.float32).view(-1, 6)
    return {"boxes": values[:, :4], "labels": values[:, 4].long(), "scores": values[:, 5]}


def test_without_the_libraries_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    load = builtins.__import__

    def missing(name, *args, **how):
        if name.startswith(("torchmetrics", "faster_coco_eval")):
            raise ImportError(name)
        return load(name, *args, **how)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UserError, match=r'pip install "contrastkit\[detect\]"'):
        require_metric()


@pytest.fixture
def metric() -> None:
    for library in ("torchmetrics", "faster_coco_eval"):
        pytest.importorskip(library)


@pytest.mark.usefixtures("metric")
def test_scores_of_boxes_by_hand() -> None:
    """Two of the class a, one found exactly and one at an overlap of 0.62; one of b, missed."""
    truth = [boxes((0, 0, 100, 100, 1), (200, 0, 300, 100, 1)), boxes((0, 0, 50, 50, 2))]
    predicted = [found((0, 0, 100, 100, 1, 0.9), (200, 0, 262, 100, 1, 0.8)), found()]
    score = average_precision(predicted, truth, ("a", "b", "c"), times=0)
    # At an overlap of 0.5, 0.55 and 0.6 both are found, at the other seven one of two: 51 of 101 recalls.
    a = (3 + 7 * 51 / 101) / 10
    assert score.classes["a"].value == pytest.approx(a, abs=1e-3)
    assert score.classes["b"].value == 0
    assert "c" not in score.classes  # no test image has one
    assert score.ap.value == pytest.approx(a / 2, abs=1e-3)
    assert score.ap50.value == pytest.approx(1 / 2, abs=1e-3)
    assert score.ap75.value == pytest.approx(51 / 101 / 2, abs=1e-3)
    assert math.isnan(score.ap.interval[0])


@pytest.mark.usefixtures("metric")
def test_a_difficult_object_is_neither_right_nor_wrong() -> None:
    truth = [boxes((0, 0, 100, 100, 1), (200, 0, 300, 100, 1), difficult=(1,))]
    for predicted in (
        found((0, 0, 100, 100, 1, 0.9)),
        found((0, 0, 100, 100, 1, 0.5), (200, 0, 300, 100, 1, 0.9)),
    ):
        assert average_precision([predicted], truth, ("a",), times=0).ap.value == pytest.approx(1)


@pytest.mark.usefixtures("metric")
def test_at_one_overlap_it_is_that_of_a_plain_loop() -> None:
    g = np.random.default_rng(0)
    truth, predicted = [], []
    for _ in range(6):
        corner = g.uniform(0, 80, (4, 2))
        true = np.hstack([corner, corner + g.uniform(10, 40, (4, 2)), np.ones((4, 1))])
        near = true[[0, 1, 2, 0], :4] + g.normal(0, 4, (4, 4))
        truth.append(boxes(*map(tuple, true)))
        predicted.append(found(*((*box, 1, s) for box, s in zip(near, g.uniform(size=4), strict=True))))
    score = average_precision(predicted, truth, ("a",), times=0)
    assert score.ap50.value == pytest.approx(by_hand(predicted, truth, 0.5), abs=1e-6)
    assert score.ap75.value == pytest.approx(by_hand(predicted, truth, 0.75), abs=1e-6)


@pytest.mark.usefixtures("metric")
def test_intervals_are_the_percentiles_of_sets_of_drawn_images() -> None:
    truth = [boxes((0, 0, 50, 50, 1))] * 8
    predicted = [found((0, 0, 50, 50, 1, 0.9))] * 4 + [found()] * 4
    score = average_precision(predicted, truth, ("a",), times=60)
    assert score.ap.value == pytest.approx(51 / 101, abs=1e-6)
    low, high = score.ap.interval
    assert 0.1 < low < 0.35 and 0.65 < high < 0.95  # of a share of 4 in 8: 0.18 and 0.83
    assert average_precision([found((0, 0, 50, 50, 1, 0.9))] * 8, truth, ("a",), times=9).ap.interval == (1, 1)


def by_hand(predicted, truth, overlap: float) -> float:
    """COCO's average precision of one class: greedy matching by score, precision made falling, 101 recalls."""
    rows = []
    for one, boxes in zip(predicted, truth, strict=True):
        taken = set()
        for k in one["scores"].argsort(descending=True).tolist():
            best, at = overlap, None
            for j in range(len(boxes.box)):
                if j not in taken and (each := iou(one["boxes"][k], boxes.box[j])) >= best:
                    best, at = each, j
            taken.add(at)
            rows.append((one["scores"][k].item(), at is not None))
    rows.sort(key=lambda row: -row[0])
    n, right, points = sum(len(each.box) for each in truth), 0, []
    for k, (_, hit) in enumerate(rows, start=1):
        right += hit
        points.append((right / n, right / k))
    return sum(max([p for r, p in points if r >= i / 100 - 1e-12], default=0.0) for i in range(101)) / 101


def iou(a: torch.Tensor, b: torch.Tensor) -> float:
    w = max(0.0, min(a[2], b[2]).item() - max(a[0], b[0]).item())
    h = max(0.0, min(a[3], b[3]).item() - max(a[1], b[1]).item())
    area = [((x[2] - x[0]) * (x[3] - x[1])).item() for x in (a, b)]
    return w * h / (sum(area) - w * h)
