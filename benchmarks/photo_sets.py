"""`python -m benchmarks.photo_sets SETS OUT`: the sets of benchmarks.photos as folders train/CLASS and test/CLASS.

SETS holds imagenette224/, eurosat/ and bccd/. imagenette224 and eurosat become links to their files, of EuroSAT every
third image of a class for testing. Blood cells are cut out of BCCD's photographs, of the official test photographs for
testing: a square around each box, a quarter larger than its longer side, moved into the photograph where it would reach
beyond. Nine cells of ten are red, so a class gets as many as the rarest one has, evenly spaced; boxes without area are
left out and counted.
"""

import argparse
from collections import Counter
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from PIL import Image

DOMAINS = ("imagenette224", "eurosat", "cells")
MARGIN = 1.25  # side of a crop over the longer side of its box
TEST_EVERY = 3
PARTS = {"train": "trainval", "test": "test"}  # our part -> BCCD's list of photographs


class Cell(NamedTuple):
    """A box of an annotation, in pixels."""

    kind: str
    left: int
    top: int
    right: int
    bottom: int


def make(domain: str, sets: Path, out: Path) -> list[str]:
    """Write OUT/DOMAIN, unless it is there; and what a reader should know."""
    folder = out / domain
    if folder.exists():
        return [f"{folder}: there already"]
    notes = {"imagenette224": imagenette, "eurosat": eurosat, "cells": cells}[domain](sets, folder)
    counts = Counter(path.parent.parent.name for path in folder.glob("*/*/*"))
    return [*notes, f"{folder}: {counts['train']:,} training and {counts['test']:,} test images"]


def imagenette(sets: Path, folder: Path) -> list[str]:
    """The official parts, under the names of the classes."""
    lines = (sets / "imagenette224" / "classes.txt").read_text().splitlines()
    names = dict(line.split(maxsplit=1) for line in lines if line.startswith("n"))
    for part, theirs in (("train", "train"), ("test", "val")):
        for wnid, name in names.items():
            for file in sorted((sets / "imagenette224" / theirs / wnid).iterdir()):
                _link(file, folder / part / name.replace(" ", "-"))
    return []


def eurosat(sets: Path, folder: Path) -> list[str]:
    """Every third image of a class for testing: neighbours in the numbering need not be neighbours on the ground."""
    for kind in sorted((sets / "eurosat" / "2750").iterdir()):
        files = sorted(kind.iterdir(), key=lambda file: int(file.stem.rpartition("_")[2]))
        for i, file in enumerate(files):
            _link(file, folder / ("train" if (i + 1) % TEST_EVERY else "test") / kind.name)
    return []


def cells(sets: Path, folder: Path) -> list[str]:
    """Balanced crops of BCCD's boxes: RBC, WBC, Platelets."""
    root, empty = sets / "bccd" / "VOCdevkit" / "VOC2007", 0
    for part, listed in PARTS.items():
        found: dict[str, list[tuple[str, Cell]]] = {}
        for name in (root / "ImageSets" / "Main" / f"{listed}.txt").read_text().split():
            for cell in boxes(root / "Annotations" / f"{name}.xml"):
                if cell.right <= cell.left or cell.bottom <= cell.top:
                    empty += 1
                else:
                    found.setdefault(cell.kind, []).append((name, cell))
        most = min(map(len, found.values()))
        for kind, places in found.items():
            target = folder / part / kind
            target.mkdir(parents=True)
            for i in range(most):
                name, cell = places[i * len(places) // most]
                crop(root / "JPEGImages" / f"{name}.jpg", cell).save(target / f"{name}-{cell.left}-{cell.top}.png")
    return [f"{empty} boxes without area are left out"]


def boxes(annotation: Path) -> list[Cell]:
    """The boxes of an annotation, in its order, with corners in pixels from 0."""
    corners = ("xmin", "ymin", "xmax", "ymax")
    return [
        Cell(item.findtext("name", ""), *(int(item.findtext(f"bndbox/{corner}", "0")) for corner in corners))
        for item in ElementTree.parse(annotation).getroot().iter("object")
    ]


def crop(photo: Path, cell: Cell) -> Image.Image:
    """The square around a cell, within its photograph."""
    with Image.open(photo) as image:
        side = min(round(MARGIN * max(cell.right - cell.left, cell.bottom - cell.top)), *image.size)
        left, top = (
            min(max((low + high - side) // 2, 0), length - side)
            for low, high, length in zip(cell[1:3], cell[3:5], image.size, strict=True)
        )
        return image.convert("RGB").crop((left, top, left + side, top + side))


def _link(file: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file.name).symlink_to(file.resolve())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("sets", type=Path, help="folder of the published sets")
    parser.add_argument("out", type=Path, help="folder for the new ones")
    args = parser.parse_args()
    for domain in DOMAINS:
        print("\n".join(make(domain, args.sets, args.out)))


if __name__ == "__main__":
    main()
