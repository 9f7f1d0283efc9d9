"""Encoders f: images -> features, and their contract. :mod:`contrastkit.parts.build` builds them by name.

An :class:`Encoder` takes plain images in [0, 1] and normalises them itself, so that training, evaluation and users of a
trained encoder cannot disagree about mean and standard deviation.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from contrastkit.colour import Colour
from contrastkit.errors import UserError
from contrastkit.parts.maps import feature_maps
from contrastkit.parts.wave import WAVES, Wave

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Encoder(nn.Module):
    """Normalise, then the trunk.

    ``forward``: images [N, channels, H, W] float in [0, 1] -> features [N, dim].
    ``maps``: the same images -> feature maps before pooling [N, C, h, w].

    Attributes:
        dim: number of features.
        channels: number of input channels.
        stem: "3x3" (small images), "4x4" (tiny), "7x7" (torchvision's), "strided" (sounds), or "own" (a timm model's).
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        trunk: nn.Module,
        *,
        dim: int,
        channels: int,
        stem: str,
        normalisation: tuple[Sequence[float], Sequence[float]] | None = None,
    ) -> None:
        """``normalisation``: mean and standard deviation of each channel, if published weights require their own."""
        super().__init__()
        # Other numbers of channels have no published statistics: 0.5 and 0.25 are ImageNet's, rounded.
        default = (IMAGENET_MEAN, IMAGENET_STD) if channels == 3 else ((0.5,) * channels, (0.25,) * channels)
        mean, std = normalisation or default
        self.register_buffer("mean", torch.tensor(mean).view(1, channels, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, channels, 1, 1))
        self.trunk = trunk
        self.dim, self.channels, self.stem = dim, channels, stem

    def forward(self, images: Tensor) -> Tensor:
        return self.trunk(self.normalise(images))

    def maps(self, images: Tensor) -> Tensor:
        """Images [N, channels, H, W] float in [0, 1] -> feature maps before pooling [N, C, h, w].

        For ResNets and ``tiny``, their mean over h and w is ``forward``, unless a projector follows the trunk. For a
        vision transformer, they are the last layer's patch tokens, row by row, without class and register tokens.

        Raises:
            UserError: this encoder has no feature maps.
        """
        return feature_maps(self.trunk, self.normalise(images))

    def normalise(self, images: Tensor) -> Tensor:
        """Images [N, channels, H, W] in [0, 1], minus the mean of each channel, divided by its standard deviation."""
        return (images - self.mean) / self.std


class PatchEncoder(Encoder):
    """An encoder of the overlapping patches of an image, each encoded separately (CPC, Sec. 3.2).

    ``forward``: images [N, channels, H, W] float in [0, 1] -> features [N, dim], the mean over an image's patches.

    Attributes:
        patch: side of a patch in pixels.
        stride: pixels from one patch to the next.
    """

    def __init__(self, encoder: Encoder, *, patch: int, stride: int) -> None:
        super().__init__(encoder.trunk, dim=encoder.dim, channels=encoder.channels, stem=encoder.stem)
        self.mean, self.std = encoder.mean, encoder.std
        self.patch, self.stride = patch, stride

    def forward(self, images: Tensor) -> Tensor:
        return self.patches(images).mean(dim=(1, 2))

    def maps(self, images: Tensor) -> Tensor:
        """Images [N, channels, H, W] -> the features of their patches as maps [N, dim, rows, columns]."""
        return self.patches(images).permute(0, 3, 1, 2)

    def patches(self, images: Tensor) -> Tensor:
        """Images [N, channels, H, W] -> the features of their patches [N, rows, columns, dim]."""
        return self.encode(self.cut(images))

    def cut(self, images: Tensor) -> Tensor:
        """Images [N, channels, H, W] -> patches [N, rows, columns, channels, patch, patch]; the remainder at the right
        and the bottom is dropped.

        Raises:
            UserError: the images are smaller than a patch.
        """
        if min(images.shape[-2:]) < self.patch:
            raise UserError(f"images of {min(images.shape[-2:])} px are smaller than a patch of {self.patch}")
        grid = images.unfold(2, self.patch, self.stride).unfold(3, self.patch, self.stride)
        return grid.permute(0, 2, 3, 1, 4, 5)

    def encode(self, patches: Tensor) -> Tensor:
        """Patches [N, rows, columns, channels, patch, patch] -> features [N, rows, columns, dim]."""
        return super().forward(patches.flatten(0, 2)).unflatten(0, patches.shape[:3])


class SplitEncoder(Encoder):
    """One encoder for each view, where views are groups of an image's channels (CMC, Sec. 3.1 and 4.1).

    ``forward``: images [N, channels, H, W] float in [0, 1], RGB or several modalities -> the concatenated features
    of all views [N, dim].

    Attributes:
        dims: number of features of each view; ``dim`` is their sum.
        views: names of the views.
    """

    trunk: nn.ModuleList

    def __init__(self, parts: Sequence[Encoder], space: Colour) -> None:
        """``parts``: an encoder for each view of the space; only its trunk is used, because the space normalises."""
        super().__init__(
            nn.ModuleList(part.trunk for part in parts),
            dim=sum(part.dim for part in parts),
            channels=sum(part.channels for part in parts),
            stem=parts[0].stem,
            normalisation=(space.mean, space.std),
        )
        self.dims = [part.dim for part in parts]
        self.convert, self.groups, self.views = space.convert, space.groups, space.views

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([trunk(view) for trunk, view in self._trunks_and_views(images)], dim=1)

    def maps(self, images: Tensor) -> Tensor:
        """Images [N, channels, H, W] -> the concatenated feature maps of all views [N, C, h, w]."""
        return torch.cat([feature_maps(trunk, view) for trunk, view in self._trunks_and_views(images)], dim=1)

    def _trunks_and_views(self, images: Tensor) -> Iterator[tuple[nn.Module, Tensor]]:
        views = self.normalise(self.convert(images)).split(self.groups, dim=1)
        return zip(self.trunk, views, strict=True)


class WaveEncoder(Encoder):
    """An encoder of sounds, frame by frame (CPC, Sec. 3.1).

    ``forward``: sounds [N, 1, 1, T] float in [-1, 1] -> features [N, dim], the mean over a sound's contexts.
    """

    trunk: Wave

    def __init__(self, name: str) -> None:
        """``name``: a key of :data:`contrastkit.parts.wave.WAVES`."""
        # 0.1 is about the loudness of speech.
        trunk = Wave(**WAVES[name])
        super().__init__(trunk, dim=trunk.gru.hidden_size, channels=1, stem="strided", normalisation=((0.0,), (0.1,)))

    def forward(self, sounds: Tensor) -> Tensor:
        return self.contexts(self.frames(sounds)).mean(dim=1)

    def maps(self, sounds: Tensor) -> Tensor:
        raise UserError("an encoder of sounds has frames and contexts, but no feature maps")

    def frames(self, sounds: Tensor) -> Tensor:
        """Sounds [N, 1, 1, T] -> frames z [N, T', hidden]."""
        return self.trunk.frames(self.normalise(sounds)[:, :, 0])

    def contexts(self, z: Tensor) -> Tensor:
        """Frames z [N, T', hidden] -> contexts c [N, T', dim]."""
        return self.trunk.contexts(z)
