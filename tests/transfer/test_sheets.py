"""Captions of the sheets of masks and boxes."""

from pathlib import Path

import pytest
import torch

from contrastkit.transfer import sheets
from contrastkit.transfer.sheets import ShownBoxes, ShownMasks, box_sheet, mask_sheet

IMAGE = torch.zeros(3, 4, 5, dtype=torch.uint8)
CLASSES = ("cat", "dog", "sofa", "a name that has no end", "car", "bus", "cow", "tree")


@pytest.fixture
def captions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Those of the sheet that is drawn."""
    found: list[str] = []
    monkeypatch.setattr(
        sheets, "sheet", lambda path, rows, **how: found.extend(cell.caption for row in rows for cell in row)
    )
    return found


def mask(*pixels: int) -> torch.Tensor:
    """Classes 0, 1, ... with these numbers of pixels; the others have no class."""
    flat = torch.full((20,), 255)
    flat[: sum(pixels)] = torch.repeat_interleave(torch.arange(len(pixels)), torch.tensor(pixels))
    return flat.view(4, 5)


def test_classes_without_a_named_colour_are_named_below_each_mask(captions: list[str]) -> None:
    shown = ShownMasks(IMAGE, mask(5, 0, 9), 0, {"run": mask(1, 3, 6, 4), "other": mask(4, 3, 5, 0, 1, 1)})
    mask_sheet(Path("x.png"), [shown], CLASSES, "")
    many = "a name t\N{HORIZONTAL ELLIPSIS} no end"
    assert captions[:2] == ["", "sofa, cat"]
    assert captions[2].splitlines() == ["43% of pixels", f"sofa, {many}, dog, cat"]
    assert captions[3].splitlines()[1] == "sofa, cat, dog, car, ..."


def test_colours_with_names_need_no_caption(captions: list[str]) -> None:
    mask_sheet(Path("x.png"), [ShownMasks(IMAGE, mask(5, 9), 0, {"run": mask(5, 9)})], CLASSES[:2], "")
    assert captions == ["", "dog, cat", "100% of pixels"]


def test_boxes_are_counted_by_class_the_commonest_first(captions: list[str]) -> None:
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    found = boxes.repeat(4, 1), torch.tensor([1, 5, 3, 5])
    box_sheet(Path("x.png"), [ShownBoxes(IMAGE, (boxes[:0], torch.zeros(0).long()), 0, {"run": found})], CLASSES, "")
    assert captions == ["none", "2 car, 1 cat, 1 sofa"]
