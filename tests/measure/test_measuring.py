"""The numbers of a subject, and its accuracy under shift, against calls of their parts."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from contrastkit.augment import VIEWS, View, random_views
from contrastkit.data import ArraySource, DataSet
from contrastkit.errors import UserError
from contrastkit.evaluate import EvaluationSubject
from contrastkit.evaluate.features import Features
from contrastkit.evaluate.linear import linear_probe
from contrastkit.evaluate.neighbours import knn_accuracy
from contrastkit.measure import MeasureReport, measure, numbers
from contrastkit.measure.corruptions import CorruptedSource
from contrastkit.measure.formulas import alignment, lidar, rankme, uniformity
from contrastkit.measure.shifting import shift_chart
from contrastkit.measure.views import positive_pair, view_features
from contrastkit.record import Record
from contrastkit.rng import permutation

CLASSES = ("ant", "bee", "cat")


class Colours(nn.Module):
    """Mean and standard deviation of each channel."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([images.mean((2, 3)), images.std((2, 3))], dim=1)


def source(n: int, seed: int, classes: tuple[str, ...] = CLASSES) -> ArraySource:
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % len(classes)
    tint = torch.tensor([[160.0, 100, 100], [100, 160, 100], [100, 100, 160]])[labels % 3]
    pixels = (
        tint[:, :, None, None] + 60 * torch.randn(n, 3, 8, 8, generator=g) + 40 * torch.randn(n, 3, 1, 1, generator=g)
    )
    return ArraySource("tints", pixels.clamp(0, 255).byte(), labels, classes=classes)


def subject(n: int = 60, **changes: Any) -> EvaluationSubject:
    train, test = source(n, 1), source(30, 2)
    encoders = {"colours": Colours(), "raw pixels": None}
    given: dict[str, Any] = {"data": DataSet("tints", train, test, train), "encoders": encoders, "size": 8}
    return EvaluationSubject(**given | changes)


def encoded(part: ArraySource) -> Features:
    assert part.labels is not None
    return Features(Colours()(part.images / 255), part.labels)


# ------------------------------------------------------------------------------------------------------------- numbers


def test_the_numbers_are_those_of_the_drawn_images() -> None:
    evaluated = subject()
    report = measure(evaluated, images=40, views_per_image=3, seed=5)
    train = source(60, 1)
    rows = permutation(5, 0, 60)[:40].sort()[0]
    x = Colours()(train.images[rows] / 255)
    own, pixels = report.numbers["colours"], report.numbers["raw pixels"]
    assert (report.images, report.viewed, own.dimensions, pixels.dimensions) == (40, 40, 6, 192)
    assert (own.rankme, own.uniformity) == (pytest.approx(rankme(x)), pytest.approx(uniformity(x)))
    flat = train.images[rows].flatten(1) / 255 - 0.5
    assert pixels.rankme == pytest.approx(rankme(flat), rel=1e-6)
    row = replace(VIEWS["simclr-cifar"][0], size=8)
    views = [random_views(train.images[rows], row, seed=5, time=0, index=rows, v=v) for v in range(3)]
    x = torch.stack([Colours()(view) for view in views], 1)
    assert (own.lidar, own.alignment) == (pytest.approx(lidar(x), rel=1e-5), pytest.approx(alignment(x), rel=1e-5))
    assert 0.05 < own.ari <= 1 and 0.05 < own.nmi <= 1, "three tints"
    assert math.isnan(own.alpha) and math.isnan(pixels.lidar)
    assert (report.seed, report.views_of, report.views) == (5, "simclr-cifar's", (row, row))
    said = "\n".join(report.notices)
    assert "LiDAR and alignment: 3 views of 40 images, simclr-cifar's, of 8 px" in said
    assert "raw pixels: 40 images, fewer than the 192 dimensions, bound RankMe to 40" in said
    assert "colours: no alpha-ReQ" in said and "raw pixels: no LiDAR and no alignment" in said


def test_views_are_of_some_images_and_their_number_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbers, "VIEWED", 5)
    report = measure(subject(encoders={"colours": Colours()}), views_per_image=2)
    assert report.numbers["colours"].lidar <= 4 + 1e-3
    assert "colours: LiDAR is at most 4, the number of images under views less one" in report.notices


