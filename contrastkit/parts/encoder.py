"""Encoders f: images -> features. torchvision's ResNets, any timm model, and ``tiny``, a small ResNet for a CPU.

An :class:`Encoder` takes plain images in [0, 1] and normalises them itself, so training, evaluation and a user who
loads it can never disagree about mean and standard deviation.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from contrastkit.colour import COLOURS, Colour, aligned
from contrastkit.errors import UserError, suggest
from contrastkit.parts.norm import group_norm, layer_norm
from contrastkit.parts.wave import WAVES, Wave

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2", "wide_resnet101_2")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SMALL = 64  # images up to this many pixels get the 3x3 stem without max-pooling


class Encoder(nn.Module):
    """Normalise, then the trunk.

    ``forward``: images [N, channels, H, W] float in [0, 1] -> features [N, dim].

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


class PatchEncoder(Encoder):
    """An encoder of the overlapping patches of an image, each by itself (CPC, Sec. 3.2).

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

    def patches(self, images: Tensor) -> Tensor:
        """Images [N, channels, H, W] -> the features of their patches [N, rows, columns, dim]."""
        return self.encode(self.cut(images))

    def cut(self, images: Tensor) -> Tensor:
        """Images [N, channels, H, W] -> patches [N, rows, columns, channels, patch, patch]; what is left over at the
        right and below is dropped.

        Raises:
            UserError: not even one patch fits.
        """
        if min(images.shape[-2:]) < self.patch:
            raise UserError(f"images of {min(images.shape[-2:])} px are smaller than a patch of {self.patch}")
        grid = images.unfold(2, self.patch, self.stride).unfold(3, self.patch, self.stride)
        return grid.permute(0, 2, 3, 1, 4, 5)

    def encode(self, patches: Tensor) -> Tensor:
        """Patches [N, rows, columns, channels, patch, patch] -> features [N, rows, columns, dim]."""
        return super().forward(patches.flatten(0, 2)).unflatten(0, patches.shape[:3])


class SplitEncoder(Encoder):
    """Views made of an image's channels, an encoder of its own for each (CMC, Sec. 3.1 and 4.1).

    ``forward``: images [N, channels, H, W] float in [0, 1], RGB or of several modalities -> the features of all views
    side by side [N, dim].

    Attributes:
        dims: number of features of each view; ``dim`` is their sum.
        views: their names.
    """

    trunk: nn.ModuleList

    def __init__(self, parts: Sequence[Encoder], space: Colour) -> None:
        """``parts``: an encoder for each view of the space; its trunk is used, the space normalises."""
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
        views = ((self.convert(images) - self.mean) / self.std).split(self.groups, dim=1)
        return torch.cat([trunk(view) for trunk, view in zip(self.trunk, views, strict=True)], dim=1)


class WaveEncoder(Encoder):
    """An encoder of sounds, frame by frame (CPC, Sec. 3.1).

    ``forward``: sounds [N, 1, 1, T] float in [-1, 1] -> features [N, dim], the mean over a sound's contexts.
    """

    trunk: Wave

    def __init__(self, name: str) -> None:
        """``name``: a key of :data:`contrastkit.parts.wave.WAVES`."""
        # A tenth is about the loudness of speech.
        trunk = Wave(**WAVES[name])
        super().__init__(trunk, dim=trunk.gru.hidden_size, channels=1, stem="strided", normalisation=((0.0,), (0.1,)))

    def forward(self, sounds: Tensor) -> Tensor:
        return self.contexts(self.frames(sounds)).mean(dim=1)

    def frames(self, sounds: Tensor) -> Tensor:
        """Sounds [N, 1, 1, T] -> frames z [N, T', hidden]."""
        return self.trunk.frames(((sounds - self.mean) / self.std)[:, :, 0])

    def contexts(self, z: Tensor) -> Tensor:
        """Frames z [N, T', hidden] -> contexts c [N, T', dim]."""
        return self.trunk.contexts(z)


def build_encoder(
    name: str,
    *,
    channels: int,
    size: int,
    pretrained: bool = False,
    norm: Literal["batch", "group", "layer"] = "batch",
    zero_init: bool = False,
    stages: int = 4,
    patch: int = 0,
    stride: int = 0,
    colour: str = "rgb",
    modalities: Sequence[int] = (),
    width: float = 1.0,
    projector_layers: int = 0,
    projector_width: int | None = None,
    vit: Mapping[str, Any] | None = None,
) -> Encoder:
    """The encoder called ``name``.

    Args:
        name: ``tiny``, a torchvision ResNet (``resnet18`` ...), or ``timm:NAME``; of sounds ``wave`` or ``wave-tiny``
            (:mod:`contrastkit.parts.wave`), for which nothing below counts.
        channels: input channels, 1 to N.
        size: shorter side of the images in pixels; up to 64 a ResNet gets a 3x3 stride-1 stem and no max-pooling,
            as SimCLR (Sec. B.9) and MoCo's CIFAR demo have it. ImageNet's stem would throw most of a small image away.
        pretrained: load the published supervised weights (fetched by torchvision or timm); 3 channels and 7x7 stem.
        norm: "group" puts group norm and weight-standardised convolutions in place of batch norm (``tiny`` and
            torchvision's; :func:`contrastkit.parts.norm.group_norm`), "layer" layer norm.
        zero_init: start every residual branch at 0, by the scale of its last norm (Goyal et al. 2017, Sec. 5.1;
            ``tiny`` and torchvision's).
        stages: of a torchvision ResNet; 3 leaves the last one out.
        patch: side of the patches of a :class:`PatchEncoder`; 0 encodes images whole. The stem is chosen by ``size``.
        stride: pixels from one patch to the next.
        colour: "lab", "lab-full" or "ycbcr" (:mod:`contrastkit.colour`) gives a :class:`SplitEncoder` of RGB images.
        modalities: channels of each modality of an aligned set, for a :class:`SplitEncoder` of them instead.
        width: of every residual stage, times the usual one, as in CMC's code (``tiny`` and ResNets; the stem of a
            ResNet keeps its 64 channels).
        projector_layers: how many layers of a projector stay behind the trunk and are part of what remains, each
            linear, batch norm and ReLU (SimCLR v2 fine-tunes from the first, Sec. 2).
        projector_width: of these layers; none is as wide as the trunk's features.
        vit: further arguments of timm's vision transformers, e.g. {"num_heads": 12}; other encoders do without.

    Raises:
        UserError: unknown name (the nearest is suggested), weights that cannot be had, a norm that they are not for, or
            a size that is no multiple of a vision transformer's patches.
    """
    if modalities or colour != "rgb":
        if not modalities and colour not in COLOURS:
            known = ("rgb", *COLOURS)
            raise UserError(f"unknown colour space '{colour}'{suggest(colour, known)} (known: {', '.join(known)})")
        if not modalities and channels != 3:
            raise UserError(f"the views of colour '{colour}' are made of RGB images, these have {channels} channel(s)")
        space = aligned(modalities) if modalities else COLOURS[colour]
        how: dict[str, Any] = {"pretrained": pretrained, "norm": norm, "zero_init": zero_init, "width": width}
        return SplitEncoder([build_encoder(name, channels=n, size=size, **how) for n in space.groups], space)
    if name in WAVES:
        if channels != 1 or pretrained:
            raise UserError(f"the encoder '{name}' is for sounds, and has no published weights")
        return WaveEncoder(name)
    if width != 1 and (pretrained or name.startswith("timm:")):
        raise UserError(f"a width is for tiny and ResNets, untrained, not for {name}: use --width 1")
    if norm != "batch" and (pretrained or name.startswith("timm:")):
        raise UserError(f"{norm} norm is for tiny and torchvision's ResNets, untrained, not for {name}: use batch norm")
    if name == "tiny":
        if pretrained:
            raise UserError(
                "the encoder 'tiny' has no published weights: drop --pretrained or name a torchvision or timm model"
            )
        tiny = TinyResNet(channels, width)
        encoder = Encoder(tiny, dim=tiny.dim, channels=channels, stem="4x4")
    elif name.startswith("timm:"):
        encoder = _timm(name.removeprefix("timm:"), channels, patch or size, pretrained, vit or {})
    elif name in RESNETS:
        encoder = _resnet(name, channels, size, pretrained, width)
    else:
        raise UserError(
            f"unknown encoder '{name}'{suggest(name, ('tiny', *RESNETS))} "
            f"(known: tiny, {', '.join(RESNETS)}, or timm:NAME)"
        )
    if norm == "group":
        group_norm(encoder.trunk)
    if norm == "layer":
        layer_norm(encoder.trunk)
    if stages == 3 and name in RESNETS:
        encoder.trunk.layer4, encoder.dim = nn.Identity(), encoder.dim // 2
    if zero_init and encoder.stem != "own":
        blocks: list[Any] = [module for module in encoder.trunk.modules() if hasattr(module, "conv2")]
        for block in blocks:
            nn.init.zeros_((block.bn3 if hasattr(block, "bn3") else block.bn2).weight)
    for _ in range(projector_layers):
        features = projector_width or encoder.dim
        layer = nn.Linear(encoder.dim, features, bias=False), nn.BatchNorm1d(features), nn.ReLU(inplace=True)
        encoder.trunk, encoder.dim = nn.Sequential(encoder.trunk, *layer), features
    return PatchEncoder(encoder, patch=patch, stride=stride) if patch else encoder


def published_size(name: str) -> int:
    """Side in pixels of the images that the published weights of an encoder were trained on."""
    if name.startswith("timm:"):
        import timm

        if config := timm.get_pretrained_cfg(name.removeprefix("timm:"), allow_unregistered=True):
            return config.input_size[-1]
    return 224


def _resnet(name: str, channels: int, size: int, pretrained: bool, width: float) -> Encoder:
    import torchvision

    small = size <= SMALL and not pretrained
    if width == 1:
        try:
            trunk = torchvision.models.get_model(name, weights="DEFAULT" if pretrained else None)
        except OSError as error:
            raise UserError(f"the weights of {name} could not be fetched: {error}") from error
        dim = trunk.fc.in_features
        trunk.fc = nn.Identity()
    else:  # timm's are the same nets, of any width
        import timm

        stages = [round(width * usual) for usual in (64, 128, 256, 512)]
        trunk = timm.create_model(name, channels=stages, num_classes=0, zero_init_last=False)
        dim = trunk.num_features
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


def check_patches(trunk: nn.Module, size: int) -> None:
    """That a vision transformer's patches tile images of ``size`` pixels: timm would leave the rest out.

    Raises:
        UserError: they do not.
    """
    if (embed := getattr(trunk, "patch_embed", None)) is None:
        return
    from timm.layers import PatchEmbed

    if isinstance(embed, PatchEmbed) and any(size % side for side in embed.patch_size):
        side = max(embed.patch_size)
        raise UserError(
            f"a view of {size} pixels does not divide into this transformer's patches of {side}: --size must be a "
            f"multiple of {side}"
        )


def _timm(name: str, channels: int, size: int, pretrained: bool, vit: Mapping[str, Any]) -> Encoder:
    import timm

    if not timm.is_model(name):
        raise UserError(f"timm has no model '{name}'{suggest(name, timm.list_models())}")
    options: dict[str, Any] = {"num_classes": 0, "in_chans": channels, "pretrained": pretrained}
    try:
        try:
            trunk = timm.create_model(name, img_size=size, **vit, **options)  # position embeddings follow the size
        except TypeError:  # a convolutional model has none
            trunk = timm.create_model(name, **options)
        check_patches(trunk, size)
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

    def __init__(self, channels: int, width: float = 1.0) -> None:
        super().__init__()
        widths = [round(width * usual) for usual in self.widths]
        first, self.dim = widths[0], widths[-1]
        self.conv1 = nn.Conv2d(channels, first, 4, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        self.blocks = nn.Sequential(
            *(
                BasicBlock(before, width, stride=1 if width == before else 2)
                for before, width in zip((first, *widths), widths, strict=False)
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
