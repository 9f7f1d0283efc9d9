"""The plots of a run's metrics."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from contrastkit import curves, monitor
from contrastkit.curves import METRICS, draw_curves


def panels(rows: list[dict[str, Any]], path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The panels that are drawn, by their titles."""
    made: dict[str, Any] = {}
    real = curves.draw_metric

    def spy(axes: Any, metric: curves.Metric, *how: Any) -> None:
        real(axes, metric, *how)
        made[metric.title] = axes

    monkeypatch.setattr(curves, "draw_metric", spy)
    draw_curves(rows, path / "curves.png", title="a run")
    return made


def lines(axes: Any) -> list[list[tuple[float, float]]]:
    return [[(float(x), float(y)) for x, y in line.get_xydata()] for line in axes.lines]


def test_there_is_a_panel_for_each_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three panels a row; what no row has as a number is left out."""
    rows: list[dict[str, Any]] = [
        {"step": 8 * e, "epoch": e, "seconds": 1.0, "loss": 1 / e, "knn": None, "unreadable": 0} for e in (1, 2)
    ]
    assert panels(rows, tmp_path, monkeypatch).keys() == {"loss"}
    sizes = []
    for more in ({}, {"a": 1.0, "b": 2.0, "c": 3.0}):
        draw_curves([row | more for row in rows], tmp_path / "curves.png", title="a run")
        with Image.open(tmp_path / "curves.png") as picture:
            sizes.append(picture.size)
    (width, height), (same, taller) = sizes
    assert same == width and abs(taller - height - 150 * curves.PANEL) <= 1
    draw_curves([], tmp_path / "curves.png", title="no row")


def test_values_units_and_chance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[dict[str, Any]] = [
        {"epoch": 1, "loss": 3.0, "knn": 0.25, "std": 0.5, "chance_loss": 2.5, "own": 7, "unreadable": 0},
        {"epoch": 2, "loss": 2.0, "std": math.nan, "chance_loss": 2.5, "own": 8, "unreadable": 1},
        {"epoch": 3, "loss": 1.0, "knn": 0.75, "std": math.inf, "chance_loss": 2.5, "own": 9, "unreadable": 1},
    ]
    made = panels(rows, tmp_path, monkeypatch)
    assert list(made) == [METRICS[name].title for name in ("loss", "knn", "std", "unreadable")] + ["own"]
    loss, chance = lines(made["loss"])
    assert loss == [(1, 3), (2, 2), (3, 1)] and {y for _, y in chance} == {2.5}
    assert [text.get_text() for text in made["loss"].texts] == ["chance 2.5"]
    knn = made[METRICS["knn"].title]
    assert lines(knn) == [[(1, 25), (3, 75)]], "in %; evaluated every other epoch, and no gap"
    assert knn.get_ylabel() == "top-1, %" and knn.get_xlabel() == "epoch"
    spread = np.array(lines(made[METRICS["std"].title])[0])[:, 1]
    assert spread[0] == 0.5 and np.isnan(spread[1:]).all(), "what is not finite is a gap"


def test_knn_is_compared_with_chance_where_the_classes_are_known() -> None:
    rows = [{"epoch": 1, "loss": 1.0, "knn": 0.25}]
    references = [
        {m.title: m.references for m, _ in curves.panels(rows, n)}[METRICS["knn"].title] for n in (8, None, 1)
    ]
    assert references == [((12.5, "chance"),), (), ()]
    assert curves.class_count(torch.tensor([3, -1, 3, 5])) == 2 and curves.class_count(None) is None


def test_healthy_values_are_shaded_and_the_axis_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"epoch": e, "std": 0.1 * e, "rank": 3.0 * e, "lr": 1.0} for e in (1, 2, 3)]
    shaded = panels(rows, tmp_path, monkeypatch)
    bands = {name: [patch.get_bbox() for patch in axes.patches] for name, axes in shaded.items()}
    (std,), (rank,) = bands[METRICS["std"].title], bands[METRICS["rank"].title]
    assert (std.y0, std.y1, rank.y0) == (monitor.STD, 1.0, monitor.RANK) and rank.y1 > 1e6
    assert bands[METRICS["lr"].title] == []
    monkeypatch.setattr(curves, "_shade", lambda *how: None)
    plain = panels(rows, tmp_path, monkeypatch)
    assert [axes.get_ylim() for axes in shaded.values()] == [axes.get_ylim() for axes in plain.values()]


def test_the_references_are_those_of_the_monitor() -> None:
    assert METRICS["std"].references[1] == (monitor.STD, "collapse below")
    assert METRICS["std"].healthy == (monitor.STD, 1.0) and METRICS["rank"].healthy == (monitor.RANK, math.inf)
    apart = torch.tensor([[1.0, 0], [-1, 0]])  # the two farthest points of the sphere: the least that can be
    assert monitor.collapse(apart, apart)["uniformity"] == pytest.approx(-8)
    assert METRICS["uniformity"].unit == "log, -8 to 0"
    assert METRICS["rank"].references == ((monitor.RANK, "collapse below"),)
