"""Search: the nearest images of query files."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contrastkit.errors import UserError
from contrastkit.explore import search
from contrastkit.explore.searching import draw_search
from tests.explore.photos import folder_of_copies, gallery, photo


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of_copies(tmp_path_factory.mktemp("search") / "photos")


def test_the_nearest_images_of_each_query(photos: Path, tmp_path: Path) -> None:
    images = gallery(photos)
    (tmp_path / "queries").mkdir()
    photo(4).save(tmp_path / "queries" / "q4.png")
    report = search(images, [photos / "a0.png", tmp_path / "queries", photos / "a0.png"], k=3)
    assert list(report.matches) == [str(photos / "a0.png"), str(tmp_path / "queries" / "q4.png")]
    x = images.embedding.features.astype(np.float64)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    for (_, found), row in zip(report.matches.items(), (0, 4), strict=True):
        s = (x @ x[row]).astype(np.float32)
        expected = np.lexsort((np.arange(10), -s))[:3]
        assert [match.row for match in found] == expected.tolist()
        np.testing.assert_allclose([match.similarity for match in found], s[expected], atol=1e-6)
    first = report.matches[str(photos / "a0.png")]
    assert [match.name for match in first[:2]] == ["a0.png", "b0.png"], "equally near: the first in the gallery first"
    draw_search(report, images, tmp_path / "sheet.png")
    assert json.loads(json.dumps(report.as_json()))["matches"][str(photos / "a0.png")][1]["image"] == "b0.png"


def test_k(photos: Path) -> None:
    images = gallery(photos)
    assert len(search(images, [photos / "a0.png"]).matches[str(photos / "a0.png")]) == 10  # all there are
    with pytest.raises(UserError, match="^--k 11 is above 10, the number of readable images of photos$"):
        search(images, [photos / "a0.png"], k=11)
    with pytest.raises(UserError, match="^--k must be at least 1"):
        search(images, [photos / "a0.png"], k=0)


def test_features_of_the_same_encoder_by_another_name(photos: Path) -> None:
    """As of a run that was moved, or is given by a relative path."""
    images = gallery(photos)
    there = replace(images.embedding, origin=replace(images.embedding.origin, encoder="../elsewhere"))
    report = search(replace(images, embedding=there), [photos / "a0.png"], k=1)
    assert report.matches == search(images, [photos / "a0.png"], k=1).matches


def test_pictures_of_the_queries_are_few_and_small(photos: Path, tmp_path: Path) -> None:
    images = gallery(photos)
    for i in range(22):
        photo(i).resize((400, 200) if i else (30, 20)).save(tmp_path / f"{i:02}.png")
    report = search(images, [tmp_path], k=2)
    assert len(report.matches) == 22
    assert [tuple(picture.shape) for picture in report.pictures] == [(3, 20, 30), *[(3, 90, 180)] * 19]
    expected = np.asarray(photo(1).resize((400, 200)).resize((180, 90), Image.Resampling.BILINEAR), np.float64)
    assert np.abs(report.pictures[1].permute(1, 2, 0).numpy() - expected).max() <= 1
    draw_search(report, images, tmp_path / "sheet.png")


def test_queries_that_are_none(photos: Path, tmp_path: Path, images: Path) -> None:
    found = gallery(photos)
    (tmp_path / "noise.png").write_bytes(b"no image")
    (tmp_path / "empty").mkdir()
    for query, says in [
        ("noise.png", "noise.png cannot be read: "),
        ("nowhere.png", "no such file: "),
        ("empty", "no images in the folder .*empty to search for"),
    ]:
        with pytest.raises(UserError, match=says):
            search(found, [tmp_path / query])
    with pytest.raises(UserError, match="nothing to search for: give an image with --query"):
        search(found, [])
    assert search(gallery(images), [photos / "a1.png"], k=2).images == 320  # of a set that is no files
