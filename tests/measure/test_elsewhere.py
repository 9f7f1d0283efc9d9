"""Another set to test on: of the same kind, of labelled images, and without those that classifiers are fitted to."""

import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from contrastkit.data import ArraySource, DataSet, open_data
from contrastkit.errors import UserError
from contrastkit.evaluate import EvaluationSubject
from contrastkit.measure import measure
from contrastkit.measure.elsewhere import about, open_other
from contrastkit.parts.build import build_encoder


def photos(folder: Path, n: int, seed: int, classes: tuple[str, ...] = ("ant", "bee")) -> Path:
    g = np.random.default_rng(seed)
    for name in classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            Image.fromarray(g.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / name / f"{seed}-{i}.bmp")
    return folder


def sounds(folder: Path, rate: int) -> Path:
    g = np.random.default_rng(rate)
    for i in range(8):
        (folder / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        with wave.open(str(folder / "ab"[i % 2] / f"{i}.wav"), "wb") as file:
            file.setparams((1, 2, rate, 0, "NONE", ""))
            file.writeframes(g.integers(-999, 999, 400).astype("<i2").tobytes())
    return folder


def subject(data: DataSet) -> EvaluationSubject:
    return EvaluationSubject(data=data, encoders={"raw pixels": None}, size=8)


def of(data: Path | str, **how: Any) -> EvaluationSubject:
    return subject(open_data(str(data), **how))


def test_sounds_of_another_rate_are_refused(tmp_path: Path) -> None:
    one, other = sounds(tmp_path / "one", 16_000), sounds(tmp_path / "other", 8_000)
    says = "^one has sounds at 16,000 Hz, but --shift-data other has sounds at 8,000 Hz$"
    with pytest.raises(UserError, match=says):
        measure(of(one, val_fraction=0.5), shift_data=str(other))
    with pytest.raises(UserError, match="^one has sounds at 16,000 Hz, but --shift-data photos has images$"):
        measure(of(one, val_fraction=0.5), shift_data=str(photos(tmp_path / "photos", 4, 0)))


def test_sounds_are_measured_as_sounds(tmp_path: Path) -> None:
    data = open_data(str(sounds(tmp_path / "one", 16_000)))
    torch.manual_seed(0)
    of_sounds = EvaluationSubject(
        data=data, encoders={"tiny": build_encoder("wave-tiny", channels=1, size=160)}, size=400
    )
    report = measure(of_sounds, views_per_image=2)
    said = "\n".join(report.notices)
    assert "LiDAR and alignment: 2 views of 8 sounds, random windows, of 400 samples" in said
    assert report.modality == "sound" and "image" not in said.replace("--images", "")


def test_images_that_classifiers_are_fitted_to_are_left_out(tmp_path: Path) -> None:
    """The set that was split, tested on whole, with two images that are new, under other names and in a copy, too."""
    own = photos(tmp_path / "own", 20, 1)
    fitted = of(own, val_fraction=0.25)
    held_out = fitted.data.test
    assert held_out is not None and len(fitted.data.train) == 30
    other = open_other(fitted, str(own), None)
    assert sorted(other.source.paths) == sorted(held_out.paths) and other.found.trained_on == 30
    assert "own: left out 30 images that are in the training part of own, to which the classifiers are fitted" in about(
        other, fitted
    )
    copies = photos(tmp_path / "copies", 1, 2)
    for i, path in enumerate(fitted.data.train.paths[:5]):
        (copies / "bee" / f"copy{i}.bmp").write_bytes((own / path).read_bytes())
    other = open_other(fitted, str(copies), None)
    assert sorted(other.source.paths) == ["ant/2-0.bmp", "bee/2-0.bmp"] and other.found.trained_on == 5
    assert other.found.classes == ("ant", "bee")
    whole = subject(DataSet("own", open_data(str(own)).train, held_out, held_out))
    says = (
        "^--shift-data own: the classifiers are fitted to all of its images, which are in the training part of own: n"
    )
    with pytest.raises(UserError, match=says):
        open_other(whole, str(own), None)


def test_arrays_are_compared_and_what_is_stored_in_another_way_is_told(tmp_path: Path) -> None:
    own = photos(tmp_path / "own", 6, 1)
    data = open_data(str(own), val_fraction=0.5)
    images = torch.randint(0, 256, (8, 3, 8, 8), dtype=torch.uint8)
    train, test = (ArraySource("own", part, torch.arange(4) % 2, classes=("ant", "bee")) for part in images.split(4))
    names = np.array(["ant", "bee"] * 4)
    np.savez(tmp_path / "all.npz", images=images.permute(0, 2, 3, 1).numpy(), labels=names)
    other = open_other(subject(DataSet("own", train, test, train)), str(tmp_path / "all.npz"), None)
    assert torch.equal(other.source.images, images[4:]) and other.found.trained_on == 4  # type: ignore[arg-type]
    other = open_other(fitted := subject(data), str(tmp_path / "all.npz"), None)
    assert len(other.source) == 8 and other.found.trained_on is None
    assert "all: not checked whether its images are in the training part of own" in "\n".join(about(other, fitted))


def test_a_test_part_without_labels_does_not_win(tmp_path: Path) -> None:
    fitted = of(photos(tmp_path / "own", 6, 1, ("0", "1")), val_fraction=0.5)
    g = np.random.default_rng(0)
    images = g.integers(0, 256, (2, 6, 8, 8, 3), np.uint8)
    file, labels = tmp_path / "x.npz", np.array([0, 1] * 3)
    arrays = {"images": images[0], "labels": labels, "test_images": images[1], "test_labels": np.full(6, -1)}
    np.savez(file, **arrays)
    other = open_other(fitted, str(file), None)
    assert (other.found.part, len(other.source)) == ("train", 6)
    np.savez(file, **arrays | {"test_labels": labels})
    assert open_other(fitted, str(file), None).found.part == "test"
    np.savez(file, **arrays | {"labels": np.full(6, -1)})
    with pytest.raises(UserError, match="^--shift-data x has no labels to test with"):
        open_other(fitted, str(file), None)
