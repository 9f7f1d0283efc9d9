"""Encoders f: images -> features. torchvision's ResNets, any timm model, and ``tiny``, a small ResNet for a CPU.

An :class:`Encoder` takes plain images in [0, 1] and normalises them itself, so training, evaluation and a user who
loads it can never disagree about mean and standard deviation.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from contrastkit.errors import UserError, suggest

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2", "wide_resnet101_2")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SMALL = 64  # images up to this many pixels get the 3x3 stem without max-pooling


class Encoder(nn.Module):
    """Normalise, then the trunk.

    ``forward``: images [N, channels, H, W] float in [0, 1] -> features [N, dim].

    Attributes:
        dim: number of features.
        channels: number of input channels.
        stem: "3x3" (small images), "4x4" (tiny), "7x7" (torchvision's), or "own" (a timm model's).
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
        """``normalisation``: mean and standard deviation of each channel, where published weights want their own."""
        super().__init__()
        # Sets of other channels have no published statistics: half and a quarter are the ImageNet values rounded.
        usual = (IMAGENET_MEAN, IMAGENET_STD) if channels == 3 else ((0.5,) * channels, (0.25,) * channels)
        mean, std = normalisation or usual
        self.register_buffer("mean", torch.tensor(mean).view(1, channels, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, channels, 1, 1))
        self.trunk = trunk
        self.dim, self.channels, self.stem = dim, channels, stem

    def forward(self, images: Tensor) -> Tensor:
        return self.trunk((images - self.mean) / self.std)


def build_encoder(name: str, *, channels: int, size: int, pretrained: bool = False) -> Encoder:
    """The encoder called ``name``.

    Args:
        name: ``tiny``, a torchvision ResNet (``resnet18`` ...), or ``timm:NAME``.
        channels: input channels, 1 to N.
        size: shorter side of the images in pixels; up to 64 a ResNet gets a 3x3 stride-1 stem and no max-pooling,
            as SimCLR (Sec. B.9) and MoCo's CIFAR demo have it. ImageNet's stem would throw most of a small image away.
        pretrained: load the published supervised weights (fetched by torchvision or timm); 3 channels and 7x7 stem.

    Raises:
        UserError: unknown name (the nearest is suggested), or weights that cannot be had.
    """
    if name == "tiny":
        if pretrained:
            raise UserError(
                "the encoder 'tiny' has no published weights: drop --pretrained or name a torchvision or timm model"
            )
        return Encoder(TinyResNet(channels), dim=TinyResNet.dim, channels=channels, stem="4x4")
    if name.startswith("timm:"):
        return _timm(name.removeprefix("timm:"), channels, size, pretrained)
    if name in RESNETS:
        return _resnet(name, channels, size, pretrained)
    raise UserError(
        f"unknown encoder '{name}'{suggest(name, ('tiny', *RESNETS))} (known: tiny, {', '.join(RESNETS)}, or timm:NAME)"
    )


def published_size(name: str) -> int:
    """Side in pixels of the images that the published weights of an encoder were trained on."""
    if name.startswith("timm:"):
        import timm

        if config := timm.get_pretrained_cfg(name.removeprefix("timm:"), allow_unregistered=True):
            return config.input_size[-1]
    return 224


def _resnet(name: str, channels: int, size: int, pretrained: bool) -> Encoder:
    import torchvision

    small = size <= SMALL and not pretrained
    try:
        trunk = torchvision.models.get_model(name, weights="DEFAULT" if pretrained else None)
    except OSError as error:
        raise UserError(f"the weights of {name} could not be fetched: {error}") from error
    dim = trunk.fc.in_features
    trunk.fc = nn.Identity()
    if small:
        trunk.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(trunk.conv1.weight, mode="fan_out", nonlinearity="relu")
        trunk.maxpool = nn.Identity()
    elif channels != 3:
        if pretrained:
            raise UserError(f"{name}'s weights want 3 channels, the images have {channels}")
        trunk.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(trunk.conv1.weight, mode="fan_out", nonlinearity="relu")
    return Encoder(trunk, dim=dim, channels=channels, stem="3x3" if small else "7x7")


def _timm(name: str, channels: int, size: int, pretrained: bool) -> Encoder:
    import timm

    if not timm.is_model(name):
        raise UserError(f"timm has no model '{name}'{suggest(name, timm.list_models())}")
    options: dict[str, Any] = {"num_classes": 0, "in_chans": channels, "pretrained": pretrained}
    try:
        try:
            trunk = timm.create_model(name, img_size=size, **options)  # position embeddings follow the images' size
        except TypeError:  # a convolutional model has none
            trunk = timm.create_model(name, **options)
        with torch.no_grad():  # num_features is the width before a head's own convolution, where there is one
            features = trunk.eval()(torch.zeros(1, channels, size, size))
        trunk.train()
    except (OSError, RuntimeError, AssertionError) as error:
        raise UserError(f"timm:{name} cannot be built for {channels}x{size}x{size} images: {error}") from error
    config: Any = trunk.pretrained_cfg
    normalisation = (config["mean"], config["std"]) if pretrained else None
    return Encoder(trunk, dim=features.shape[1], channels=channels, stem="own", normalisation=normalisation)


class TinyResNet(nn.Module):
    """A ResNet for small images and two CPU cores: a 4x4 stem that halves the image, then three stages of one block.

    Halving at once costs little accuracy and leaves a quarter of the arithmetic: on a CPU, seeing more images wins.
    """

    widths = (32, 64, 128)
    dim = widths[-1]

    def __init__(self, channels: int) -> None:
        super().__init__()
        first = self.widths[0]
        self.conv1 = nn.Conv2d(channels, first, 4, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        self.blocks = nn.Sequential(
            *(
                BasicBlock(before, width, stride=1 if width == before else 2)
                for before, width in zip((first, *self.widths), self.widths, strict=False)
            )
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu_(self.bn1(self.conv1(x)))
        return self.blocks(x).mean(dim=(2, 3))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2015, Fig. 2)."""

    def __init__(self, channels: int, width: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu_(self.bn1(self.conv1(x)))
        return torch.relu_(self.bn2(self.conv2(y)) + self.shortcut(x))
