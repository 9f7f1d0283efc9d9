"""Search: the nearest images of query files."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from contrastkit.data import plain_batches
from contrastkit.errors import UserError
from contrastkit.evaluate import EvaluationSubject
from contrastkit.explore import Gallery, search
from contrastkit.explore.searching import draw_search
from contrastkit.loading import load
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


@pytest.mark.slow
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
        ("nowhere.png", "no such file: .*nowhere.png; texts are searched for with a run of clip"),
        ("empty", "no images in the folder .*empty to search for"),
    ]:
        with pytest.raises(UserError, match=says):
            search(found, [tmp_path / query])
    with pytest.raises(UserError, match="nothing to search for: give an image or a text with --query"):
        search(found, [])
    assert search(gallery(images), [photos / "a1.png"], k=2).images == 320  # of a set that is no files


@torch.no_grad()
def test_texts_are_compared_in_the_space_of_both(
    clip_run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cosines of ``load(run).image`` and ``.text``; a file beside them by the features alone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("contrastkit.explore.nearest.BLOCK", 2**15)  # several blocks
    subject = EvaluationSubject.open(clip_run)
    images, encoder = Gallery.open(subject, split="test"), load(clip_run)
    long = "a text of many words " * 20
    report = search(images, ["a red square", photos / "a0.png", "blue", long, "blue"], k=3)
    assert list(report.matches) == [str(photos / "a0.png"), "a red square", "blue", long]
    assert report.texts == ("a red square", "blue", long) and len(report.pictures) == 1
    assert report.notices[0].startswith("no file is called 'a red square', 'blue', 'a text of many")
    source = images.sources[0]
    x = torch.cat([encoder.image(batch.views[0]) for batch in plain_batches(source, size=subject.size)]).double()
    for text in report.texts:
        s = (x @ encoder.text([text])[0].double()).numpy()
        found = report.matches[text]
        assert {match.row for match in found} == set(np.argsort(-s)[:3].tolist())
        np.testing.assert_allclose([match.similarity for match in found], -np.sort(-s)[:3], atol=1e-6)
    assert len({match.row for text in ("a red square", "blue") for match in report.matches[text]}) > 3
    alone = search(images, [photos / "a0.png"], k=3)
    assert alone.matches == {key: report.matches[key] for key in alone.matches} and alone.texts == ()
    draw_search(report, images, tmp_path / "sheet.png")
    assert report.as_json()["texts"] == list(report.texts)
    with pytest.raises(UserError, match="a query is blank"):
        search(images, [" "])
    (tmp_path / "blue").symlink_to("nowhere")
    with pytest.raises(UserError, match="no such file: blue"):
        search(images, ["blue"])
