"""Sets for detection in VOC's layout: JPEGImages/, Annotations/NAME.xml, ImageSets/Main/LIST.txt."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element

import torch
from torch import Tensor

from contrastkit.data import FileSource
from contrastkit.data.source import digest
from contrastkit.errors import UserError, listed
from contrastkit.transfer.listing import Listed, choose_list, pixels_of, read_list, require_apart, roots_of, source_of
from contrastkit.transfer.xml import read_xml

SLACK = 1.0  # pixels by which a box may reach beyond its image without a word


@dataclass(frozen=True)
class Boxes:
    """The n objects of one image.

    Attributes:
        box: float32 [n, 4], left, top, right and bottom edge in pixels from the image's left upper corner.
        label: int64 [n], from 1; 0 is the background.
        difficult: bool [n], marked so by VOC: neither right nor wrong in an evaluation.
        size: height and width of the image as annotated; None if the annotation does not say.
    """

    box: Tensor
    label: Tensor
    difficult: Tensor
    size: tuple[int, int] | None


@dataclass(frozen=True)
class BoxPart:
    """The training or the test part: images and their objects."""

    images: FileSource
    boxes: list[Boxes]

    def __len__(self) -> int:
        return len(self.boxes)

    def fingerprint(self) -> str:
        """Of the images, as :meth:`Source.fingerprint`, and of all their objects."""
        objects = [(each.box.tolist(), each.label.tolist(), each.difficult.tolist(), each.size) for each in self.boxes]
        return f"{self.images.fingerprint()}.{digest(repr(objects).encode())}"

    def read(self, i: int, channels: int) -> tuple[Tensor, Boxes]:
        """Image i, uint8 [channels, H, W], and its objects.

        Raises:
            UserError: it cannot be read, or has another size than annotated.
        """
        image, boxes = pixels_of(self.images, i, channels), self.boxes[i]
        if boxes.size is not None and boxes.size != (size := tuple(image.shape[1:])):
            raise UserError(
                f"{self.images.root / self.images.paths[i]} has {size[1]} x {size[0]} pixels, its annotation says "
                f"{boxes.size[1]} x {boxes.size[0]}: mend one of them, or take the image off the list"
            )
        return image, boxes


@dataclass(frozen=True)
class BoxSet:
    """A set for detection.

    Attributes:
        classes: names of the labels 1, 2, ...
        notices: how it was read and what was left out, one line each.
    """

    name: str
    train: BoxPart
    test: BoxPart
    classes: tuple[str, ...]
    notices: tuple[str, ...]


class _Object(NamedTuple):
    name: str
    box: tuple[float, float, float, float]
    difficult: bool


class _Annotation(NamedTuple):
    file: Path
    size: tuple[int, int] | None
    objects: list[_Object]


def open_boxes(data: Path, *, train: str | None = None, test: str | None = None) -> BoxSet:
    """A set for detection: a folder in VOC's layout, or one that contains several, as VOCdevkit does VOC2007 and
    VOC2012: their training lists are joined, and their test lists too.

    VOC counts pixels from 1 and includes both ends, so edges on the left and above lie one pixel before the number that
    is written (as in detectron2). Boxes without an area are left out.

    Args:
        train, test: names of lists, each in one folder at least. None takes test to test on, of the folders that have
            it, and trainval (else train) of all to train on; if none has test, val and train. A list whose images have
            no annotations is not taken, such as VOC2012's test list. Folders without a list are named in a notice.

    Raises:
        UserError: no such layout or list, an annotation that cannot be read, a test class without a training example,
            an image in both parts, or a part without boxes.
    """
    roots = roots_of(data, "Annotations", "JPEGImages")
    tests = _chosen(roots, test, ("test",), "--test-list") or _chosen(roots, test, ("val",), "--test-list")
    usual = ("train",) if "val" in tests.values() else ("trainval", "train")
    trains = _chosen(roots, train, usual, "--train-list")
    for what, chosen in (("train", trains), ("test", tests)):
        if not chosen:
            raise UserError(f"{data} has no list to {what} on in ImageSets/Main/: name one with --{what}-list")
    lists = [_lists(trains), _lists(tests)]
    require_apart(*lists)
    found = [[_annotation(root, name) for part in each for root, name in _places(part)] for each in lists]
    classes = tuple(sorted({item.name for each in found[0] for item in each.objects if _has_area(item, each.size)}))
    parts = [_part(data, each, annotations, classes) for each, annotations in zip(lists, found, strict=True)]
    notices = [_counted(each, part) for each, part in zip(lists, parts, strict=True)]
    notices += _lacking(roots, trains, "train") + _lacking(roots, tests, "test")
    notices += [line for annotations in found for line in _left_out(annotations)]
    return BoxSet(data.resolve().name, parts[0], parts[1], classes, tuple(notices))


def _chosen(roots: Sequence[Path], asked: str | None, usual: Sequence[str], option: str) -> dict[Path, str]:
    """The name of a list of each folder that has one; a list that is asked for must be in one of them."""
    holders = [root for root in roots if asked is None or (root / "ImageSets" / "Main" / f"{asked}.txt").is_file()]
    return {root: name for root in holders or roots if (name := _choice(root, asked, usual, option))}


def _lacking(roots: Sequence[Path], chosen: dict[Path, str], what: str) -> list[str]:
    """A notice of the folders of which nothing is in a part, if there are any."""
    if not (without := [root.name for root in roots if root not in chosen]):
        return []
    names = " or ".join(dict.fromkeys(chosen.values()))
    return [f"nothing to {what} on in {listed(without, 3)}: no list {names} of annotated images"]


def _choice(root: Path, asked: str | None, usual: Sequence[str], option: str) -> str | None:
    """The name of a list of a folder; of the usual ones, only those whose first image has an annotation."""
    folder = root / "ImageSets" / "Main"
    annotated = []
    for name in usual:
        file = folder / f"{name}.txt"
        words = file.read_text("utf-8", "replace").split(maxsplit=1) if file.is_file() else []
        if words and (root / "Annotations" / f"{words[0]}.xml").is_file():
            annotated.append(name)
    return choose_list(folder, asked, annotated, option)


def _lists(chosen: dict[Path, str]) -> list[Listed]:
    return [
        read_list(root / "ImageSets" / "Main" / f"{name}.txt", root / "JPEGImages") for root, name in chosen.items()
    ]


def _places(part: Listed) -> list[tuple[Path, str]]:
    """Folder and name of each image of a list."""
    return [(part.list.parents[2], name) for name in part.names]


def _annotation(root: Path, name: str) -> _Annotation:
    file = root / "Annotations" / f"{name}.xml"
    xml = read_xml(file)
    size = None
    if xml.find("size") is not None:
        size = int(_number(xml, "size/height", file)), int(_number(xml, "size/width", file))
    objects = [_object(item, file) for item in xml.iterfind("object")]
    return _Annotation(file, size if size and min(size) > 0 else None, objects)


def _object(item: Element, file: Path) -> _Object:
    left, top, right, bottom = (_number(item, f"bndbox/{side}", file) for side in ("xmin", "ymin", "xmax", "ymax"))
    if not (name := (item.findtext("name") or "").strip()):
        raise UserError(f"{file} has an object without a name")
    return _Object(name, (left, top, right, bottom), (item.findtext("difficult") or "").strip() == "1")


def _number(item: Element, path: str, file: Path) -> float:
    text = item.findtext(path)
    try:
        number = float(text or "")
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{file}: {path} must be a number, not {text!r}")
    return number


def _has_area(item: _Object, size: tuple[int, int] | None) -> bool:
    """Whether something of a box lies inside its image."""
    left, top, right, bottom = item.box
    height, width = size or (math.inf, math.inf)
    return left < right and top < bottom and right > 0 and bottom > 0 and left - 1 < width and top - 1 < height


def _part(data: Path, lists: Sequence[Listed], annotations: Sequence[_Annotation], classes: Sequence[str]) -> BoxPart:
    labels = {name: label for label, name in enumerate(classes, start=1)}
    boxes = []
    for annotation in annotations:
        objects = [item for item in annotation.objects if _has_area(item, annotation.size)]
        if unknown := [item.name for item in objects if item.name not in labels]:
            raise UserError(f"{annotation.file} has the class {unknown[0]!r}, which is not in the training part")
        box = torch.tensor([item.box for item in objects]).view(-1, 4) - torch.tensor([1.0, 1.0, 0.0, 0.0])
        if annotation.size is not None:
            height, width = annotation.size
            box = box.clamp(min=0).minimum(torch.tensor([width, height, width, height]))
        label = torch.tensor([labels[item.name] for item in objects], dtype=torch.int64)
        difficult = torch.tensor([item.difficult for item in objects], dtype=torch.bool)
        boxes.append(Boxes(box, label, difficult, annotation.size))
    if not any(len(each.box) for each in boxes):
        raise UserError(f"no image of {listed([str(part.list) for part in lists], 3)} has a box")
    return BoxPart(source_of(data.resolve().name, data, [file for part in lists for file in part.files]), boxes)


def _counted(lists: Sequence[Listed], part: BoxPart) -> str:
    empty = sum(not len(each.box) for each in part.boxes)
    names = " + ".join(f"{each.list.parents[2].name}/{each.list.stem}" for each in lists)
    boxes = sum(len(each.box) for each in part.boxes)
    return f"{names}: {len(part):,} images, {boxes:,} boxes" + (f", {empty:,} images without a box" if empty else "")


def _left_out(annotations: Sequence[_Annotation]) -> list[str]:
    """What is not as a reader would expect."""
    lines = []
    empty = [each.file.stem for each in annotations for item in each.objects if not _has_area(item, each.size)]
    if empty:
        lines.append(f"left out boxes without an area in their image ({len(empty):,}): {listed(empty, 3)}")
    beyond = [each.file.stem for each in annotations for item in each.objects if _is_beyond(item, each.size)]
    if beyond:
        lines.append(f"cut boxes that reach beyond their image ({len(beyond):,}): {listed(beyond, 3)}")
    return lines


def _is_beyond(item: _Object, size: tuple[int, int] | None) -> bool:
    if size is None or not _has_area(item, size):
        return False
    left, top, right, bottom = item.box
    return min(left, top) < 1 - SLACK or right > size[1] + SLACK or bottom > size[0] + SLACK
