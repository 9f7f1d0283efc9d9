"""The charts of ablations: what they draw is what was measured, and what was published."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contrastkit.ablation import ABLATIONS, AblationReport, AblationRow, chart, draw


def report(what: str, n: int | None = None) -> AblationReport:
    """The first n rows: 30, 31, ... % and 0.1, 0.2, ... for the deviations."""
    rows = [
        AblationRow(
            name=name, published=variant.published, knn=1.0, linear=30.0 + i, linear_std=(i + 1) / 10, rank=None,
            seconds=1.0,
        )
        for i, (name, variant) in enumerate(ABLATIONS[what].rows.items())
    ]  # fmt: skip
    return AblationReport(ablation=what, recipe="x/tiny", data="photos", epochs=2, seed=0, rows=rows[:n])


def drawn(of: AblationReport, path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, str, str]:
    """The figure, its title and its note."""
    made: list[Any] = []
    real = chart.chart

    @contextlib.contextmanager
    def spy(file: Path, title: str, **how: Any) -> Iterator[Any]:
        with real(file, title, **how) as figure:
            yield figure
            made.append((figure, title, how["note"]))

    monkeypatch.setattr(chart, "chart", spy)
    draw(of, path / "chart.png")
    assert (path / "chart.png").read_bytes().startswith(b"\x89PNG")
    return made[0]


def test_bars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of = report("siamese")
    figure, title, note = drawn(of, tmp_path, monkeypatch)
    (axes,) = figure.axes
    measured, published = axes.containers[1], axes.containers[2]
    assert [bar.get_width() for bar in measured] == [row.linear for row in of.rows]
    assert [bar.get_width() for bar in published] == [67.7, 0.1, 0.1, 1.5, 68.1, 34.6, 67.4]
    assert [text.get_text() for text in axes.texts] == ["unstable"]
    assert [label.get_text() for label in axes.get_yticklabels()] == [row.name for row in of.rows]
    errors = [x for segment in axes.collections[0].get_segments() for x in (segment[1][0] - segment[0][0],)]
    assert errors == pytest.approx([2 * row.linear_std for row in of.rows])
    assert title == "What keeps SimSiam from collapsing: linear probe on the test images of photos"
    assert "simsiam, recipe tiny, 2 epochs, one seed" in note and "Chen & He 2020" in note


def points(axes: Any) -> dict[str, list[tuple[float, float]]]:
    return {
        line.get_label(): [(float(x), float(y)) for x, y in line.get_xydata()]
        for line in axes.lines
        if not line.get_label().startswith("_")
    } | {
        bars.get_label(): [(float(x), float(y)) for x, y in bars.lines[0].get_xydata()] for bars in axes.containers
    }  # fmt: skip


def test_lines_of_series_and_what_has_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "swav and simclr-v1, recipe tiny, 2" in drawn(report("multi-crop"), tmp_path, monkeypatch)[2]
    figure, _, note = drawn(report("projector"), tmp_path, monkeypatch)
    (axes,) = figure.axes
    shown = points(axes)
    assert shown["linear"] == [(0, 31), (1, 32), (2, 33)] and shown["non-linear"] == [(0, 34), (1, 35), (2, 36)]
    assert {y for _, y in shown["none"]} == {30} and {y for _, y in shown["untrained"]} == {37}
    assert [label.get_text() for label in axes.get_xticklabels()] == ["32", "128", "512"]
    assert axes.get_xlabel() == "dim" and "Published" not in note and "published" not in shown


def test_lines_over_two_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure, _, note = drawn(report("dictionary"), tmp_path, monkeypatch)
    of_keys, of_momenta = figure.axes
    assert (of_keys.get_xlabel(), of_momenta.get_xlabel()) == ("K", "m")
    assert points(of_keys)["measured"] == [(i, 30 + i) for i in range(8)]
    assert points(of_keys)["published"] == [(5, 59.0)]
    assert points(of_momenta)["measured"] == [(i, 38 + i) for i in range(5)]
    assert points(of_momenta)["published"] == [(1, 55.2), (2, 57.8), (3, 59.0), (4, 58.9)]
    assert [text.get_text() for text in of_momenta.texts] == ["published: fails"]
    assert "the table of momenta" in note


def test_the_matrix_is_symmetric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure, _, _ = drawn(report("augmentations"), tmp_path, monkeypatch)
    axes = figure.axes[0]
    cells = axes.images[0].get_array()
    # crop, colour, blur, rotation; then the pairs.
    assert cells.tolist() == [[30, 34, 35, 36], [34, 31, 37, 38], [35, 37, 32, 39], [36, 38, 39, 33]]
    texts = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in axes.texts}
    assert texts[0, 1] == texts[1, 0] == "34.0\n(55.8)" and texts[3, 2] == "39.0"
    assert axes.get_xlabel() == "in brackets: published; untrained 40.0"


@pytest.mark.parametrize("what", ABLATIONS)
def test_those_that_are_measured_so_far(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in (1, 5):
        figure, _, _ = drawn(report(what, n), tmp_path, monkeypatch)
        if ABLATIONS[what].chart == "matrix":
            cells = figure.axes[0].images[0].get_array()
            assert sum(not math.isnan(x) for x in cells.filled(math.nan).flatten()) == {1: 1, 5: 6}[n]
