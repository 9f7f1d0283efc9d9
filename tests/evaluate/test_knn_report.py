"""Test images beside their neighbours, compared with loops in float64; what is said of k."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from contrastkit.data import ArraySource, DataSet, open_data
from contrastkit.evaluate import EvaluationSubject, knn
from contrastkit.evaluate import knn_report as module
from contrastkit.evaluate.knn_report import neighbour_sheet
from contrastkit.figures import Cell


class MeanColour(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))


def source(y: list[int], seed: int, classes: tuple[str, ...] = ("ant", "bee", "cat")) -> ArraySource:
    g = torch.Generator().manual_seed(seed)
    labels = torch.tensor(y)
    colours = 60 * labels[:, None] * torch.tensor([1, 0, 2]) + torch.randint(0, 130, (len(y), 3), generator=g)
    part = ArraySource("colours", colours.clamp(0, 255).byte()[:, :, None, None].expand(-1, -1, 8, 8), labels)
    part.classes = classes
    return part


def subject(train: list[int], test: list[int]) -> EvaluationSubject:
    data = DataSet("colours", source(train, 1), source(test, 2), source(train, 1))
    return EvaluationSubject(data=data, encoders={"mean": MeanColour(), "pixels": None}, size=8)


def features(part: ArraySource) -> list[list[float]]:
    return [(image.double() / 255).mean((1, 2)).tolist() for image in part.fetch(torch.arange(len(part)))]


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


def test_the_examples_against_a_loop() -> None:
    evaluated = subject([0, 1, 2] * 20, [0, 1, 2] * 15)
    train, test = evaluated.labelled_parts()
    assert isinstance(train, ArraySource) and isinstance(test, ArraySource)
    report = knn(evaluated, k=7)
    assert list(report.per_class) == list(report.accuracy) == ["mean", "pixels"]
    bank, queries = features(train), features(test)
    names = ("ant", "bee", "cat")
    answers = []
    for example in report.examples:
        assert test.labels is not None and train.labels is not None
        assert example.label == names[test.labels[example.index]]
        ranked = sorted(range(len(bank)), key=lambda j: -cosine(queries[example.index], bank[j]))[:7]
        votes = dict.fromkeys(names, 0.0)
        for j in ranked:
            votes[names[train.labels[j]]] += math.exp(cosine(queries[example.index], bank[j]) / 0.1)
        assert example.answer == max(votes, key=lambda name: votes[name])
        assert [near.index for near in example.neighbours] == ranked[:6]
        for near in example.neighbours:
            assert near.label == names[train.labels[near.index]] and near.path == ""
            assert near.similarity == pytest.approx(cosine(queries[example.index], bank[near.index]), abs=1e-5)
        answers.append(example.answer == example.label)
    assert answers == [False] * 5 + [True] * 3, "wrong ones, then right ones"
    right = sum(report.per_class["mean"][name].answers[name] for name in names)
    assert report.accuracy["mean"].top1 == right / 45
    assert knn(evaluated, k=7) == report, "drawn by no generator"


def test_positions_and_paths_are_those_of_the_files(tmp_path: Path) -> None:
    """Also where files cannot be read or have no part in the evaluation."""
    for part in ("train", "test"):
        for i in range(24):
            path = tmp_path / part / "ab"[i % 2] / f"{i:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (10 * i, 255 - 10 * i, 90)).save(path)
    (tmp_path / "train" / "a" / "02.png").write_bytes(b"torn")
    (tmp_path / "test" / "a" / "00.png").write_bytes(b"torn")
    evaluated = EvaluationSubject(data=open_data(str(tmp_path)), encoders={"mean": MeanColour()}, size=8, max_bad=0.2)
    report = knn(evaluated, k=1)
    train, test = evaluated.labelled_parts()
    assert report.examples and report.accuracy["mean"].n == 23
    for example in report.examples:
        assert example.path == test.paths[example.index] and example.path.startswith(example.label)
        (near,) = example.neighbours
        assert near.path == train.paths[near.index] and near.path.startswith(near.label)
        if Path(example.path).name != "02.png":
            assert Path(near.path).name == Path(example.path).name, "the same colour"


def test_the_sheet_shows_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[list[list[Cell]]] = []
    monkeypatch.setattr(module, "sheet", lambda path, rows, **how: made.append(rows))
    evaluated = subject([0, 1, 2] * 20, [0, 1, 2] * 15)
    report = knn(evaluated, k=3)
    neighbour_sheet(tmp_path / "s.png", report, evaluated)
    train, test = evaluated.labelled_parts()
    for example, (query, *others) in zip(report.examples, made[0], strict=True):
        assert torch.equal(query.image, test.fetch(torch.tensor([example.index]))[0])
        assert query.right == (example.answer == example.label) and example.label in query.caption
        assert len(others) == 3
        for near, cell in zip(example.neighbours, others, strict=True):
            assert torch.equal(cell.image, train.fetch(torch.tensor([near.index]))[0])
            assert cell.right == (near.label == example.label) and cell.caption.startswith(near.label)
    monkeypatch.undo()
    neighbour_sheet(tmp_path / "s.png", report, evaluated)
    neighbour_sheet(tmp_path / "s.png", replace(report, examples=()), evaluated)


@pytest.mark.parametrize(
    ("k", "said"),
    [
        (3, None),
        (4, "k = 4 is more than the training images of 1 of 3 classes (bee 3): other classes always vote on theirs; "
            "compare --k 3"),
        (10, "k = 10 is more than the training images of 2 of 3 classes (bee 3, cat 9): other classes"),
        (33, "k = 33 is more than the 32 training images: all of them vote"),
    ],
)  # fmt: skip
def test_k_above_what_a_class_holds_is_told(k: int, said: str | None) -> None:
    notices = knn(subject([0] * 20 + [1] * 3 + [2] * 9, [0, 1, 2]), k=k).notices
    assert [notice[: len(said or "")] for notice in notices] == ([] if said is None else [said])


def test_a_class_without_training_images_is_told() -> None:
    (notice,) = knn(subject([0] * 9 + [2] * 9, [0, 1, 2]), k=5).notices
    assert notice == "no training image of bee: its test images cannot be right"
