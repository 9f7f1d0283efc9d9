"""What a page says of measure.json."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from contrastkit.errors import UserError
from contrastkit.evaluate.made import Made
from contrastkit.measure.corruptions import CORRUPTIONS
from contrastkit.report.content import Missing, Table, Text
from contrastkit.report.evaluation import Results
from contrastkit.report.measured import Measured
from contrastkit.report.results import Report
from contrastkit.run import ENCODER
from tests.same import copy_as_trained

PIXELS = Made(command=[], folder=None, contrastkit="0", weights="pixels", data=None, pictures={})


def accuracies(knn: float, probe: float) -> dict[str, Any]:
    each = ({"top1": top1, "top5": None, "n": 100, "interval": [top1 - 0.1, top1 + 0.1]} for top1 in (knn, probe))
    return dict(zip(("knn", "probe"), each, strict=True))


@pytest.fixture
def values() -> dict[str, Any]:
    """Of a run and raw pixels, measured on images as they are, with one corruption, and on another set."""
    name = next(iter(CORRUPTIONS))
    numbers = {"dimensions": 1024, "rankme": 12.345, "lidar": 9.87, "alpha": 1.25, "nmi": None}
    clean = {"runs/a": accuracies(0.8, 0.9), "raw pixels": accuracies(0.3, 0.4)}
    strengths = [accuracies(0.7 - 0.1 * i, 0.5) for i in range(5)]
    elsewhere = {"data": "sketches", "lacking": ["cat"], "accuracy": clean, "clean": clean, "of a newer version": 1}
    return {
        "data": "photos", "split": "train", "size": 32, "images": 5000, "viewed": 1000, "views_per_image": 10,
        "numbers": {"runs/a": numbers, "raw pixels": numbers | {"rankme": 3.0, "lidar": None}}, "cka": None,
        "shift": {
            "constants_of": "CIFAR-10-C", "k": 20, "T": 0.1, "clean": clean, "elsewhere": elsewhere,
            "corrupted": {"runs/a": {name: strengths}}, "constants": {name: [1, 2, 3, 4, 5]},
        },
    }  # fmt: skip


def test_the_numbers_say_which_direction_is_better(values: dict[str, Any], tmp_path: Path) -> None:
    numbers = Measured.of(Report(tmp_path / "measure.json", values, None)).tables[0]
    assert numbers.columns == ("number", "range", "better", "this run", "raw pixels")
    rows = {row[0]: row[2:] for row in numbers.rows}
    assert rows["RankMe"] == ("higher", "12.3", "3.0") and rows["LiDAR"] == ("higher", "9.9", "-")
    assert rows["alpha-ReQ"] == ("near 1", "1.250", "1.250") and rows["dimensions D"] == ("", "1,024", "1,024")
    assert "NMI of k-means" not in rows, "it is defined for none"
    assert "N = 5,000 of its train part" in numbers.caption and "seed" not in numbers.note
    seeded = Measured.of(Report(tmp_path / "measure.json", values | {"seed": 3, "views_of": "moco-v2"}, None)).tables[0]
    assert "(seed 3, views: moco-v2)" in seeded.note


def test_the_shift_is_shown_as_means_and_corruption_by_corruption(values: dict[str, Any], tmp_path: Path) -> None:
    _, shift, each = Measured.of(Report(tmp_path / "measure.json", values, None)).tables
    assert shift.rows[:2] == (
        ("this run", "as they are", "80.00 % (70.0 to 90.0)", "90.00 % (80.0 to 100.0)"),
        ("this run", "all corruptions, mean", "50.00 % (-30.00)", "50.00 % (-40.00)"),
    )
    assert [row[1] for row in shift.rows[2:4]] == ["the same classes", "sketches"]
    assert [row[1] for row in shift.rows[4:]] == ["as they are", "the same classes", "sketches"], (
        "pixels: no corruptions"
    )
    assert len(each.rows) == 5 and each.rows[4][1].endswith(" 5") and each.rows[4][3] == "30.00 % (20.0 to 40.0)"
    assert "Higher is better" in shift.note
    plain = Measured.of(Report(tmp_path / "measure.json", values | {"shift": None}, None))
    assert len(plain.tables) == 1 and not plain.corrupted and not plain.layers


def test_what_is_damaged_is_named(values: dict[str, Any], tmp_path: Path) -> None:
    for key, wrong in (("numbers", {}), ("shift", 1), ("images", "x"), ("shift", values["shift"] | {"constants": {}})):
        with pytest.raises(UserError, match="measure.json is damaged"):
            Measured.of(Report(tmp_path / "measure.json", values | {key: wrong}, None))


def test_a_report_of_another_size_says_so(values: dict[str, Any], tmp_path: Path) -> None:
    report = Report(tmp_path / "measure.json", values, PIXELS)
    assert report.stale("0", 16) == "measure.json is of inputs of size 32, those of the run's encoder are of 16"
    assert "of other weights" in report.stale("0", 32) and report.stale("pixels", 16) == ""


def test_it_is_shown_by_what_made_it_or_by_its_date(values: dict[str, Any], moco_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    copy_as_trained(moco_run, run)
    (block,) = Results(run, "0").measured()
    assert isinstance(block, Missing) and block.command == f"contrastkit measure {run}"
    (run / "measure.json").write_text(json.dumps(values))
    (text, *tables, missing) = Results(run, "0").measured()
    assert isinstance(text, Text) and "measure.json does not say of which weights it is" in text.text
    assert all(isinstance(table, Table) for table in tables) and len(tables) == 3
    assert isinstance(missing, Missing) and "no shift.png that was drawn" in missing.why
    assert missing.command == f"contrastkit measure {run} --shift"
    os.utime(run / ENCODER, (2**32, 2**32))
    assert "older than the run's encoder" in Results(run, "0").measured()[0].why
    (run / "measure.json").write_text(json.dumps(values | {"shift": None, "made": asdict(PIXELS)}))
    (run / "shift.png").write_bytes(b"of an earlier start")
    results = Results(run, PIXELS.weights)
    assert [type(block) for block in results.measured()] == [Table] and len(results.made) == 1
    assert "of other weights" in Results(run, "0").measured()[0].why
