"""The types passed between data, methods and the loop: data -> Batch -> method -> Step -> method."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, Self, TypeVar

import torch
from torch import Tensor

Memory = TypeVar("Memory")  # what a method's after_step writes: keys, features, or None without a dictionary
Images = Tensor | Sequence[Tensor]  # uint8 [n, C, H, W], or n of uint8 [C, H_i, W_i]; sounds: n of int16 [1, 1, T_i]


class Modality(StrEnum):
    """The kind of examples in a source; :data:`contrastkit.augment.HANDLING` defines how each is augmented.

    Attributes:
        plural: word for several examples.
        unit: the unit of sizes.
        has_pixels: whether examples can be cropped, drawn on a sheet, and probed by their raw pixels.
    """

    plural: str
    unit: str
    has_pixels: bool

    def __new__(cls, name: str, plural: str, unit: str, has_pixels: bool) -> Self:
        member = str.__new__(cls, name)
        member._value_, member.plural, member.unit, member.has_pixels = name, plural, unit, has_pixels
        return member

    IMAGE = "image", "images", "px", True
    ALIGNED = "aligned", "images", "px", True  # images of one scene by several sensors, their channels stacked
    SOUND = "sound", "sounds", "samples", False


@dataclass(frozen=True, slots=True)
class Batch:
    """N images under V views."""

    views: Sequence[Tensor]  # V x [N, C, H, W] float32, images in [0, 1], sounds in [-1, 1]; sizes may differ
    index: Tensor  # [N] int64, position in the data set: row of a memory bank
    label: Tensor  # [N] int64, -1 if unknown; never read by a method

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device, with views in channels-last format; labels stay where they are."""
        views = [v.to(device, non_blocking=True, memory_format=torch.channels_last) for v in self.views]
        return Batch(views, self.index.to(device, non_blocking=True), self.label)

    def pin_memory(self) -> "Batch":
        """Called by DataLoader, so that copies to a GPU are asynchronous."""
        return Batch([view.pin_memory() for view in self.views], self.index.pin_memory(), self.label)


@dataclass(frozen=True, slots=True)
class Step(Generic[Memory]):
    """The result of a method's ``forward``: the loss, the input of ``after_step``, and numbers to log."""

    loss: Tensor  # scalar
    memory: Memory  # input of after_step, e.g. MoCo's keys [N, C]
    logs: dict[str, Tensor]  # name -> scalar
