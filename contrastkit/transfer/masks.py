"""Sets for segmentation, in the layouts of VOC and of the Oxford-IIIT pets.

VOC: JPEGImages/, SegmentationClass/NAME.png, whose pixels are class numbers, and ImageSets/Segmentation/LIST.txt.
Pets: images/, annotations/trimaps/NAME.png (1 pet, 2 background, 3 border) and annotations/LIST.txt.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from contrastkit.data import FileSource, UnreadableError
from contrastkit.data.pixels import opened
from contrastkit.data.source import digest
from contrastkit.errors import UserError
from contrastkit.evaluate.subject import OnProgress
from contrastkit.transfer.listing import Listed, choose_list, pixels_of, read_list, require_apart, roots_of, source_of

IGNORED = 255  # pixels that belong to no class: they are neither learnt nor scored
VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
PET_CLASSES = ("background", "pet")
TRIMAP = torch.full((256,), -1).index_copy(0, torch.tensor([1, 2, 3]), torch.tensor([1, 0, IGNORED]))  # to PET_CLASSES


class Layout(NamedTuple):
    """Where a set keeps its parts, relative to its root."""

    images: str
    masks: str
    lists: str
    train: tuple[str, ...]  # lists, by preference
    test: tuple[str, ...]
    trimaps: bool


VOC = Layout("JPEGImages", "SegmentationClass", "ImageSets/Segmentation", ("train",), ("val", "test"), False)
PETS = Layout("images", "annotations/trimaps", "annotations", ("trainval", "train"), ("test", "val"), True)


@dataclass(frozen=True)
class MaskPart:
    """The training or the test part: images and their masks."""

    images: FileSource
    masks: list[Path] = field(repr=False)
    trimaps: bool

    def __len__(self) -> int:
        return len(self.masks)

    def fingerprint(self) -> str:
        """Of the images, as :meth:`Source.fingerprint`, and of the whole files of their masks."""
        masks = (digest(file.read_bytes()).encode() for file in self.masks)
        return f"{self.images.fingerprint()}.{digest(*masks)}"

    def read(self, i: int, channels: int) -> tuple[Tensor, Tensor]:
        """Image i, uint8 [channels, H, W], and the classes of its pixels, int64 [H, W], :data:`IGNORED` where none.

        Raises:
            UserError: one of them cannot be read, or the two differ in size.
        """
        image, mask = pixels_of(self.images, i, channels), self.mask(i)
        self._require_same_size(i, tuple(image.shape[1:]), tuple(mask.shape))
        return image, mask

    def counts(self, i: int) -> Tensor:
        """How many pixels of image i have each class, int64 [255]. The sizes of image and mask are compared."""
        mask = self.mask(i)
        try:
            (seen,) = self.images.look(torch.tensor([i]))
        except UnreadableError:
            pixels_of(self.images, i, self.images.channels)  # raises
            raise
        self._require_same_size(i, (seen.height, seen.width), tuple(mask.shape))
        return torch.bincount(mask.flatten(), minlength=IGNORED + 1)[:IGNORED]

    def _require_same_size(self, i: int, image: tuple[int, ...], mask: tuple[int, ...]) -> None:
        if image != mask:
            raise UserError(
                f"{self.masks[i]} has {mask[1]} x {mask[0]} pixels, its image {self.images.paths[i]} "
                f"{image[1]} x {image[0]}: mend one of them, or take the image off the list"
            )

    def mask(self, i: int) -> Tensor:
        """The classes of the pixels of image i, int64 [H, W]."""
        file = self.masks[i]
        try:
            with opened(file) as image:
                mode, pixels = image.mode, np.array(image)
        except FileNotFoundError as error:
            raise UserError(f"no mask {file}") from error
        except UserError:
            raise
        except Exception as error:  # damaged files raise almost anything
            raise UserError(f"{file} cannot be read: {error}") from error
        if mode not in ("P", "L"):
            raise UserError(f"{file} is of mode {mode}: a mask holds a class number of 8 bits a pixel (mode P or L)")
        mask = torch.from_numpy(pixels).long()
        if not self.trimaps:
            return mask
        mask = TRIMAP[mask]
        if bool((mask < 0).any()):
            raise UserError(f"{file} is no trimap: its pixels are 1 (pet), 2 (background) or 3 (border)")
        return mask


@dataclass(frozen=True)
class MaskSet:
    """A set for segmentation.

    Attributes:
        classes: names of the classes 0, 1, ...
        commonest: the class of most pixels of the training masks.
        notices: how it was read, one line each.
    """

    name: str
    train: MaskPart
    test: MaskPart
    classes: tuple[str, ...]
    commonest: int
    notices: tuple[str, ...]


def open_masks(
    data: Path,
    *,
    train: str | None = None,
    test: str | None = None,
    on_progress: OnProgress | None = None,
) -> MaskSet:
    """A set for segmentation. All masks are read once, for the classes that occur.

    The classes of a set in VOC's layout are named by a file classes.txt beside JPEGImages/, one a line, else as VOC's
    in a folder called VOC..., else by their numbers. Pets have two classes: a border pixel belongs to neither.

    Args:
        train, test: names of lists; None takes train and val (VOC), or trainval and test (pets).

    Raises:
        UserError: no such layout or list, an image without a mask or with one of another size, an image in both parts,
            or a single class.
    """
    layout, root = _layout(data)
    chosen = []
    for what, asked, usual in (("train", train, layout.train), ("test", test, layout.test)):
        name = choose_list(root / layout.lists, asked, usual, f"--{what}-list")
        if name is None:
            raise UserError(f"{root / layout.lists} has no list to {what} on: name one with --{what}-list")
        chosen.append(read_list(root / layout.lists / f"{name}.txt", root / layout.images))
    require_apart(chosen[:1], chosen[1:])
    parts = [_part(root, layout, each) for each in chosen]
    counts = torch.stack(_counts(parts, on_progress))
    used = counts.sum(0).nonzero()[:, 0].tolist()
    if len(used) < 2:
        raise UserError(f"all pixels of the masks of {data} have the same class, or none: at least two are needed")
    classes, guess = (PET_CLASSES, "") if layout.trimaps else _class_names(root, max(used))
    if max(used) >= len(classes):
        raise UserError(f"{root} has the class {max(used)}, but only {len(classes)} names: complete classes.txt")
    counted = [f"{root.name}/{each.list.stem}: {len(each.names):,} images" for each in chosen]
    notices = tuple(filter(None, [*counted, guess]))
    return MaskSet(root.name, parts[0], parts[1], classes, int(counts[0].argmax()), notices)


def _layout(data: Path) -> tuple[Layout, Path]:
    if not data.is_dir():
        raise UserError(f"{data} is no folder")
    for layout in (PETS, VOC):
        try:
            roots = roots_of(data, layout.masks, layout.images)
        except UserError:
            continue
        if len(roots) > 1:
            names = ", ".join(root.name for root in roots)
            raise UserError(f"{data} holds several sets ({names}), which may share images: give one of them")
        return layout, roots[0].resolve()
    raise UserError(
        f"{data} has neither JPEGImages/ and SegmentationClass/ (VOC's layout) nor images/ and annotations/trimaps/ "
        "(that of the pets)"
    )


def _part(root: Path, layout: Layout, listed: Listed) -> MaskPart:
    masks = [root / layout.masks / f"{name}.png" for name in listed.names]
    return MaskPart(source_of(root.name, root, listed.files), masks, layout.trimaps)


def _counts(parts: Sequence[MaskPart], on_progress: OnProgress | None) -> list[Tensor]:
    """How many pixels of each part have each class, after a look at every mask and the size of its image."""
    total, done = sum(map(len, parts)), 0
    counts = [torch.zeros(IGNORED, dtype=torch.int64) for _ in parts]
    for part, found in zip(parts, counts, strict=True):
        for i in range(len(part)):
            found += part.counts(i)
            done += 1
            if on_progress is not None:
                on_progress("looking at the masks", done, total)
    return counts


def _class_names(root: Path, last: int) -> tuple[tuple[str, ...], str]:
    """Names of the classes up to ``last``, and a notice if they are guessed."""
    file = root / "classes.txt"
    if file.is_file():
        return tuple(line.strip() for line in file.read_text("utf-8").splitlines() if line.strip()), ""
    if root.name.startswith("VOC") and last < len(VOC_CLASSES):
        return VOC_CLASSES, "classes are named as VOC's (a file classes.txt beside JPEGImages/ names others)"
    return tuple(map(str, range(last + 1))), "classes have no names: list them in classes.txt beside JPEGImages/"