def test_without_labels_and_with_one_class() -> None:
    bare = source(30, 1)
    bare.labels = None
    report = measure(subject(data=DataSet("tints", bare, None, bare)), views_per_image=2)
    assert math.isnan(report.numbers["colours"].nmi) and "no NMI and ARI: the images have no labels" in report.notices
    with pytest.raises(UserError, match="^--shift needs labels and a test part: tints has no labels to evaluate with"):
        measure(subject(data=DataSet("tints", bare, None, bare)), shift=True)
    single = source(30, 1)
    single.labels = torch.ones(30, dtype=torch.int64)
    report = measure(subject(data=DataSet("tints", single, None, single)), views_per_image=2)
    assert math.isnan(report.numbers["colours"].ari) and "no NMI and ARI: all labels are the same" in report.notices


def test_what_cannot_be_measured_is_one_line() -> None:
    one = source(1, 1)
    with pytest.raises(UserError, match="^measure needs at least two readable images: tints has 1$"):
        measure(subject(data=DataSet("tints", one, None, one)))
    with pytest.raises(UserError, match="^tints has no test part"):
        measure(subject(data=DataSet("tints", source(9, 1), None, one)), split="test")
    broken = nn.Sequential(Colours(), nn.Threshold(0.4, math.inf))
    with pytest.raises(UserError, match="^broken gives 60 of 60 images features that are not finite: did its training"):
        measure(subject(encoders={"broken": broken}))
    dead = measure(subject(encoders={"dead": nn.Sequential(Colours(), nn.Threshold(9, 0))}), views_per_image=2)
    assert math.isnan(dead.numbers["dead"].rankme) and "dead: all features are 0: no RankMe" in dead.notices
    assert dead.numbers["dead"].uniformity == 0


def test_views_are_the_runs_own_at_the_size_of_the_evaluation(moco_run: Path) -> None:
    evaluated = EvaluationSubject.open(moco_run, device="cpu")
    own = Record.read(moco_run / "recipe.json").recipe["views"]
    (first, second), whose = positive_pair(evaluated, None)
    assert (whose, first.size) == ("the run's own", evaluated.size)
    for view, recorded in zip((first, second), own, strict=True):
        assert replace(view, size=recorded["size"]) == View(**recorded)
    pair, whose = positive_pair(evaluated, "byol-cifar")
    assert whose == "byol-cifar's" and pair == tuple(replace(view, size=evaluated.size) for view in VIEWS["byol-cifar"])
    with pytest.raises(UserError, match="unknown views 'byoll'"):
        positive_pair(evaluated, "byoll")


def test_features_of_views_do_not_depend_on_batches_and_workers() -> None:
    """The views alternate between the two of a pair, and each has the address of its image."""
    part, rows = source(20, 1), torch.tensor([2, 3, 11, 17])
    pair = tuple(replace(view, size=8) for view in VIEWS["byol-cifar"])
    evaluated = subject(batch=9)
    how: dict[str, Any] = {"q": 4, "seed": 3}
    x = view_features(evaluated, Colours(), "colours", part, rows, pair, **how)  # type: ignore[arg-type]
    for workers, batch in ((1, 9), (0, 512)):
        again = replace(evaluated, workers=workers, batch=batch)
        assert torch.equal(view_features(again, Colours(), "colours", part, rows, pair, **how), x)  # type: ignore[arg-type]
    third = random_views(part.images[11:12], pair[1], seed=3, time=0, index=rows[2:3], v=3)
    torch.testing.assert_close(x[2, 3], Colours()(third)[0])


# --------------------------------------------------------------------------------------------------------------- shift


@pytest.fixture(scope="module")
def shifted() -> MeasureReport:
    return measure(subject(encoders={"colours": Colours()}), views_per_image=2, shift=True, seed=4)


