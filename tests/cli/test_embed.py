"""embed as a command: the file has every image once, with its features, label and part."""

from pathlib import Path

import numpy as np
import pytest
import torch

import contrastkit
from contrastkit.cli.main import main
from tests.schemas import read_report


def test_the_file(moco_run: Path, hard_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, test = tmp_path / "features", tmp_path / "test.npz"  # no extension is appended
    assert main(["embed", str(moco_run), f"--out={out}", f"--json={tmp_path / 'x.json'}"]) == 0
    assert f"{out}: 280 x 128 features of hard by {moco_run}" in capsys.readouterr().out
    report = read_report("embed", tmp_path / "x.json")
    assert report == {"data": "hard", "encoder": str(moco_run), "images": 280, "features": 128}
    with np.load(out, allow_pickle=False) as file, np.load(hard_images) as data:
        assert list(file) == ["features", "labels", "split", "classes", "readable", "paths", "image_id", "origin"]
        assert file["features"].shape == (280, 128) and file["features"].dtype == np.float32
        assert (file["split"] == "train").sum() == 210  # the run's own --val-fraction
        assert (file["split"] == "test").sum() == 70
        with torch.no_grad():
            features = contrastkit.load(moco_run)(torch.from_numpy(data["images"]).permute(0, 3, 1, 2) / 255)
        nearest = torch.cdist(torch.from_numpy(file["features"]).double(), features.double()).min(1)
        assert nearest.values.max() < 1e-4
        assert sorted(nearest.indices.tolist()) == list(range(280)), "every image once"
        assert file["labels"].tolist() == data["labels"][nearest.indices].tolist()
        assert main(["embed", str(moco_run), "--split=test", f"--out={test}"]) == 0
        with np.load(test, allow_pickle=False) as part:
            assert np.allclose(part["features"], file["features"][file["split"] == "test"], atol=1e-5)


def test_a_part_that_is_not_there(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--encoder=tiny", f"--data={images}", f"--out={tmp_path / 'x.npz'}"]
    assert main(["embed", *options, "--split=test"]) == 2
    assert "no test part: use --split train" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
