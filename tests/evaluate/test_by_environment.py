"""Accuracy by environment: shares counted in loops, and what the commands print of it."""

import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from contrastkit.cli.main import main
from contrastkit.evaluate.by_environment import by_environment
from tests.schemas import read_report


def test_shares_are_those_of_a_loop() -> None:
    g = np.random.default_rng(0)
    y, answers, where = g.integers(0, 3, 40), g.integers(0, 3, (2, 40)), g.choice(["a", "b", "c"], 40)
    found = by_environment(torch.from_numpy(answers), torch.from_numpy(y), where)
    assert found is not None and list(found.environments) == ["a", "b", "c"]
    shares = []
    for name, result in found.environments.items():
        right = [answers[s, i] == y[i] for i in range(40) if where[i] == name for s in range(2)]
        assert result.n == len(right) / 2 and result.top1 == pytest.approx(sum(right) / len(right))
        assert result.interval[0] < result.top1 < result.interval[1]
        shares.append(sum(right) / len(right))
    assert found.average == pytest.approx(sum(shares) / 3) and found.worst == pytest.approx(min(shares))
    assert found.deviation == pytest.approx(statistics.pstdev(shares))
    alone = by_environment(torch.from_numpy(answers[0]), torch.from_numpy(y), np.full(40, 0.9))
    assert alone is not None and list(alone.environments) == ["0.9"] and alone.deviation == 0
    assert by_environment(torch.from_numpy(answers[0]), torch.from_numpy(y), None) is None


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images whose colour is their class in two environments, and that of the next class in the third."""
    g, path = np.random.default_rng(0), tmp_path_factory.mktemp("places") / "places.npz"
    arrays: dict[str, Any] = {}
    for prefix, n in (("", 90), ("test_", 60)):
        labels, place = np.arange(n) % 3, np.arange(n) // 3 % 3
        colours = 60 + 120 * np.eye(3)[(labels + (place == 2)) % 3]
        pixels = colours[:, None, None] + g.integers(-20, 20, (n, 8, 8, 3))
        arrays |= {f"{prefix}images": pixels.astype(np.uint8), f"{prefix}labels": labels, f"{prefix}environment": place}
    training = arrays["environment"] < 2
    arrays |= {name: arrays[name][training] for name in ("images", "labels", "environment")}
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("knn", ["--encoder=pixels"]),
        ("probe", ["--encoder=pixels", "--epochs=20", "--seeds=1"]),
        ("finetune", ["--encoder=tiny", "--epochs=6", "--lr=0.05", "--seeds=2", "--size=8", "--precision=float32"]),
    ],
)
def test_an_environment_in_which_a_classifier_fails_is_the_worst(
    command: str, options: list[str], places: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = [f"--out={tmp_path / 'out'}"] if command == "finetune" else []
    assert main([command, f"--data={places}", *options, *out, f"--json={tmp_path / 'x.json'}"]) == 0
    report = read_found(command, tmp_path / "x.json")
    assert list(report["environments"]) == ["0", "1", "2"]
    top1 = [each["top1"] for each in report["environments"].values()]
    assert min(top1[:2]) > 0.7 > 0.4 > top1[2] == report["worst"] and report["average"] == pytest.approx(sum(top1) / 3)
    printed = capsys.readouterr().out
    assert ", by environment" in printed and "deviation" in printed and f"{100 * report['worst']:.2f} %" in printed


def read_found(command: str, file: Path) -> dict[str, Any]:
    """The environments of the first encoder of a report."""
    if command == "knn":
        return next(iter(read_report("knn", file)["environments"].values()))
    if command == "probe":
        return next(iter(read_report("probe", file)["probe"].values()))["environments"]
    return next(iter(read_report("finetune", file)["results"].values()))["environments"]


def test_a_set_without_environments_has_no_such_table(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--encoder=pixels", f"--data={images}", "--val-fraction=0.2", f"--json={tmp_path / 'x.json'}"]
    assert main(["knn", *options]) == 0
    assert read_report("knn", tmp_path / "x.json")["environments"] == {}
    assert "by environment" not in capsys.readouterr().out
