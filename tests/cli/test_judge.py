"""knn, probe and embed as commands: what they judge, at which size, and what they say meanwhile."""

import json
from pathlib import Path

import numpy as np
import pytest
from contrastkit.cli.main import main

from contrastkit.errors import UserError
from contrastkit.parts import build

QUICK = ["--encoder=tiny", "--device=cpu", "--epochs=1", "--batch=32", "--K=64", "--size=12", "--monitor-every=0"]


@pytest.fixture(scope="module")
def run(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("judge") / "run"
    assert main(["train", "moco", f"--data={images}", f"--out={out}", *QUICK, "--val-fraction=0.2"]) == 0
    return out


def test_the_untrained_baseline_is_the_encoder_alone(images: Path, run: Path, tmp_path: Path) -> None:
    beside, alone = tmp_path / "beside.json", tmp_path / "alone.json"
    assert main(["knn", str(run), "--baselines", f"--json={beside}"]) == 0
    _, untrained, pixels = json.loads(beside.read_text())["accuracy"].values()
    for name, found in (("tiny", untrained), ("pixels", pixels)):
        assert main(["knn", f"--encoder={name}", f"--data={images}", "--val-fraction=0.2", f"--json={alone}"]) == 0
        assert list(json.loads(alone.read_text())["accuracy"].values()) == [found]


def test_only_its_own_set_is_reported_in_the_run(images: Path, run: Path, tmp_path: Path) -> None:
    assert main(["knn", str(run)]) == 0
    before = (run / "knn.json").read_bytes()
    with np.load(images) as file:
        np.savez(tmp_path / "other.npz", images=file["images"][::-1], labels=file["labels"][::-1])
    assert main(["knn", str(run), f"--data={tmp_path / 'other.npz'}", "--val-fraction=0.5"]) == 0
    assert (run / "knn.json").read_bytes() == before


def test_judging_on_images_trained_on_is_said(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["knn", str(run), "--val-fraction=0.3"]) == 0
    assert "was trained on images that it is judged on here" in capsys.readouterr().out
    assert main(["knn", str(run), "--val-fraction=0.2"]) == 0
    assert "was trained on images" not in capsys.readouterr().out


def test_a_test_part_without_labels(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with np.load(images) as file:
        np.savez(tmp_path / "x.npz", images=file["images"], labels=file["labels"], test_images=file["images"][:9])
    assert main(["knn", "--encoder=tiny", f"--data={tmp_path / 'x.npz'}"]) == 2
    assert capsys.readouterr().err == "error: the test part of x has no labels to judge by\n"


@pytest.mark.parametrize(("options", "size"), [([], 16), (["--pretrained"], 224), (["--pretrained", "--size=64"], 64)])
def test_small_images_are_enlarged_for_published_weights(
    images: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], size: int
) -> None:
    asked = {}

    def spy(name: str, **how: object) -> None:
        asked.update(how, name=name)
        raise UserError("enough")

    monkeypatch.setattr(build, "build_encoder", spy)
    assert main(["knn", "--encoder=resnet18", f"--data={images}", "--val-fraction=0.2", *options]) == 2
    assert asked == {"name": "resnet18", "channels": 3, "size": size, "pretrained": "--pretrained" in options}


def test_the_papers_protocol_says_each_epoch(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", str(run), "--protocol=moco", "--epochs=2", "--lr=0.1", "--workers=0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines if line.startswith("epoch")] == ["epoch 1/2", "epoch 2/2"]
