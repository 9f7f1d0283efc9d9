"""Duplicates: kinds of copies, groups, files."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import pearsonr

from contrastkit.errors import UserError
from contrastkit.explore import duplicates
from contrastkit.explore.copies import Kind, kinds
from contrastkit.explore.duplication import Pair, draw_duplicates, grouped, write_pairs
from tests.explore.photos import folder_of_copies, gallery, photo


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of_copies(tmp_path_factory.mktemp("copies") / "photos")


def test_each_kind_of_copy_is_told(copies: Path) -> None:
    pairs = {(a, b): kind for a, b, kind in pairs_of(copies, -1.0)}
    assert len(pairs) == 45
    planted = {
        ("a0.png", "b0.png"): Kind.IDENTICAL,
        ("a1.png", "b1.png"): Kind.COPY,
        ("a2.png", "b2.png"): Kind.COPY,
        ("a3.png", "b3.png"): Kind.MIRRORED,
    }
    assert {names: kind for names, kind in pairs.items() if kind is not Kind.SIMILAR} == planted


def pairs_of(folder: Path, threshold: float) -> list[tuple[str, str, Kind]]:
    report = duplicates(gallery(folder), threshold)
    return [(report.names[pair.a], report.names[pair.b], pair.kind) for pair in report.pairs]


def test_copies_are_those_whose_pixels_correlate(tmp_path: Path) -> None:
    """Against scipy's correlation of pixels averaged over blocks, each channel about its own mean."""
    (tmp_path / "x").mkdir()
    g, base = np.random.default_rng(0), np.asarray(photo(9, 16), np.float64)
    for i, noise in enumerate((0, 5, 8, 10, 12, 14, 20, 40)):
        image = base * (1 - i / 20) + g.normal(0, noise, base.shape) + [2 * i, 0, 0]
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(tmp_path / "x" / f"{i}.png")
    images = gallery(tmp_path / "x")
    found = kinds(images, np.zeros(7, np.int64), np.arange(1, 8))
    centred = [image.numpy() - image.numpy().mean((1, 2), keepdims=True) for image in images.pictures(range(8))]
    r = [pearsonr(centred[0].ravel(), each.ravel()).statistic for each in centred[1:]]
    assert [kind is Kind.COPY for kind in found] == [value >= 0.95 for value in r]
    assert 1 < found.count(Kind.COPY) < 6


def test_plain_images_are_no_copies_of_one_another(tmp_path: Path) -> None:
    """Of one colour or nearly so: the colours of their channels would correlate."""
    (tmp_path / "x").mkdir()
    for i in range(4):
        pixels = np.full((16, 16, 3), (20, 60, 90)) + np.random.default_rng(i).integers(0, 4, (16, 16, 3)) * (i > 1)
        Image.fromarray((pixels + i).astype(np.uint8)).save(tmp_path / "x" / f"{i}.png")
    assert {kind for *_, kind in pairs_of(tmp_path / "x", -1.0)} == {Kind.SIMILAR}


def test_images_of_a_single_colour_are_no_copies_whatever_their_size(tmp_path: Path) -> None:
    """Shrinking leaves them rounding errors, which depend on the size alone."""
    (tmp_path / "x").mkdir()
    for i, size in enumerate([(48, 48), (48, 48), (100, 75), (100, 75), (301, 217), (301, 217)]):
        Image.new("RGB", size, (200 + 9 * i, 90 - i, 33 + i)).save(tmp_path / "x" / f"{i}.png")
    assert {kind for *_, kind in pairs_of(tmp_path / "x", -1.0)} == {Kind.SIMILAR}


def test_groups_are_connected_components() -> None:
    def pair(a: int, b: int, similarity: float, kind: Kind = Kind.SIMILAR) -> Pair:
        return Pair(a, b, similarity, kind)

    pairs = [pair(1, 4, 0.96), pair(2, 9, 0.99), pair(3, 5, 0.95, Kind.COPY), pair(4, 8, 0.97), pair(6, 7, 0.99)]
    groups = grouped(pairs)
    assert [group.rows for group in groups] == [(3, 5), (2, 9), (6, 7), (1, 4, 8)]
    assert groups[3].pairs == (pairs[0], pairs[3])
    assert grouped([]) == ()


def test_the_report_its_table_and_its_sheet(copies: Path, tmp_path: Path) -> None:
    images = gallery(copies)
    report = duplicates(images, 0.97)
    assert {"a0.png", "b0.png"} <= set(report.names.values())
    assert report.groups[0].kinds[Kind.IDENTICAL] == 1, "the surest first"
    write_pairs(report, tmp_path / "pairs.csv")
    draw_duplicates(report, images, tmp_path / "sheet.png")
    with (tmp_path / "pairs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["image_a"], row["image_b"], row["kind"]) for row in rows] == [
        (report.names[pair.a], report.names[pair.b], str(pair.kind)) for pair in report.pairs
    ]
    assert rows[0] | {"group": "1", "split_a": "train", "cosine": "1.000000"} == rows[0]
    found = json.loads(json.dumps(report.as_json()))
    assert found["groups"][0]["images"][0] == {"image": "a0.png", "split": "train", "row": 0}
    assert found["pairs"]["identical"] == 1 and found["crossing"] == dict.fromkeys(map(str, Kind), 0)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width >= 700


def test_pairs_across_the_parts_are_counted(tmp_path: Path) -> None:
    for part, seeds in (("train", (0, 1)), ("test", (1, 2))):
        (tmp_path / "x" / part).mkdir(parents=True)
        for seed in seeds:
            photo(seed).save(tmp_path / "x" / part / f"{part}{seed}.png")
    report = duplicates(gallery(tmp_path / "x"), 0.999)
    assert report.crossing == {Kind.IDENTICAL: 1}


def test_what_is_refused(copies: Path, tmp_path: Path) -> None:
    for threshold in (1.01, -1.5, float("nan")):
        with pytest.raises(UserError, match="^--threshold must "):
            duplicates(gallery(copies), threshold)
    (tmp_path / "one").mkdir()
    photo(0).save(tmp_path / "one" / "x.png")
    with pytest.raises(UserError, match="^duplicates need at least two readable images: one has 1$"):
        duplicates(gallery(tmp_path / "one"), 0.9)


def test_more_images_than_are_compared_need_faiss(copies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contrastkit.explore.duplication.EXACT", 5)
    monkeypatch.setattr("contrastkit.explore.approximate.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'needs faiss: pip install "contrastkit\[faiss\]"$'):
        duplicates(gallery(copies), 0.9)
