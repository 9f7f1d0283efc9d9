"""The sheet of images and their views."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from contrastkit.augment import VIEWS, random_views
from contrastkit.augment import sheet as module
from contrastkit.augment.sheet import view_sheet
from contrastkit.figures import Cell
from tests.augment.photos import photos

Rows = list[list[Cell | None]]


def drawn(monkeypatch: pytest.MonkeyPatch, n: int, name: str, draws: int) -> tuple[Rows, list[str], list[str]]:
    """What the sheet is made of."""
    made: list[tuple[Rows, list[str], list[str]]] = []

    def spy(path: Path, rows: Rows, *, title: str, columns: list[str], heads: list[str], note: str) -> None:
        made.append((rows, list(columns), list(heads)))

    monkeypatch.setattr(module, "sheet", spy)
    views = [replace(view, size=32 if view.size > 100 else 16) for view in VIEWS[name]]
    view_sheet(Path("unused"), photos(n), views, index=torch.arange(n), draws=draws, seed=3, title="")
    return made[0]


def test_the_draws_lie_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, columns, heads = drawn(monkeypatch, 4, "moco-v2", 3)
    assert columns == ["the image", *(f"draw {d}\nview {v}\n32 px" for d in (1, 2, 3) for v in (1, 2))] and heads == []
    view = replace(VIEWS["moco-v2"][1], size=32)
    for i, image in enumerate(photos(4)):
        cells = [cell.image for cell in rows[i] if cell is not None]
        assert torch.equal(cells[0], image) and len(cells) == 7
        expected = random_views(photos(4), view, seed=3, time=2, index=torch.arange(4), v=1)
        assert torch.equal(cells[6], expected[i]), "the second view in the third epoch"


def test_many_views_take_a_row_for_each_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, columns, heads = drawn(monkeypatch, 2, "dino", 2)
    assert columns == ["the image", *(f"view {v}\n{32 if v < 3 else 16} px" for v in range(1, 11))]
    assert heads == ["draw 1", "draw 2"] * 2
    assert [row[0] is None for row in rows] == [False, True] * 2 and {len(row) for row in rows} == {11}


def test_a_real_sheet(tmp_path: Path) -> None:
    def made(seed: int) -> bytes:
        views = VIEWS["moco-cifar"]
        view_sheet(tmp_path / "a.png", photos(2), views, index=torch.arange(2), draws=1, seed=seed, title="a")
        return (tmp_path / "a.png").read_bytes()

    assert made(0) == made(0) != made(1)
