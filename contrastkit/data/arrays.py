"""Images of one size, in memory."""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from contrastkit.data.source import Source, digest
from contrastkit.errors import UserError

MOST_CHANNELS = 16  # that a side is taken for where all sides differ


class ArraySource(Source):
    """Images of one size, in memory: uint8 [N, C, H, W]."""

    images: Tensor

    def __init__(
        self,
        name: str,
        images: Tensor,
        labels: Tensor | None = None,
        *,
        classes: Sequence[str] | None = None,
        orientation_matters: bool = False,
        group_ids: Tensor | None = None,
    ) -> None:
        super().__init__(
            name,
            channels=images.shape[1],
            size=min(images.shape[-2:]),
            labels=labels,
            classes=classes,
            orientation_matters=orientation_matters,
        )
        self.images, self.group_ids = images, group_ids

    def __len__(self) -> int:
        return len(self.images)

    def fetch(self, index: Tensor) -> Tensor:
        return self.images.index_select(0, index)  # several times faster than images[index]

    def subset(self, index: Tensor) -> Self:
        part = super().subset(index)
        part.images = self.images[index]
        return part

    def found_in(self, other: Source, most: int | None = None) -> Tensor | None:
        if not isinstance(other, ArraySource):
            return None
        theirs = {digest(image.numpy().tobytes()) for image in other.images}
        return torch.tensor([digest(image.numpy().tobytes()) in theirs for image in self.images], dtype=torch.bool)

    def fingerprint(self) -> str:
        sample = self.images[:: max(1, len(self) // 4096)]  # enough to tell sets apart, and fast for a large one
        shape = repr(tuple(self.images.shape)).encode()
        return digest(shape, sample.contiguous().numpy().tobytes(), self.label_bytes)


def channels_first(images: Tensor, name: str, layout: str | None = None) -> Tensor:
    """uint8 (N, H, W), (N, H, W, C) or (N, C, H, W) -> contiguous (N, C, H, W).

    Args:
        layout: "NHWC" or "NCHW"; None goes by the sides. Two equal ones, next to one another, are height and width; if
            all differ, the channels are the smallest.

    Raises:
        UserError: the sides leave it open.
    """
    if images.ndim == 3:
        return images[:, None].contiguous()
    _, first, middle, last = images.shape
    if layout is None:
        if first == middle != last:
            layout = "NHWC"
        elif middle == last != first:
            layout = "NCHW"
        elif first == last or min(first, last) > min(middle, MOST_CHANNELS):
            raise UserError(
                f"{name}: cannot tell channels from height in images of shape {tuple(images.shape)}: say which "
                "they are with --layout NHWC or NCHW (layout= in Python)"
            )
        else:
            layout = "NCHW" if first < last else "NHWC"
    return (images if layout == "NCHW" else images.permute(0, 3, 1, 2)).contiguous()
