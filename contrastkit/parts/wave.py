"""Features of sounds, frame by frame (CPC, van den Oord et al. 2018, Sec. 3.1): strided convolutions, then a GRU."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from contrastkit.errors import UserError
from contrastkit.types import Modality


class Wave(nn.Module):
    """Waveforms [N, 1, T] -> frames z [N, T', hidden], T' = T over the product of the strides; frames -> contexts.

    Each convolution ends in a layer norm over the channels of a frame and a ReLU. The paper names no norm; Riviere et
    al. (2020, arXiv:2002.02848) replaced batch norm by one over channels to stabilise training.
    """

    def __init__(self, *, hidden: int, context: int, kernels: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__()
        widths = [1, *[hidden] * len(kernels)]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(into, hidden, kernel, stride, padding=(kernel - stride + 1) // 2)
            for into, kernel, stride in zip(widths, kernels, strides, strict=False)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in kernels)
        self.gru = nn.GRU(hidden, context, batch_first=True)

    def frames(self, x: Tensor) -> Tensor:
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = torch.relu(norm(convolution(x).transpose(1, 2))).transpose(1, 2)
        return x.transpose(1, 2)

    def contexts(self, z: Tensor) -> Tensor:
        """Frames [N, T', hidden] -> contexts [N, T', context]; each depends on the frames up to its own."""
        return self.gru(z)[0]


# Sec. 3.1: frames of 160 samples, 10 ms at 16 kHz. The small one: 80 samples, 10 ms at 8 kHz.
WAVES: dict[str, dict[str, Any]] = {
    "wave": {"hidden": 512, "context": 256, "kernels": (10, 8, 4, 4, 4), "strides": (5, 4, 2, 2, 2)},
    "wave-tiny": {"hidden": 64, "context": 128, "kernels": (10, 8, 4, 4), "strides": (5, 4, 2, 2)},
}


def wave_name(encoder: str) -> str:
    """The key of :data:`WAVES` for the name of an encoder; for sounds, ``tiny`` means ``wave-tiny``.

    Raises:
        UserError: not an encoder of sounds.
    """
    name = {"tiny": "wave-tiny"}.get(encoder, encoder)
    if name not in WAVES:
        raise UserError(f"--encoder {encoder} is for images: use wave or tiny for sounds")
    return name


def encoder_name(encoder: str, modality: Modality) -> str:
    """The name by which :func:`contrastkit.parts.build.build_encoder` knows an encoder of examples of this kind.

    Raises:
        UserError: an encoder of sounds for images, or of images for sounds.
    """
    if modality is Modality.SOUND:
        return wave_name(encoder)
    if encoder in WAVES:
        raise UserError(f"--encoder {encoder} is for sounds: use tiny, a torchvision ResNet or timm:NAME for images")
    return encoder
