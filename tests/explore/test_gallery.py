"""Galleries: features from a file are used again only for the same encoder and the same images."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from contrastkit.errors import UserError
from contrastkit.evaluate import EvaluationSubject, embed
from contrastkit.explore import Gallery


def opened(data: Path, **how: Any) -> EvaluationSubject:
    return EvaluationSubject.open(encoder="tiny", data=str(data), device="cpu", **({"size": 12} | how))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a training part of 6 images, of which one cannot be read, and a test part of 4."""
    root, g = tmp_path_factory.mktemp("gallery") / "pictures", np.random.default_rng(0)
    for part, n in (("train", 6), ("test", 4)):
        for i in range(n):
            file = root / part / "ab"[i % 2] / f"{part}{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(g.integers(0, 256, (14, 12, 3), dtype=np.uint8)).save(file)
    (root / "train" / "a" / "train2.png").write_bytes(b"no image")
    return root


@pytest.mark.parametrize("ending", [".npz", ".npy"])
def test_features_of_a_file_are_used_instead_of_the_encoder(ending: str, pictures: Path, tmp_path: Path) -> None:
    file = tmp_path / f"x{ending}"
    subject = opened(pictures, max_bad=0.5)
    made = Gallery.open(subject, split="train")
    embed(subject, split="train", out=file)
    used = Gallery.open(opened(pictures), features=file)  # whose split is that of the file
    np.testing.assert_array_equal(used.embedding.features, made.embedding.features)
    assert used.rows.tolist() == made.rows.tolist() == [0, 2, 3, 4, 5]
    assert isinstance(used.embedding.features, np.memmap) == (ending == ".npy")
    assert used.name(2) == str(Path("a") / "train4.png") and used.class_of(2) == "a" and used.class_of(5) == "b"
    with Image.open(pictures / "train" / "a" / "train4.png") as image:
        np.testing.assert_array_equal(used.pictures([2])[0].permute(1, 2, 0).numpy(), np.asarray(image))
    with pytest.raises(UserError, match=r"^a/train2\.png cannot be read: "):
        used.pictures([1])


def test_pictures_are_no_larger_than_a_sheet_shows_them(tmp_path: Path) -> None:
    """Else the sheet of 160 photographs of 12 megapixels would need 6 GB."""
    ramp = np.linspace(0, 255, 900).astype(np.uint8)
    for name, image in (("wide", np.tile(ramp, (300, 1))), ("high", np.tile(ramp[:, None], (1, 300)))):
        Image.fromarray(np.stack([image, image // 2, 255 - image], 2)).save(tmp_path / f"{name}.png")
    Image.new("RGB", (180, 7)).save(tmp_path / "fits.png")
    gallery = Gallery.open(opened(tmp_path))
    fits, high, wide = gallery.pictures([0, 1, 2])
    assert [tuple(each.shape) for each in (fits, high, wide)] == [(3, 7, 180), (3, 180, 60), (3, 60, 180)]
    for each in (high, wide):
        assert each.dtype == torch.uint8 and each.untyped_storage().nbytes() == 3 * 60 * 180
    means = ramp.astype(np.float64).reshape(180, 5).mean(1)
    np.testing.assert_allclose(wide[0, 30].numpy()[5:-5], means[5:-5], atol=1)
    assert gallery.image(2).shape == (3, 300, 900)  # the pixels of copies are compared as they are


def test_both_parts_of_a_set_that_is_no_files(images: Path) -> None:
    gallery = Gallery.open(opened(images, val_fraction=0.25))
    test = int(np.argmax(gallery.embedding.split == "test"))
    assert gallery.name(3) == "train[3]" and gallery.name(test + 2) == "test[2]"
    assert gallery.sources[1].fetch is not None
    np.testing.assert_array_equal(gallery.pictures([test])[0].numpy(), gallery.sources[1].images[0].numpy())


def test_a_name_does_not_look_at_all_images(images: Path) -> None:
    """Else the names of all images take a time that is quadratic in their number."""
    compared = 0

    class Counted(np.ndarray):
        def __array_ufunc__(self, ufunc: Any, method: Any, *inputs: Any, **kwargs: Any) -> Any:
            nonlocal compared
            compared += 1
            plain = [each.view(np.ndarray) if isinstance(each, Counted) else each for each in inputs]
            return getattr(ufunc, method)(*plain, **kwargs)

    gallery = Gallery.open(opened(images, val_fraction=0.25))
    split = gallery.embedding.split.view(Counted)
    gallery = replace(gallery, embedding=replace(gallery.embedding, split=split))
    assert [gallery.name(row) for row in (0, 239, 240, 319)] == ["train[0]", "train[239]", "test[0]", "test[79]"]
    before = compared
    assert len({gallery.name(row) for row in range(320)}) == 320
    assert compared == before


def test_features_of_something_else_are_refused(images: Path, hard_images: Path, tmp_path: Path) -> None:
    subject = opened(images)
    embed(subject, out=tmp_path / "x.npz")
    embed(subject, tokens=True, out=tmp_path / "tokens.npz")
    rest = dict(np.load(tmp_path / "x.npz"))
    np.savez(tmp_path / "old.npz", **{name: array for name, array in rest.items() if name != "origin"})
    np.savez(tmp_path / "short.npz", **(rest | {"labels": rest["labels"][:-1]}))
    (tmp_path / "table.csv").write_text("path,f0\nx,1\n")
    again = "embed again with 'contrastkit embed', or drop --features"
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"seed": 1}, "x.npz", rf"has features by tiny, untrained, another encoder than tiny, untrained: {again}"),
        ({"size": 16}, "x.npz", f"has features of images 12 px, not 16 px: {again}"),
        ({"val_fraction": 0.5}, "x.npz", "was made of other data: noise has other images or labels in its train part"),
        ({}, "tokens.npz", "has several vectors an image"),
        ({}, "old.npz", "has no array 'origin': give a file written by 'contrastkit embed' of this version"),
        ({}, "short.npz", r"is damaged: 320 rows of features, but labels of \(319,\)"),
        ({}, "table.csv", "is a table for other programs"),
        ({}, "nowhere.npz", "no such file"),
    ]
    for how, file, says in cases:
        with pytest.raises(UserError, match=says):
            Gallery.open(opened(images, **how), features=tmp_path / file)
    with pytest.raises(UserError, match="was made of other data: hard has other images or labels in its train part"):
        Gallery.open(opened(hard_images), features=tmp_path / "x.npz")


def test_another_background_is_refused(pictures: Path, tmp_path: Path) -> None:
    embed(opened(pictures, max_bad=0.5), split="test", out=tmp_path / "x.npz")
    with pytest.raises(UserError, match="has features of images on white, not on black"):
        Gallery.open(opened(pictures, background="black"), features=tmp_path / "x.npz")


def test_sounds_and_features_that_are_not_finite_are_refused(
    sounds: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="has sounds, which cannot be drawn: give images"):
        Gallery.open(EvaluationSubject.open(encoder="tiny", data=str(sounds), device="cpu"))
    subject = opened(images)
    next(iter(subject.encoders.values())).trunk.conv1.weight.data[0] = float("nan")
    with pytest.raises(UserError, match="gives 320 of 320 images features that are not finite: did its training div"):
        Gallery.open(subject)
