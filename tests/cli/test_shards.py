"""shards make, index and check as commands: what each option changes, what is said, and the exit codes."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from contrastkit.cli.main import main
from contrastkit.data import open_data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    g = np.random.default_rng(0)
    for part, n in (("train", 9), ("val", 4)):
        for k in range(n):
            place = tmp_path / "set" / part / "ab"[k % 2]
            place.mkdir(parents=True, exist_ok=True)
            image = Image.fromarray(g.integers(0, 256, (20, 10 + k, 4), np.uint8))
            image.save(place / f"{k}.{'webp' if k == 3 else 'png'}", lossless=True)
    (tmp_path / "set" / "train" / "a" / "broken.png").write_bytes(b"none")
    return tmp_path / "set"


def make(folder: Path, out: Path, *options: str) -> list[dict[str, Any]]:
    """The report of `shards make`."""
    report = out.with_suffix(".json")
    assert main(["shards", "make", f"--data={folder}", f"--out={out}", f"--json={report}", *options]) == 0
    return json.loads(report.read_text())


def test_the_captions_of_a_folder_train_as_it_does(
    captioned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(captioned, tmp_path / "shards", "--workers=0", "--per-shard=50")
    assert "the captions of an image are in a .txt beside it, one a line" in capsys.readouterr().out
    files, tars = (open_data(str(path)).train.captions for path in (captioned, tmp_path / "shards"))
    assert tars.texts == files.texts and torch.equal(tars.first, files.first)
    quick = ["--encoder=tiny", "--device=cpu", "--epochs=1", "--batch=32", "--size=12", "--monitor-every=0"]
    towers = ["--text-width=16", "--text-layers=1", "--dim=16", "--val-fraction=0.4"]
    for data in (captioned, tmp_path / "shards"):
        assert main(["train", "clip", f"--data={data}", f"--out={tmp_path / f'{data.name}-run'}", *quick, *towers]) == 0
    for file in ("text.safetensors", "encoder.safetensors"):
        one, two = (load_file(tmp_path / f"{name}-run" / file) for name in ("tints", "shards"))
        assert one.keys() == two.keys() and all(torch.equal(value, two[name]) for name, value in one.items())


def test_each_option_of_make_changes_what_is_made(folder: Path, tmp_path: Path) -> None:
    usual = make(folder, tmp_path / "usual", "--workers=0")
    assert [(part["name"], part["shards"], part["images"], part["shrunk"], part["recoded"]) for part in usual] == [
        ("train", 1, 9, 0, 1), ("test", 1, 4, 0, 1)
    ]  # fmt: skip
    assert usual[0]["unreadable"] == [["a/broken.png", "cannot identify image file 'the file'"]]
    small = make(folder, tmp_path / "small", "--per-shard=2", "--max-side=15", "--workers=1")
    assert [(part["shards"], part["shrunk"]) for part in small] == [(5, 9), (2, 4)]
    assert sorted(os.listdir(tmp_path / "small" / "test")) == ["00000.tar", "00001.tar", "index.npz"]
    (image,) = open_data(str(tmp_path / "small")).train.fetch(torch.tensor([0]))
    assert max(image.shape) == 15
    (folder / "other").mkdir()
    Image.new("RGB", (5, 5)).save(folder / "other" / "x.png")
    assert make(folder, tmp_path / "asked", "--test-part=other")[1]["images"] == 1
    clear = [open_data(str(tmp_path / name)).train.fetch(torch.tensor([0]))[0] for name in ("usual", "asked")]
    assert torch.equal(*clear)


def test_what_make_says(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(folder, tmp_path / "out", "--max-side=19", "--workers=0")
    assert capsys.readouterr().out.splitlines() == [
        "train/ -> training (10 images), val/ -> test (4)",
        f"{tmp_path / 'out'}/train: 9 images in 1 shards",
        "  9 of them were shrunk to 19 pixels (--max-side)",
        "  1 images cannot be read and are left out:",
        "    a/broken.png: cannot identify image file 'the file'",
        f"{tmp_path / 'out'}/test: 4 images in 1 shards",
        "  4 of them were shrunk to 19 pixels (--max-side)",
    ]
    make(folder / "val", tmp_path / "flat", "--workers=0")
    assert f"{tmp_path / 'flat'}: 4 images in 1 shards\n  1 others were neither JPEG nor PNG" in capsys.readouterr().out


def test_check_names_what_is_wrong_and_exits_with_2(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(folder, tmp_path / "out", "--workers=0", "--per-shard=5")
    capsys.readouterr()
    assert main(["shards", "check", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out'}: 13 images are as the index says\n"
    os.truncate(tmp_path / "out" / "train" / "00000.tar", 1000)
    (tmp_path / "out" / "train" / "00001.tar").unlink()
    assert main(["shards", "check", str(tmp_path / "out")]) == 2
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert len(lines) == 3 and lines[0].endswith("train/00001.tar is missing")
    assert "00000.tar has 1,000 bytes, not the" in lines[1] and "00000.tar is truncated" in lines[2]
    assert said.err.startswith(f"error: {tmp_path / 'out'} is not as its index says") and said.err.count("\n") == 1


def test_index_saves_what_the_headers_say(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(folder, tmp_path / "out", "--workers=0")
    for part in ("train", "test"):
        (tmp_path / "out" / part / "index.npz").unlink()
    before = open_data(str(tmp_path / "out"))
    assert any("shards index" in notice for notice in before.notices)
    capsys.readouterr()
    assert main(["shards", "index", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path / 'out'}/test/index.npz: 4 images in 1 shards, 2 classes",
        f"{tmp_path / 'out'}/train/index.npz: 9 images in 1 shards, 2 classes",
    ]
    after = open_data(str(tmp_path / "out"))
    assert len(after.notices) == 1 and after.train.fingerprint() == before.train.fingerprint()
    assert main(["shards", "check", str(tmp_path / "out")]) == 0


@pytest.mark.slow
def test_a_run_on_shards_is_the_run_on_their_folder(folder: Path, tmp_path: Path) -> None:
    """Training, a resume in mid-epoch with other workers, and embeddings, bit for bit."""
    (folder / "train" / "a" / "broken.png").unlink()
    (tmp_path / "packed").mkdir()
    shards = tmp_path / "packed" / "set"  # called the same, as pictures name their data set
    make(folder, shards, "--workers=0", "--per-shard=2")
    features = []
    for name, where in (("set", folder), ("shards", shards)):
        run = tmp_path / f"run-{name}"
        data = [f"--data={where}", f"--out={run}"]
        train = ["train", "simclr", "--encoder=tiny", "--size=16", "--batch=4", "--monitor-every=0"]
        assert main([*train, *data, "--epochs=2", "--workers=0", "--stop-after=1"]) == 0
        assert main(["train", "simclr", f"--resume={run}", "--workers=1"]) == 0
        assert main(["embed", str(run), "--workers=0", f"--out={tmp_path / 'x.npz'}"]) == 0
        with np.load(tmp_path / "x.npz") as file:
            features.append((file["features"], file["labels"], list(file["classes"])))
        assert main(["knn", str(run), "--k=1", "--workers=0"]) == 0
        assert main(["views", "moco-cifar", data[0], "--images=2", f"--out={tmp_path / name}.png"]) == 0
    (files, labels, classes), (mine, my_labels, my_classes) = features
    assert np.array_equal(files, mine) and np.array_equal(labels, my_labels) and classes == my_classes
    assert (tmp_path / "set.png").read_bytes() == (tmp_path / "shards.png").read_bytes()
    assert main(["knn", str(tmp_path / "run-set"), f"--data={shards}", "--k=1"]) == 0
