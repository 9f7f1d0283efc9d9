"""The run folder's own pieces; the training tests have the rest."""

from pathlib import Path
from typing import Any

from PIL import Image

from contrastkit.run import draw_curves


def test_the_curves_have_a_panel_for_each_metric(tmp_path: Path) -> None:
    """Three panels a row; what no row has as a number is left out."""
    rows: list[dict[str, Any]] = [
        {"step": 8 * e, "epoch": e, "seconds": 1.0, "loss": 1 / e, "knn": None} for e in (1, 2)
    ]
    sizes = []
    for more in ({}, {"a": 1.0, "b": 2.0, "c": 3.0}):
        draw_curves([row | more for row in rows], tmp_path / "curves.png")
        with Image.open(tmp_path / "curves.png") as picture:
            assert picture.format == "PNG"
            sizes.append(picture.size)
    (width, height), taller = sizes
    assert taller == (width, 2 * height)
