"""Images of one size, in memory."""

from collections.abc import Sequence
from typing import Self

from torch import Tensor

from contrastkit.data.source import Source, digest
from contrastkit.errors import UserError


class ArraySource(Source):
    """Images of one size, in memory: uint8 [N, C, H, W]."""

    in_memory = True

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

    def fingerprint(self) -> str:
        sample = self.images[:: max(1, len(self) // 4096)]  # enough to tell sets apart, and fast for a large one
        shape = repr(tuple(self.images.shape)).encode()
        return digest(shape, sample.contiguous().numpy().tobytes(), self.label_bytes)


def channels_first(images: Tensor, name: str) -> Tensor:
    """uint8 (N, H, W), (N, H, W, C) or (N, C, H, W) -> contiguous (N, C, H, W). The shorter side is the channels."""
    if images.ndim == 3:
        return images[:, None].contiguous()
    _, first, _, last = images.shape
    if first == last:
        raise UserError(
            f"{name}: cannot tell channels from height in images of shape {tuple(images.shape)}: give (N, H, W)"
        )
    return (images if first < last else images.permute(0, 3, 1, 2)).contiguous()
