"""Sets for segmentation and detection, and the same ones damaged."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.transfer.sets import halves, write_boxes, write_masks, xml

CAT = [("cat", 3, 3, 30, 25)]
BOXES: dict[str, dict[str, str]] = {"trainval": {"a": xml(CAT), "b": xml(CAT)}, "test": {"c": xml(CAT)}}
MASKS: dict[str, dict[str, Any]] = {"train": {"a": halves(0), "b": halves(1)}, "val": {"c": halves(2)}}


def annotated(folder: Path) -> None:
    """boxes and masks, and one folder for each fault."""
    write_boxes(folder / "boxes", BOXES)
    damaged = {
        "none": xml([]),
        "zero": xml([("cat", 5, 5, 5, 5)]),
        "cut": xml(CAT)[:60],
        "empty": "",
        "entity": f'<!DOCTYPE a [<!ENTITY x "y">]>{xml(CAT)}',
        "number": xml(CAT).replace("<xmax>30", "<xmax>wide"),
        "unnamed": xml([("", 3, 3, 30, 25)]),
    }
    for name, text in damaged.items():
        write_boxes(folder / f"boxes-{name}", BOXES | {"trainval": {"a": text}})
    write_boxes(folder / "boxes-other", BOXES | {"test": {"c": xml([("dog", 3, 3, 30, 25)])}})
    write_boxes(folder / "boxes-both", BOXES | {"test": {"a": xml(CAT)}})
    for part in ("JPEGImages/a.png", "Annotations/b.xml", "ImageSets/Main/trainval.txt"):
        (write_boxes(folder / f"boxes-no-{Path(part).stem}", BOXES) / part).unlink()
    (write_boxes(folder / "boxes-no-images", BOXES) / "JPEGImages").rename(folder / "boxes-no-images" / "images")
    write_masks(folder / "masks", MASKS)
    write_masks(
        folder / "masks-one", {part: {name: 0 * mask for name, mask in each.items()} for part, each in MASKS.items()}
    )
    write_masks(folder / "masks-both", MASKS | {"val": {"a": halves(0)}})
    write_masks(folder / "pets", {"trainval": {"a": halves(0)}, "test": {"b": halves(1)}}, pets=True)
    spoilt: dict[str, Any] = {
        "size": halves(0, size=(32, 24)),
        "colour": np.repeat(halves(0)[:, :, None], 3, 2),
        "deep": halves(0).astype(np.uint16),
    }
    for name, pixels in spoilt.items():
        Image.fromarray(pixels).save(write_masks(folder / f"masks-{name}", MASKS) / "SegmentationClass" / "a.png")
    (write_masks(folder / "masks-text", MASKS) / "SegmentationClass" / "a.png").write_text("no image")
    (write_masks(folder / "masks-no-a", MASKS) / "SegmentationClass" / "a.png").unlink()
