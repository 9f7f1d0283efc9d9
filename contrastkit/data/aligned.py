"""Images of the same scenes by several sensors."""

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastkit.data.dataset import DataSet, Request
from contrastkit.data.files import FileSource
from contrastkit.data.folders import folder_dataset
from contrastkit.data.source import Source, UnreadableError
from contrastkit.errors import UserError
from contrastkit.types import Modality


class AlignedSource(Source):
    """Scenes seen by several sensors, in image files of the same names (colour and depth, say): one image of the
    channels of all. An image of another size than that of the first modality is resized to it (bilinearly).

    Depth in 16 bits is scaled like any image (:class:`FileSource`), from 0 to 65535: millimetres of a room, up to some
    10,000, would keep 40 steps of 256. Stretch them first."""

    modality = Modality.ALIGNED

    def __init__(self, name: str, parts: Mapping[str, FileSource]) -> None:
        """``parts``: a source for each modality, file by file of the same scenes. The first one has the labels.

        Raises:
            UserError: a file of one has no partner in another.
        """
        first, *others = parts
        scenes = {modality: [os.path.splitext(path)[0] for path in part.paths] for modality, part in parts.items()}
        for other in others:
            if alone := set(scenes[first]) ^ set(scenes[other]):
                one = min(alone)
                has, lacks = (first, other) if one in scenes[first] else (other, first)
                raise UserError(
                    f"{len(alone)} files have no partner: {one} is in {has}, not in {lacks} "
                    f"({len(scenes[first])} files in {first}, {len(scenes[other])} in {other})"
                )
        for modality, names in scenes.items():
            if len(set(names)) < len(names):
                twin = next(a for a, b in zip(sorted(names), sorted(names)[1:], strict=False) if a == b)
                raise UserError(f"{modality} has two files for the scene {twin}: leave one out")
        for other in others:
            at = {scene: i for i, scene in enumerate(scenes[other])}
            parts = {**parts, other: parts[other].subset(torch.tensor([at[scene] for scene in scenes[first]]))}
        lead = parts[first]
        channels = sum(part.channels for part in parts.values())
        super().__init__(name, channels=channels, size=lead.size, labels=lead.labels, classes=lead.classes)
        self.parts = parts
        self.modalities = {modality: part.channels for modality, part in parts.items()}

    def __len__(self) -> int:
        return len(next(iter(self.parts.values())))

    def fetch(self, index: Tensor) -> list[Tensor]:
        parts = []
        for modality, part in self.parts.items():
            try:
                images = part.fetch(index)
            except UnreadableError as e:
                raise UnreadableError(e.index, f"{modality}: {e.path}", e.reason) from e
            parts.append(images)
        return [torch.cat([_fitted(image, scene[0]) for image in scene]) for scene in zip(*parts, strict=True)]

    def subset(self, index: Tensor) -> "AlignedSource":
        return AlignedSource(self.name, {modality: part.subset(index) for modality, part in self.parts.items()})

    def fingerprint(self) -> str:
        words = " ".join(f"{modality} {part.fingerprint()}" for modality, part in self.parts.items())
        return hashlib.sha256(words.encode()).hexdigest()[:16]


def _fitted(image: Tensor, to: Tensor) -> Tensor:
    """uint8 [C, H, W] resized to the height and width of another."""
    if image.shape[1:] == to.shape[1:]:
        return image
    return F.interpolate(image[None], to.shape[1:], mode="bilinear", antialias=True)[0]


def parse_folders(data: str) -> dict[str, Path]:
    """The folder of each modality, from ``rgb=DIR,depth=DIR``.

    Raises:
        UserError: it is not of this form, or a folder does not exist.
    """
    pairs = [part.partition("=") for part in re.split(r",(?=[^,=/]*=)", data)]  # a folder may have a comma in its name
    folders = {name.strip(): Path(folder).expanduser() for name, _, folder in pairs}
    if len(pairs) < 2 or len(folders) < len(pairs) or not all(name.strip() and folder for name, _, folder in pairs):
        raise UserError(f"{data}: give several modalities as NAME=DIR,NAME=DIR, with two names or more")
    if missing := [folder for folder in folders.values() if not folder.is_dir()]:
        raise UserError(f"{missing[0]} is not a folder: give several modalities as NAME=DIR,NAME=DIR")
    return folders


def open_aligned(request: Request) -> DataSet | None:
    """``rgb=DIR,depth=DIR``: files of one name, whatever its ending, belong together; labels are those of the first."""
    if "=" not in request.data or request.path.exists():
        return None
    sets = {modality: folder_dataset(folder) for modality, folder in parse_folders(request.data).items()}
    if sounds := [modality for modality, data in sets.items() if data.train.modality is Modality.SOUND]:
        raise UserError(f"{sounds[0]} holds sounds: only images can be aligned")
    name = "+".join(sets)
    with_test = [modality for modality, data in sets.items() if data.test is not None]
    if with_test and len(with_test) < len(sets):
        lacks = next(modality for modality in sets if modality not in with_test)
        raise UserError(f"{with_test[0]} has a test part, {lacks} has none")

    def part(which: str) -> AlignedSource:
        return AlignedSource(name, {modality: getattr(data, which) for modality, data in sets.items()})

    train = part("train")
    return DataSet(name, train, part("test") if with_test else None, train)
