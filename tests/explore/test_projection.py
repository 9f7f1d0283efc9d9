"""Maps: neighbourhoods that are kept, places of pictures, colours."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from contrastkit.errors import UserError
from contrastkit.explore import project
from contrastkit.explore import projection as module
from contrastkit.explore.projection import GRID, MapReport, draw_map, write_map
from contrastkit.rng import permutation
from tests.explore.photos import gallery
from tests.explore.test_cluster import directions, of_features


@pytest.fixture(autouse=True)
def without_umap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)


def test_a_map_keeps_groups_together(images: Path, tmp_path: Path) -> None:
    x, which = directions(np.random.default_rng(0))
    shown = of_features(images, x, which)
    report = project(shown, images=150, seed=3)
    assert report.method == "t-SNE" and report.notices == (
        "150 of the 320 images are on the map, drawn by --seed (--images for more)",
        't-SNE, because UMAP is not installed: pip install "contrastkit[umap]"',
    )
    assert report.rows.tolist() == sorted(permutation(3, 0, 320)[:150].tolist())
    assert report.colour == "class" and report.groups.tolist() == which[report.rows].tolist()
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    kept = []
    for i in range(150):
        near, on_map = (
            np.argsort([np.inf if j == i else ((z[i] - z[j]) ** 2).sum() for j in range(150)])[:10]
            for z in (unit[report.rows], report.points)
        )
        kept.append(len({*near.tolist()} & {*on_map.tolist()}) / 10)
    assert report.kept == pytest.approx(np.mean(kept), abs=2e-3) and report.kept > 5 * report.chance
    assert report.chance == 10 / 149
    draw_map(report, shown, tmp_path / "map.png")
    write_map(report, shown, tmp_path / "map.csv")
    with (tmp_path / "map.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == [str(label) for label in which[report.rows]]
    assert float(rows[5]["y"]) == report.points[5, 1]
    with Image.open(tmp_path / "map.png") as picture:
        assert picture.width == 1200


def test_colours_by_cluster(images: Path) -> None:
    x, which = directions(np.random.default_rng(1))
    unlabelled = of_features(images, x, np.full(320, -1))
    report = project(unlabelled, k=3, images=30)
    assert report.colour == "cluster" and report.groups.tolist() == which[report.rows].tolist()
    assert report.names == ("cluster 1", "cluster 2", "cluster 3")
    with pytest.raises(UserError, match="^noise has no labels to colour by: use --colour cluster$"):
        project(unlabelled, colour="class")


def test_each_place_has_the_picture_nearest_to_its_middle() -> None:
    points = np.random.default_rng(0).normal(size=(500, 2))
    placed = module._placed(points)
    low, high = points.min(0), points.max(0)
    expected: dict[tuple[int, int], tuple[float, int]] = {}
    for i, (x, y) in enumerate(points):
        across, down = (x - low[0]) / (high[0] - low[0]) * GRID, (high[1] - y) / (high[1] - low[1]) * GRID
        column, row = min(int(across), GRID - 1), min(int(down), GRID - 1)
        off = (across - column - 0.5) ** 2 + (down - row - 0.5) ** 2
        expected[row, column] = min(expected.get((row, column), (np.inf, -1)), (off, i))
    assert {divmod(place, GRID): i for place, i in placed.items()} == {at: i for at, (_, i) in expected.items()}


def test_few_or_equal_images(images: Path) -> None:
    five = project(of_features(images, np.eye(320, 4)), images=5)
    assert five.points.shape == (5, 2) and np.isfinite(five.points).all()
    assert np.isfinite(project(of_features(images, np.ones((320, 3))), images=40).points).all()
    shown = gallery(images)
    readable = np.arange(320) < 4
    with pytest.raises(UserError, match="^noise has 4 readable images: a map needs at least 5$"):
        project(replace(shown, embedding=replace(shown.embedding, readable=readable)))


def test_more_groups_than_styles_are_grey(images: Path) -> None:
    report = project(
        of_features(images, np.random.default_rng(0).normal(size=(320, 3)), np.arange(320) % 30), images=60
    )
    shown, styles = module._styled(report)
    assert len(styles) == 1 + 21 and styles[-1][2] == "others"
    assert len({style[:2] for style in styles.values()}) == 22
    counts = np.bincount(report.groups, minlength=30)
    assert counts[np.unique(shown[shown >= 0])].min() >= counts[np.unique(report.groups[shown < 0])].max()
    many = len(np.unique(report.groups))
    assert many > 21
    assert f"{many} classes on the map: the 21 largest have colours, the others are grey" in report.notices


def test_many_groups_are_named_at_their_middle() -> None:
    """From the largest on; a name that would cover one is left out."""
    groups = np.repeat([0, 1, 2, -1], [5, 9, 3, 1])
    points = np.array([(0.0, 0.0)] * 5 + [(8.0, 8.0)] * 9 + [(0.1, 0.05)] * 3 + [(4.0, 8.0)])
    points[4], points[13] = (-60, 2), (9, 50)  # which a mean would follow
    names, figure = ("car", "a$b", "bus"), Figure((8, 8), 150)
    report = MapReport("x", "f", "UMAP", np.arange(18), points, "class", groups, names, 0.5, 0.1)
    axes = figure.subplots()
    axes.set(xlim=(-70, 20), ylim=(-10, 60))
    module._name_groups(figure, axes, report, [0, 1, 2])
    assert [(text.get_text(), *text.get_position()) for text in axes.texts] == [(r"a\$b", 8, 8), ("car", 0, 0)]


@pytest.mark.slow
def test_umap(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("umap")
    monkeypatch.undo()
    x, which = directions(np.random.default_rng(0))
    report = project(of_features(images, x, which), seed=1)
    assert report.method == "UMAP" and report.notices == () and report.kept > 5 * report.chance
    again = project(of_features(images, x, which), seed=1)
    np.testing.assert_array_equal(report.points, again.points)
    assert project(of_features(images, x), images=5).points.shape == (5, 2)
