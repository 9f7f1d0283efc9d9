"""retrieve as a command: its table with the chance level."""

import json
from pathlib import Path

import pytest

from contrastkit.cli.main import main


def test_both_directions_and_chance(cmc_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["retrieve", str(cmc_run)]) == 0
    printed = capsys.readouterr().out
    assert "retrieval on hard, 70 test images" in printed
    report = json.loads((cmc_run / "retrieval.json").read_text())
    assert list(report) == ["data", "size", "retrieval"]
    assert list(report["retrieval"]) == ["L -> ab", "ab -> L"]
    for pair in report["retrieval"].values():
        assert list(pair["recall"]) == ["1", "5", "10"] and pair["n"] == 70
        assert f"{100 * pair['recall']['10']:.2f} %" in printed
    (chance,) = (line for line in printed.splitlines() if "chance" in line)
    assert "1.43 %" in chance and "7.14 %" in chance and "35.5" in chance


def test_a_run_with_one_encoder_is_refused(moco_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["retrieve", str(moco_run)]) == 2
    assert "has one encoder for all views" in capsys.readouterr().err
