"""Sheets of test images with what is true and what was predicted."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from contrastkit.figures import COLOURS, Cell, sheet, shortened
from contrastkit.transfer.masks import IGNORED

IMAGES = 6  # of a sheet
SCORE = 0.5  # of the boxes that are drawn
SHOWN = 4  # classes that a caption names
STRENGTH = 0.6  # of a colour over its image
NAMES = ("blue", "orange", "green", "red", "light blue", "pink", "black")  # of the toolkit's colours


@dataclass(frozen=True, slots=True)
class ShownMasks:
    """A test image [3, H, W] with its mask and the predicted ones, each int64 [H, W], by the encoders' names."""

    image: Tensor
    mask: Tensor
    position: int
    predicted: dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class ShownBoxes:
    """A test image [3, H, W] with its boxes [n, 4] and labels [n], and by the encoders' names the boxes that are
    predicted with a score of at least :data:`SCORE`, and their labels."""

    image: Tensor
    boxes: tuple[Tensor, Tensor]
    position: int
    predicted: dict[str, tuple[Tensor, Tensor]]


def spread(n: int) -> list[int]:
    """Positions of at most :data:`IMAGES` of n images, evenly spaced."""
    count = min(n, IMAGES)
    return [k * n // count for k in range(count)]


def colours(n: int) -> Tensor:
    """A colour for each class, uint8 [n, 3]: the toolkit's, then those of VOC's own masks."""
    own = [[int(name[k : k + 2], 16) for k in (1, 3, 5)] for name in COLOURS]
    voc = [[sum((c >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(3)) for channel in range(3)]
           for c in range(n + 1)]  # fmt: skip
    return torch.tensor((own if n <= len(own) else voc[1:])[:n], dtype=torch.uint8)


def painted(image: Tensor, mask: Tensor, palette: Tensor) -> Tensor:
    """An image [3, H, W] under the colours of its mask; pixels without a class are left as they are."""
    over = palette[mask.clamp(max=len(palette) - 1)].permute(2, 0, 1).float()
    mixed = (STRENGTH * over + (1 - STRENGTH) * image.float()).round().byte()
    return torch.where(mask == IGNORED, image, mixed)


def mask_sheet(path: Path, shown: Sequence[ShownMasks], classes: Sequence[str], title: str) -> None:
    """Write a sheet: one row for each image, with the image, the true mask and that of each encoder."""
    palette = colours(len(classes))
    rows = []
    for each in shown:
        row = [Cell(each.image), Cell(painted(each.image, each.mask, palette), _largest(each.mask, classes))]
        for predicted in each.predicted.values():
            scored = each.mask != IGNORED
            right = (predicted == each.mask)[scored].double().mean().item()
            predicted = torch.where(scored, predicted, IGNORED)
            caption = f"{right:.0%} of pixels"
            if len(classes) > len(NAMES):
                caption += f"\n{_largest(predicted, classes)}"
            row.append(Cell(painted(each.image, predicted, palette), caption))
        rows.append(row)
    columns = ["image", "truth", *(shown[0].predicted if shown else ())]
    untinted = "pixels that are not tinted belong to no class and are not scored"
    note = f"{_legend(classes)}; names of classes: those of most pixels first; {untinted}"
    sheet(path, rows, title=title, columns=columns, note=note)


def box_sheet(path: Path, shown: Sequence[ShownBoxes], classes: Sequence[str], title: str) -> None:
    """Write a sheet: one row for each image, with the true boxes and those that each encoder's detector predicts."""
    palette = colours(len(classes))
    rows = []
    for each in shown:
        row = [Cell(framed(each.image, *each.boxes, palette), _counted(each.boxes[1], classes))]
        row += [Cell(framed(each.image, *found, palette), _counted(found[1], classes))
                for found in each.predicted.values()]  # fmt: skip
        rows.append(row)
    columns = ["truth", *(shown[0].predicted if shown else ())]
    sheet(
        path,
        rows,
        title=title,
        columns=columns,
        note=f"{_legend(classes)}; predicted boxes with a score of at least {SCORE:g}",
    )


def _legend(classes: Sequence[str]) -> str:
    """What the colours mean, where they have names."""
    if len(classes) > len(NAMES):
        return "a colour for each class"
    return ", ".join(f"{colour}: {name}" for colour, name in zip(NAMES, classes, strict=False))


def _largest(mask: Tensor, classes: Sequence[str]) -> str:
    """The names of the classes of a mask, those of most pixels first, at most :data:`SHOWN`."""
    found, pixels = mask[mask != IGNORED].unique(return_counts=True)
    order = pixels.argsort(descending=True, stable=True)
    names = [shortened(classes[c], 16) for c in found[order].tolist()]
    return ", ".join(names[:SHOWN] + ["..."] * (len(names) > SHOWN))


def framed(image: Tensor, boxes: Tensor, labels: Tensor, palette: Tensor) -> Tensor:
    """An image [3, H, W] with boxes [n, 4] in the colours of their labels [n], counted from 1."""
    from torchvision.utils import draw_bounding_boxes

    if not len(boxes):
        return image
    drawn = [tuple(palette[label - 1].tolist()) for label in labels.tolist()]
    return draw_bounding_boxes(image, boxes, colors=drawn, width=max(1, min(image.shape[1:]) // 100))


def _counted(labels: Tensor, classes: Sequence[str]) -> str:
    counts = torch.bincount(labels, minlength=len(classes) + 1)[1:].tolist()
    found = sorted(((count, name) for count, name in zip(counts, classes, strict=True) if count), key=lambda x: -x[0])
    return ", ".join(f"{count} {name}" for count, name in found) or "none"
