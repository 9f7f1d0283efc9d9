"""Time what a training's input costs on one thread: reading files, decoding them, drawing and applying views.

    read       the bytes of the files, from the system's cache
    decode     reading and decoding: ours, and Pillow and simplejpeg alone
    augment    random views of decoded images
    whole      from the file to the views, as a training's loader does it

Beside ours, the libraries that are installed make views of the same numbers in their own ways: torchvision (v2, on
tensors), lightly, kornia and albumentations from images that Pillow decodes, and DALI's pipeline from files. The ways
of a stage are timed in turns.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import simplejpeg
import torch
from PIL import Image
from torch import Tensor

from contrastkit.augment import View
from contrastkit.bench import measure
from contrastkit.bench.input_peers import PEERS, Peer, dali
from contrastkit.bench.measure import Missing, Way
from contrastkit.data.files import FileSource
from contrastkit.data.loader import Loader
from contrastkit.data.source import Source
from contrastkit.errors import UserError
from contrastkit.ops.library import one_thread
from contrastkit.types import Images, Modality

T = TypeVar("T")

STAGES = ("read", "decode", "augment", "whole")


@dataclass(frozen=True)
class Speed:
    """How fast one implementation of a stage is."""

    stage: str
    impl: str
    images_per_second: float | None  # the median; None where it is not available here
    iqr: float | None  # interquartile range of the time, as a share of the median
    note: str = ""


@dataclass(frozen=True)
class Sample:
    """Images of a set to measure on, and the views to make of each."""

    source: Source  # of these images alone
    views: tuple[View, ...]

    @classmethod
    def of(cls, source: Source, views: tuple[View, ...], *, images: int, size: int | None = None) -> "Sample":
        """
        Args:
            images: how many to draw from the set.
            size: side of the largest views, the others in proportion; None leaves them.

        Raises:
            UserError: a set of other things than images, or none of which can be read.
        """
        if source.modality is not Modality.IMAGE:
            raise UserError(f"{source.name} has {source.modality.plural}: give a data set of images")
        largest = max(view.size for view in views)
        if size is not None:
            views = tuple(replace(view, size=max(2, round(view.size * size / largest))) for view in views)
        _, index = source.take_readable(source.order(0, 0)[:images])
        if not len(index):
            raise UserError(f"none of {images} images of {source.name} can be read")
        return cls(source.subset(index), views)

    @property
    def files(self) -> list[Path]:
        """Of images in files."""
        return [self.source.root / path for path in self.source.paths] if isinstance(self.source, FileSource) else []

    @property
    def mode(self) -> str:
        """Pillow's."""
        return "L" if self.source.channels == 1 else "RGB"

    def speeds(self) -> Iterator[Speed]:
        """Of every implementation, stage by stage; images in memory are neither read nor decoded."""
        for stage in STAGES if self.files else ("augment", "whole"):
            with one_thread():
                ways, missing = measure.warm(self.ways(stage))
                for impl, (median, iqr) in measure.interleaved(ways, "cpu").items():
                    yield Speed(stage, impl, len(self.source) / median, iqr / median)
            for impl, reason in missing.items():
                yield Speed(stage, impl, None, None, reason)

    def ways(self, stage: str) -> dict[str, Way]:
        """The implementations of a stage, for all the images at once."""
        if stage == "read":
            return {"ours": lambda: [path.read_bytes() for path in self.files]}
        if stage == "decode":
            return {
                "ours": lambda: self.source.fetch(torch.arange(len(self.source))),
                "pillow": lambda: [np.asarray(picture) for picture in self._pictures()],
                "simplejpeg": lambda: [_by_simplejpeg(path, self.mode) for path in self.files],
            }
        source = _Decoded(self.source) if stage == "augment" else self.source
        ways: dict[str, Way] = {
            "ours": lambda: next(Loader(source, self.views, batch=len(source), seed=0).batches(0, 1))
        }
        ways |= {name: self._way(stage, peer) for name, peer in PEERS.items()}
        if stage == "whole" and self.files and self.source.channels == 3:
            ways["dali"] = self._way_of_dali()
        return ways

    def _way(self, stage: str, peer: Peer) -> Way:
        """Another library's views, image by image."""
        transforms: list[Callable[[Any], Any]] = []
        prepared: list[Any] = []

        def way() -> list[Any]:
            if not transforms:  # at the first call, as it may not be installed
                transforms.extend(_installed(lambda: list(map(peer.transform, self.views))))
                prepared.extend(map(peer.prepare, self._pictures()))
            inputs = prepared if stage == "augment" else map(peer.prepare, self._pictures())
            return [[transform(each) for transform in transforms] for each in inputs]

        return way

    def _way_of_dali(self) -> Way:
        pipelines: list[Way] = []

        def way() -> Any:
            if not pipelines:
                pipelines.append(_installed(lambda: dali(self.files, self.views)))
            return pipelines[0]()

        return way

    def _pictures(self) -> Iterator[Image.Image]:
        """The images by Pillow."""
        for path in self.files:
            with Image.open(path) as image:
                yield image.convert(self.mode)
        if not self.files:
            for pixels in self.source.fetch(torch.arange(len(self.source))):
                yield Image.fromarray(pixels.permute(1, 2, 0).squeeze(2).numpy())


class _Decoded(Source):
    """The images of another source, in memory."""

    images: Images

    def __init__(self, source: Source) -> None:
        super().__init__(source.name, channels=source.channels, size=source.size, labels=None, classes=None)
        self.images = source.fetch(torch.arange(len(source)))

    def __len__(self) -> int:
        return len(self.images)

    def fetch(self, index: Tensor) -> Images:
        return self.images[index] if isinstance(self.images, Tensor) else [self.images[i] for i in index.tolist()]

    def fingerprint(self) -> str:
        return ""


def _installed(make: Callable[[], T]) -> T:
    try:
        return make()
    except ImportError as error:
        raise Missing(f"{error.name} is not installed") from error
    except Exception as error:  # of another version than the one known here
        raise Missing(f"{type(error).__name__}: {error}") from error


def _by_simplejpeg(path: Path, mode: str) -> Any:
    try:
        return simplejpeg.decode_jpeg(path.read_bytes(), "GRAY" if mode == "L" else "RGB")
    except ValueError as error:
        raise Missing(f"{path.name}: {error}") from error
