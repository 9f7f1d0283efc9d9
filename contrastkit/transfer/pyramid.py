"""The stages of an encoder's trunk, for detectors: feature maps of several strides."""

import copy
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

from contrastkit.errors import UserError
from contrastkit.parts.build import ProjectedTrunk
from contrastkit.parts.encoder import Encoder
from contrastkit.parts.mode import evaluating
from contrastkit.parts.tiny import TinyResNet

FINEST = 4  # stride in pixels of the finest maps that a detector uses


class Staged(nn.Module):
    """A trunk as a stem and stages: normalised images [N, C, H, W] -> the maps behind each stage of ``first`` and
    later, named "0", "1", ..."""

    def __init__(self, stem: nn.Module, stages: Sequence[nn.Module], first: int) -> None:
        super().__init__()
        self.stem, self.stages, self.first = stem, nn.ModuleList(stages), first

    def forward(self, x: Tensor) -> "OrderedDict[str, Tensor]":
        x = self.stem(x)
        maps = []
        for stage in self.stages:
            maps.append(x := stage(x))
        return OrderedDict((str(i), each) for i, each in enumerate(maps[self.first :]))


class TimmStages(nn.Module):
    """The same of a timm model: the maps behind the blocks ``indices``, of timm's own numbering."""

    def __init__(self, trunk: Any, indices: Sequence[int]) -> None:
        super().__init__()
        self.trunk, self.indices = trunk, list(indices)

    def forward(self, x: Tensor) -> "OrderedDict[str, Tensor]":
        maps = self.trunk.forward_intermediates(x, self.indices, intermediates_only=True, output_fmt="NCHW")
        return OrderedDict((str(i), each) for i, each in enumerate(maps))


class Pyramid(nn.Module):
    """A feature pyramid on a body (Lin et al. 2017), with a level of twice the coarsest stride added by max-pooling:
    normalised images -> maps "0", "1", ..., "pool" of ``out_channels`` channels."""

    def __init__(self, body: nn.Module, channels: Sequence[int], out_channels: int) -> None:
        super().__init__()
        self.body, self.out_channels = body, out_channels
        self.fpn = FeaturePyramidNetwork(list(channels), out_channels, LastLevelMaxPool())

    def forward(self, x: Tensor) -> "OrderedDict[str, Tensor]":
        return self.fpn(self.body(x))


def stem_and_stages(encoder: Encoder) -> tuple[nn.Module, list[nn.Module]] | None:
    """A copy of the trunk of ``tiny`` or a ResNet as a stem and its stages, finest first; None for other trunks."""
    from torchvision.models import ResNet

    trunk: Any = copy.deepcopy(plain_trunk(encoder))
    if isinstance(trunk, TinyResNet):
        return nn.Sequential(trunk.conv1, trunk.bn1, nn.ReLU()), list(trunk.blocks)
    if isinstance(trunk, ResNet):
        layers = trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4
        stages = [layer for layer in layers if not isinstance(layer, nn.Identity)]  # some encoders lack the last one
        return nn.Sequential(trunk.conv1, trunk.bn1, trunk.relu, trunk.maxpool), stages
    return None


def pyramid_body(encoder: Encoder) -> nn.Module:
    """A copy of the trunk that gives its maps of stride :data:`FINEST` and coarser, each stride once.

    Raises:
        UserError: it has no maps of two strides, as vision transformers do not.
    """
    if (parts := stem_and_stages(encoder)) is not None:
        stem, stages = parts
        strides = [stride for stride, _ in strides_of(Staged(stem, stages, 0), encoder)]
        if len([stride for stride in strides if stride >= FINEST]) >= 2:
            return Staged(stem, stages, next(i for i, stride in enumerate(strides) if stride >= FINEST))
    trunk: Any = copy.deepcopy(plain_trunk(encoder))
    if hasattr(trunk, "forward_intermediates") and hasattr(trunk, "feature_info"):
        info: list[dict[str, Any]] = getattr(trunk.feature_info, "info", trunk.feature_info)
        coarsest_of = {each["reduction"]: i for i, each in enumerate(info) if each["reduction"] >= FINEST}
        if len(coarsest_of) >= 2:
            return TimmStages(trunk, list(coarsest_of.values()))
    raise UserError(
        f"detection needs feature maps of several strides, which {type(plain_trunk(encoder)).__name__} does not have: "
        "use tiny, a ResNet or another convolutional model"
    )


def plain_trunk(encoder: Encoder) -> nn.Module:
    """The trunk that sees whole images, without projector layers.

    Raises:
        UserError: the encoder cuts images into patches or takes several views apart.
    """
    if type(encoder) is not Encoder:
        raise UserError(f"a detector needs one trunk that sees whole images, which a {type(encoder).__name__} lacks")
    trunk: Any = encoder.trunk
    while isinstance(trunk, ProjectedTrunk):
        trunk = trunk[0]
    return trunk


@torch.no_grad()
def strides_of(body: nn.Module, encoder: Encoder) -> list[tuple[int, int]]:
    """Stride in pixels and number of channels of each of a body's maps, in order."""
    side = 256
    with evaluating(body):
        maps = body(torch.zeros(1, encoder.channels, side, side))
    return [(round(side / each.shape[-1]), each.shape[1]) for each in maps.values()]
