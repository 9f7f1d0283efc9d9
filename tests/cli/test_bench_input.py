"""bench-input: every stage of every library that is here is timed, and its options change what is measured."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from contrastkit.augment import named_views
from contrastkit.bench import measure
from contrastkit.bench.input import STAGES, Sample
from contrastkit.bench.input_peers import PEERS
from contrastkit.cli.main import main
from contrastkit.data import open_data

KEYS = ["stage", "impl", "images_per_second", "iqr", "note"]


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "BUDGET", 0.0)
    monkeypatch.setattr(measure, "MIN_SAMPLES", 2)


def photos(folder: Path, ending: str = "jpg", number: int = 5) -> Path:
    folder.mkdir(exist_ok=True)
    for k in range(number):
        pixels = np.random.default_rng(k).integers(0, 256, (20 + k, 30, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{k}.{ending}")
    return folder


def measured(tmp_path: Path, *options: str) -> list[dict[str, Any]]:
    """The rows that the command writes."""
    assert main(["bench-input", *options, f"--json={tmp_path / 'x.json'}"]) == 0
    rows = json.loads((tmp_path / "x.json").read_text())
    assert all(list(row) == KEYS for row in rows)
    return rows


def test_every_stage_is_timed_and_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = measured(tmp_path, f"--data={photos(tmp_path / 'photos')}", "--views=byol", "--size=8", "--images=4")
    assert tuple(dict.fromkeys(row["stage"] for row in rows)) == STAGES
    here = {(row["stage"], row["impl"]) for row in rows if row["images_per_second"] is not None}
    ours = {(stage, "ours") for stage in STAGES}
    assert here >= ours | {("decode", "pillow"), ("decode", "simplejpeg"), ("augment", "torchvision")}
    for row in rows:
        if row["images_per_second"] is None:
            assert row["note"].endswith("is not installed")
        else:
            assert row["images_per_second"] > 0 and row["iqr"] >= 0 and row["note"] == ""
    out = capsys.readouterr().out
    assert "4 images of photos, views of 'byol': 2 x 8 px; one thread" in out
    assert "speedup of ours" in out and "torchvision" in out


def test_a_speed_counts_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ways that take a quarter of a second each, for all five images."""
    monkeypatch.setattr(measure, "interleaved", lambda ways, device: dict.fromkeys(ways, (0.25, 0.05)))
    sample = Sample.of(open_data(str(photos(tmp_path / "photos"))).train, named_views("cmc"), images=9)
    speeds = [speed for speed in sample.speeds() if speed.images_per_second is not None]
    assert {(speed.images_per_second, speed.iqr) for speed in speeds} == {(20.0, 0.2)}


def test_images_in_memory_are_neither_read_nor_decoded(tmp_path: Path) -> None:
    rows = measured(tmp_path, "--views=digits", "--images=3")
    assert {row["stage"] for row in rows} == {"augment", "whole"}
    assert all(row["images_per_second"] > 0 for row in rows if row["impl"] in ("ours", "torchvision"))


def test_what_is_not_there_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.modules", {**sys.modules, "lightly": None, "lightly.transforms": None})
    data = photos(tmp_path / "photos", "png")
    notes = {(row["stage"], row["impl"]): row["note"] for row in measured(tmp_path, f"--data={data}", "--size=8")}
    assert notes["whole", "lightly"].startswith("lightly") and notes["whole", "lightly"].endswith("is not installed")
    assert ".png: " in notes["decode", "simplejpeg"]
    assert notes["decode", "ours"] == ""


def test_sizes_are_in_proportion_and_unreadable_images_left_out(tmp_path: Path) -> None:
    (photos(tmp_path / "photos") / "2.jpg").write_bytes(b"\xff\xd8\xffdamaged")
    source = open_data(str(tmp_path / "photos")).train
    sample = Sample.of(source, named_views("swav"), images=5, size=112)
    assert [view.size for view in sample.views] == [112] * 2 + [48] * 6
    assert sorted(sample.source.paths) == ["0.jpg", "1.jpg", "3.jpg", "4.jpg"]
    assert Sample.of(source, named_views("swav"), images=2).views == named_views("swav")


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("row", ["moco-v1", "byol", "digits-strong"])
def test_the_views_of_other_libraries_are_such_as_ours(tmp_path: Path, name: str, row: str) -> None:
    """Of the side of the view, in [0, 1], and neither all alike nor far from the picture's colours."""
    pytest.importorskip(name)
    view = named_views(row)[1]
    peer, picture = PEERS[name], Image.new("RGB", (50, 40), (200, 150, 100))
    transform = peer.transform(view)
    made = torch.stack([torch.as_tensor(transform(peer.prepare(picture))).flatten() for _ in range(20)])
    assert made.shape == (20, 3 * view.size**2) and made.is_floating_point()
    assert made.min() >= 0 and made.max() <= 1 and made.mean(1).unique().numel() > 1


def test_sounds_have_no_pixels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import wave

    with wave.open(str(tmp_path / "x.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(4000))
    assert main(["bench-input", f"--data={tmp_path}"]) == 2
    assert "has sounds: give a data set of images" in capsys.readouterr().err
