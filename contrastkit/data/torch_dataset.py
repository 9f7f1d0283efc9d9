"""A user's torch ``Dataset`` as a source."""

from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from contrastkit.data.dataset import DataSet, with_validation
from contrastkit.data.labels import numbered
from contrastkit.data.pixels import eight_bits
from contrastkit.data.source import Source, UnreadableError, digest
from contrastkit.errors import UserError

PEEK = 32  # items looked at for the first image


class DatasetSource(Source):
    """Images of a map-style ``Dataset``. An item is an image, or a tuple that starts with an image and its label; an
    image is a PIL image, an array uint8 [H, W] or [H, W, C], or a tensor [C, H, W], uint8 or floats in [0, 1].

    Labels are the dataset's ``targets`` or ``labels``; without either the set is unlabelled, since items are read only
    when they are needed. Labels that are not 0, 1, ..., n - 1 become so, and name the classes. An item that raises an
    error counts as unreadable.
    """

    def __init__(self, dataset: Dataset[Any]) -> None:
        """
        Raises:
            UserError: the dataset has no length, none of its first items is an image, or its labels do not fit.
        """
        if not hasattr(dataset, "__len__"):
            raise UserError("the dataset has no length: give a map-style one, with __len__ and __getitem__")
        self.dataset = dataset
        self.positions = torch.arange(len(dataset))
        name = type(dataset).__name__
        first = _first_image(dataset, name)
        named = getattr(dataset, "classes", None)
        labels, classes = _labels(dataset, name, None if named is None else [str(each) for each in named])
        super().__init__(name, channels=first.shape[0], size=min(first.shape[-2:]), labels=labels, classes=classes)

    def __len__(self) -> int:
        return len(self.positions)

    def fetch(self, index: Tensor) -> list[Tensor]:
        return [self._read(i) for i in index.tolist()]

    def subset(self, index: Tensor) -> Self:
        part = super().subset(index)
        part.positions = self.positions[index]
        return part

    def fingerprint(self) -> str:
        sample = torch.linspace(0, len(self) - 1, min(len(self), 16)).long()  # few: each is decoded
        return digest(f"{self.name} {len(self)}".encode(), self.label_bytes, *map(self._pixel_bytes, sample.tolist()))

    def _pixel_bytes(self, i: int) -> bytes:
        try:
            return self._read(i).numpy().tobytes()
        except UnreadableError:  # counted when its turn comes
            return b"unreadable"

    def _read(self, i: int) -> Tensor:
        position = int(self.positions[i])
        try:
            image = _pixels(self.dataset[position])
        except MemoryError:
            raise
        except Exception as error:  # whatever the user's code raises
            raise UnreadableError(i, f"{self.name}[{position}]", str(error) or type(error).__name__) from error
        if image.shape[0] == self.channels:
            return image
        raise UnreadableError(
            i, f"{self.name}[{position}]", f"{image.shape[0]} channels, but the first image has {self.channels}"
        )


def open_dataset(dataset: Dataset[Any], *, val_fraction: float | None = None, seed: int = 0) -> DataSet:
    """A dataset's images as a data set; see :func:`contrastkit.data.open_data` for the other arguments."""
    source = DatasetSource(dataset)
    whole = DataSet(source.name, source, None, source)
    return whole if val_fraction is None else with_validation(whole, val_fraction, seed)


def _pixels(item: Any) -> Tensor:
    """The image of an item, uint8 [C, H, W]."""
    image = item[0] if isinstance(item, tuple | list) else item
    if isinstance(image, Image.Image):
        image = eight_bits(image, "white")
        image = np.asarray(image if image.mode == "L" else image.convert("RGB"))
    if isinstance(image, np.ndarray):
        image = torch.tensor(np.ascontiguousarray(image[None] if image.ndim == 2 else image.transpose(2, 0, 1)))
    if not isinstance(image, Tensor) or image.ndim != 3:
        what = list(image.shape) if isinstance(image, Tensor) else type(image).__name__
        raise ValueError(f"images must be PIL images, arrays [H, W, C] or tensors [C, H, W], not {what}")
    if image.dtype == torch.uint8:
        return image.contiguous()
    if not (image.is_floating_point() and image.min() >= 0 and image.max() <= 1):  # NaN is not
        raise ValueError("pixels must be uint8, or floats in [0, 1]: the encoder normalises them")
    return (image * 255).round().to(torch.uint8)


def _first_image(dataset: Dataset[Any], name: str) -> Tensor:
    """The first image that can be read, of the first few items.

    Raises:
        UserError: there is none.
    """
    reason = "it is empty"
    for position in range(min(PEEK, len(dataset))):  # type: ignore[arg-type]
        try:
            return _pixels(dataset[position])
        except Exception as error:  # whatever the user's code raises
            reason = f"item {position}: {error or type(error).__name__}"
    raise UserError(f"the first items of {name} are not images: {reason}")


def _labels(dataset: Dataset[Any], name: str, classes: list[str] | None) -> tuple[Tensor | None, list[str] | None]:
    """The labels, and the names of the classes: ``classes``, or the labels themselves if these are not 0, 1, ..."""
    targets = getattr(dataset, "targets", getattr(dataset, "labels", None))
    if targets is None:
        return None, classes
    try:
        labels = np.asarray(targets)
    except (TypeError, ValueError) as error:
        raise UserError(f"the labels of {name} must be one integer per item: {error}") from error
    if labels.shape != (len(dataset),) or labels.dtype.kind not in "iub":  # type: ignore[arg-type]
        raise UserError(
            f"the labels of {name} must be one integer per item, not {labels.dtype} of shape {list(labels.shape)}"
        )
    labels = labels.astype(np.int64) if labels.dtype.kind == "b" else labels
    if labels.dtype.kind == "i" and labels.min() < -1:
        raise UserError(f"the labels of {name} must be integers >= 0 (-1: none), not {labels.min()}")
    if classes is not None and labels.max() < len(classes):  # the labels are positions among the classes
        return torch.from_numpy(labels.astype(np.int64)), classes
    (numbers,), names = numbered([labels])
    return numbers, names or classes
