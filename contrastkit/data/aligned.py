"""Images of the same scenes from several sensors."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastkit.data.dataset import DataSet, Request
from contrastkit.data.files import FileSource
from contrastkit.data.folders import folder_dataset
from contrastkit.data.source import Source, UnreadableError, digest
from contrastkit.directories import given_path
from contrastkit.errors import UserError
from contrastkit.types import Modality


class AlignedSource(Source):
    """Scenes recorded by several sensors (colour and depth, for example), in image files of the same names.

    The channels of all modalities are stacked into one image. Images whose size differs from that of the first modality
    are resized to it (bilinearly). 16-bit depth is scaled like any image (:class:`FileSource`), from 0 to 65535: depths
    of a room in millimetres, up to about 10,000, would use only 40 of 256 levels without ``--stretch``.
    """

    modality = Modality.ALIGNED

    def __init__(self, name: str, parts: Mapping[str, FileSource]) -> None:
        """
        Args:
            parts: a source for each modality, with one file per scene. The first one has the labels.

        Raises:
            UserError: a file of one modality has no partner in another.
        """
        first, *others = parts
        scenes = {modality: [os.path.splitext(path)[0] for path in part.paths] for modality, part in parts.items()}
        for other in others:
            if unpaired := set(scenes[first]) ^ set(scenes[other]):
                example = min(unpaired)
                has, lacks = (first, other) if example in scenes[first] else (other, first)
                raise UserError(
                    f"{len(unpaired)} files have no partner: {example} is in {has}, not in {lacks} "
                    f"({len(scenes[first])} files in {first}, {len(scenes[other])} in {other})"
                )
        for modality, names in scenes.items():
            if len(set(names)) < len(names):
                duplicate = next(a for a, b in zip(sorted(names), sorted(names)[1:], strict=False) if a == b)
                raise UserError(f"{modality} has two files for the scene {duplicate}: remove one")
        for other in others:
            position = {scene: i for i, scene in enumerate(scenes[other])}
            parts = {**parts, other: parts[other].subset(torch.tensor([position[scene] for scene in scenes[first]]))}
        reference = parts[first]
        channels = sum(part.channels for part in parts.values())
        super().__init__(
            name, channels=channels, size=reference.size, labels=reference.labels, classes=reference.classes
        )
        self.parts, self.paths = parts, reference.paths
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
        return [torch.cat([_resized(image, scene[0]) for image in scene]) for scene in zip(*parts, strict=True)]

    def subset(self, index: Tensor) -> Self:
        part = super().subset(index)
        part.parts = {modality: source.subset(index) for modality, source in self.parts.items()}
        return part

    def fingerprint(self) -> str:
        names, contents = zip(*(part.fingerprint().split(".") for part in self.parts.values()), strict=True)
        pairs = " ".join(f"{modality} {own}" for modality, own in zip(self.parts, names, strict=True))
        return f"{digest(pairs.encode())}.{digest(' '.join(contents).encode())}"


def _resized(image: Tensor, to: Tensor) -> Tensor:
    """uint8 [C, H, W] resized to the height and width of another."""
    if image.shape[1:] == to.shape[1:]:
        return image
    return F.interpolate(image[None], to.shape[1:], mode="bilinear", antialias=True)[0]


def parse_folders(data: str) -> dict[str, Path]:
    """The folder of each modality, from ``rgb=DIR,depth=DIR``.

    Raises:
        UserError: it is not of this form, or a folder does not exist.
    """
    pairs = [part.partition("=") for part in re.split(r",(?=[^,=/]*=)", data)]  # folder names may contain commas
    folders = {name.strip(): given_path(folder) for name, _, folder in pairs}
    if len(pairs) < 2 or len(folders) < len(pairs) or not all(name.strip() and folder for name, _, folder in pairs):
        raise UserError(f"{data}: give several modalities as NAME=DIR,NAME=DIR, with at least two names")
    if missing := [folder for folder in folders.values() if not folder.is_dir()]:
        raise UserError(f"{missing[0]} is not a folder: give several modalities as NAME=DIR,NAME=DIR")
    return folders


def open_aligned(request: Request) -> DataSet | None:
    """``rgb=DIR,depth=DIR``: files of the same name, extension aside, form a scene; the first folder has the labels."""
    if "=" not in request.data or request.path.exists():
        return None
    folders = parse_folders(request.data)
    sets = {modality: folder_dataset(folder, request.reading) for modality, folder in folders.items()}
    for modality, data in sets.items():
        if not data.train.modality.has_pixels:
            raise UserError(f"{modality} has {data.train.modality.plural}: only images can be aligned")
    name = "+".join(sets)
    with_test = [modality for modality, data in sets.items() if data.test is not None]
    if with_test and len(with_test) < len(sets):
        lacks = next(modality for modality in sets if modality not in with_test)
        raise UserError(f"{with_test[0]} has a test part, {lacks} has none: add one, or remove it")

    def part(which: str) -> AlignedSource:
        return AlignedSource(name, {modality: getattr(data, which) for modality, data in sets.items()})

    train = part("train")
    notices = tuple(f"{modality}: {notice}" for modality, data in sets.items() for notice in data.notices)
    return DataSet(name, train, part("test") if with_test else None, train, notices)