def test_shift_trains_on_images_as_they_are_and_tests_on_corrupted_ones(shifted: MeasureReport) -> None:
    evaluated, report = subject(encoders={"colours": Colours()}), shifted
    assert report.shift is not None and report.shift.constants_of == "CIFAR-10-C"
    ((_, train, clean),) = evaluated.labelled_features()
    probe = linear_probe(train, clean, n_classes=3, seeds=range(4, 9))
    assert report.shift.clean["colours"].probe.top1 == pytest.approx(probe.accuracy.top1, abs=0.04)
    assert report.shift.clean["colours"].knn == knn_accuracy(train, clean, n_classes=3)
    contrast = CorruptedSource(source(30, 2), "contrast", 5, size=8, seed=4)
    pixels = ArraySource("x", contrast.fetch(torch.arange(30)), clean.y)
    (features,) = evaluated.features("colours", pixels)
    found = report.shift.corrupted["colours"]["contrast"][4]
    assert found.knn == knn_accuracy(train, features, n_classes=3)
    probe = linear_probe(train, features, n_classes=3, seeds=range(4, 9))
    assert found.probe.top1 == pytest.approx(probe.accuracy.top1, abs=0.04)
    assert found.knn.top1 < report.shift.clean["colours"].knn.top1
    every = [each.knn.top1 for tested in report.shift.corrupted["colours"].values() for each in tested]
    assert len(every) == 25 and report.shift.mean("colours", "knn") == pytest.approx(sum(every) / 25)
    assert [len(report.shift.rows("colours")), report.shift.rows("colours")[5][:2]] == [
        26,
        ("noise 5", "std 0.1"),
    ]


def test_another_set_is_matched_by_the_names_of_its_classes(tmp_path: Path) -> None:
    """Its numbers of the classes differ, and one class has no partner on either side."""
    other = source(45, 7, ("wasp", "cat", "ant"))
    assert isinstance(other.images, Tensor) and other.labels is not None
    names = np.array(["wasp", "cat", "ant"])[other.labels.numpy()]
    np.savez(tmp_path / "other.npz", images=other.images.permute(0, 2, 3, 1).numpy(), labels=names)
    report = measure(
        subject(encoders={"colours": Colours()}), views_per_image=2, shift_data=str(tmp_path / "other.npz"), seed=4
    )
    assert report.shift is not None and report.shift.elsewhere is not None and report.shift.corrupted == {}
    found = report.shift.elsewhere
    assert (found.classes, found.left_out, found.lacking) == (("ant", "cat"), ("wasp",), ("bee",))
    kept = (other.labels > 0).nonzero()[:, 0]
    y = torch.where(other.labels[kept] == 1, 2, 0)  # as of the subject: ant 0, cat 2
    train = encoded(source(60, 1))
    expected = knn_accuracy(train, Features(Colours()(other.images[kept] / 255), y), n_classes=3)
    assert found.accuracy["colours"].knn == expected
    test = encoded(source(30, 2))
    assert found.clean["colours"].knn == knn_accuracy(train, test.subset((test.y != 1).nonzero()[:, 0]), n_classes=3)
    assert [row[0] for row in report.shift.rows("colours")] == ["as they are", "the same classes", "other"]
    said = "\n".join(report.notices)
    assert "other: its train part, 30 images of 2 classes" in said
    assert "other: left out, since no class has the name: wasp" in said
    assert "other has no images of bee: an answer may be one of these" in said
    np.savez(tmp_path / "none.npz", images=np.zeros((4, 8, 8, 3), np.uint8), labels=np.array(["x", "y"] * 2))
    with pytest.raises(
        UserError, match=r"^no class of --shift-data none \(x, y\) has the name of one of tints \(ant, b"
    ):
        measure(subject(), shift_data=str(tmp_path / "none.npz"))


def test_large_raw_pixels_have_no_corruptions() -> None:
    report = measure(subject(size=40), images=20, views_per_image=2, shift=True)
    assert report.shift is not None and list(report.shift.corrupted) == ["colours"]
    assert list(report.shift.clean) == ["colours", "raw pixels"]
    assert "raw pixels: no corruptions, since shrinking to 32 px takes them away" in report.notices


def test_the_chart(shifted: MeasureReport, tmp_path: Path) -> None:
    """The encoder's name is no formula."""
    assert shifted.shift is not None
    names = (r"runs/$\a_{$" + 60 * "x", "b")
    clean = dict.fromkeys(names, shifted.shift.clean["colours"])
    corrupted = dict.fromkeys(names, shifted.shift.corrupted["colours"])
    shift_chart(tmp_path / "x.png", replace(shifted.shift, clean=clean, corrupted=corrupted), "tints")
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.format == "PNG" and picture.width == 1200
