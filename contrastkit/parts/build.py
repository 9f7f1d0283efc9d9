"""Encoders by name: ``tiny``, the ResNets of torchvision and for CIFAR, any timm model, and encoders of sounds."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from contrastkit.bounds import COUNT, COUNT_OR_0, SAMPLES, WIDTH, Interval
from contrastkit.colour import COLOURS, Colour, aligned
from contrastkit.errors import UserError, check_choice, suggest
from contrastkit.parts.cifar import CIFAR_RESNETS, CIFARResNet
from contrastkit.parts.encoder import Encoder, PatchEncoder, SplitEncoder, WaveEncoder
from contrastkit.parts.maps import feature_maps
from contrastkit.parts.mode import evaluating
from contrastkit.parts.norm import group_norm, layer_norm
from contrastkit.parts.tiny import TinyResNet
from contrastkit.parts.wave import WAVES

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2", "wide_resnet101_2")
OURS = ("tiny", *CIFAR_RESNETS)  # without published weights
SMALL = 64  # images up to this many pixels get the 3x3 stem without max-pooling


def build_encoder(
    name: str,
    *,
    channels: Annotated[int, COUNT],
    size: Annotated[int, SAMPLES],
    pretrained: bool = False,
    norm: Literal["batch", "group", "layer"] = "batch",
    zero_init: bool = False,
    stages: Annotated[int, Interval(3, 4)] = 4,
    patch: Annotated[int, COUNT_OR_0] = 0,
    stride: Annotated[int, COUNT_OR_0] = 0,
    colour: str = "rgb",
    modalities: Sequence[int] = (),
    width: Annotated[float, WIDTH] = 1.0,
    projector_layers: Annotated[int, Interval(0, 64)] = 0,
    projector_width: Annotated[int | None, COUNT] = None,
    vit: Mapping[str, Any] | None = None,
) -> Encoder:
    """Build the encoder called ``name``.

    Args:
        name: ``tiny``, a torchvision ResNet (``resnet18`` ...), ``cifar-resnet20`` ... or ``timm:NAME``; for sounds,
            ``wave`` or ``wave-tiny`` (:mod:`contrastkit.parts.wave`), which ignore the options below.
        channels: input channels, 1 to N.
        size: shorter side of the images in pixels; up to 64, a ResNet gets a 3x3 stride-1 stem and no max-pooling,
            as in SimCLR (Sec. B.9) and MoCo's CIFAR demo. ImageNet's stem would discard most of a small image.
        pretrained: load the published weights (fetched by torchvision or timm); 3 channels and 7x7 stem.
        norm: "group" replaces batch norm by group norm and weight-standardised convolutions
            (:func:`contrastkit.parts.norm.group_norm`), "layer" by layer norm (``tiny`` and torchvision's ResNets).
        zero_init: start every residual branch at 0, by the scale of its last norm (Goyal et al. 2017, Sec. 5.1;
            all but timm's).
        stages: stages of a torchvision ResNet; 3 omits the last one.
        patch: side of the patches of a :class:`PatchEncoder`; 0 encodes whole images. ``size`` determines the stem.
        stride: pixels from one patch to the next.
        colour: "lab", "lab-full" or "ycbcr" (:mod:`contrastkit.colour`) gives a :class:`SplitEncoder` of RGB images.
        modalities: channels of each modality of an aligned set, for a :class:`SplitEncoder` of them instead.
        width: factor on the width of every residual stage, as in CMC's code (all but timm's; the stem of a torchvision
            ResNet keeps its 64 channels).
        projector_layers: projector layers kept behind the trunk (SimCLR v2, Sec. 2): linear, batch norm and ReLU each.
        projector_width: width of these layers; None is the number of the trunk's features.
        vit: arguments of timm's vision transformers, e.g. {"num_heads": 12}, and "residual_stem"; others ignore them.

    Raises:
        UserError: unknown name, unavailable weights, or an option or size that this encoder does not support.
    """
    if modalities or colour != "rgb":
        space = _channel_groups(channels, colour, modalities)
        shared: dict[str, Any] = {"pretrained": pretrained, "norm": norm, "zero_init": zero_init, "width": width}
        return SplitEncoder([build_encoder(name, channels=n, size=size, **shared) for n in space.groups], space)
    if name in WAVES:
        return _wave(name, channels, pretrained)
    _check_options(name, pretrained=pretrained, norm=norm, width=width)
    if name.startswith("timm:"):
        encoder = _timm(name.removeprefix("timm:"), channels, patch or size, pretrained, vit or {})
    else:
        encoder = _resnet(name, channels, size, pretrained, norm, zero_init, stages, width)
    for _ in range(projector_layers):
        features = projector_width or encoder.dim
        encoder.trunk, encoder.dim = ProjectedTrunk(encoder.trunk, encoder.dim, features), features
    return PatchEncoder(encoder, patch=patch, stride=stride) if patch else encoder


def _channel_groups(channels: int, colour: str, modalities: Sequence[int]) -> Colour:
    """The space in which groups of an image's channels are views: its modalities, or else a colour space.

    Raises:
        UserError: unknown colour space, or no RGB images.
    """
    if modalities:
        return aligned(modalities)
    check_choice("colour space", colour, ("rgb", *COLOURS))
    if channels != 3:
        raise UserError(f"the views of colour '{colour}' are made of RGB images, these have {channels} channel(s)")
    return COLOURS[colour]


def _check_options(name: str, *, pretrained: bool, norm: str, width: float) -> None:
    """Check that an image encoder of this name exists and supports these options.

    Raises:
        UserError: it does not.
    """
    known = (*OURS, *RESNETS)
    if name not in known and not name.startswith("timm:"):
        raise UserError(f"unknown encoder '{name}'{suggest(name, known)} (known: {', '.join(known)}, or timm:NAME)")
    if width != 1 and (pretrained or name.startswith("timm:")):
        raise UserError(f"only tiny and untrained ResNets have a width, not {name}: use --width 1")
    if norm != "batch" and (pretrained or name.startswith("timm:")):
        raise UserError(f"only tiny and untrained torchvision ResNets support {norm} norm, not {name}: use batch norm")
    if name in OURS and pretrained:
        raise UserError(
            f"the encoder '{name}' has no published weights: drop --pretrained or name a torchvision or timm model"
        )


def wrap_encoder(module: nn.Module, *, channels: int, size: int) -> Encoder:
    """Wrap any module that maps normalised images [N, channels, size, size] to features [N, D] in an :class:`Encoder`;
    an encoder is returned unchanged. The module stays on its device and in its mode.

    Raises:
        UserError: the module rejects such images, or returns something else.
    """
    if isinstance(module, Encoder):
        if module.channels != channels:
            raise UserError(f"the encoder takes {module.channels} channels, the images have {channels}")
        return module
    first = next(module.parameters(), None)
    device = torch.device("cpu") if first is None else first.device
    try:
        with evaluating(module), torch.no_grad():
            features = module(torch.zeros(2, channels, size, size, device=device))
    except (RuntimeError, ValueError, TypeError) as error:
        raise UserError(f"the encoder cannot take images [N, {channels}, {size}, {size}]: {error}") from error
    if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != 2:
        shape = list(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise UserError(f"the encoder must map two images to features [2, D], not {shape}")
    return Encoder(module, dim=features.shape[1], channels=channels, stem="own").to(device)


def _wave(name: str, channels: int, pretrained: bool) -> WaveEncoder:
    if channels != 1 or pretrained:
        raise UserError(f"the encoder '{name}' is for sounds and has no published weights")
    return WaveEncoder(name)


def _resnet(
    name: str, channels: int, size: int, pretrained: bool, norm: str, zero_init: bool, stages: int, width: float
) -> Encoder:
    """``tiny`` or another ResNet; arguments as of :func:`build_encoder`."""
    if name == "tiny":
        trunk = TinyResNet(channels, width)
        encoder = Encoder(trunk, dim=trunk.dim, channels=channels, stem="4x4")
    elif name in CIFAR_RESNETS:
        small = CIFARResNet(CIFAR_RESNETS[name], channels, width)
        encoder = Encoder(small, dim=small.dim, channels=channels, stem="3x3")
    else:
        encoder = _torchvision(name, channels, size, pretrained, width)
    if norm == "group":
        group_norm(encoder.trunk)
    elif norm == "layer":
        layer_norm(encoder.trunk)
    if stages == 3 and name in RESNETS:
        encoder.trunk.layer4, encoder.dim = nn.Identity(), encoder.dim // 2
    if zero_init:
        zero_branches_(encoder.trunk)
    return encoder


def _torchvision(name: str, channels: int, size: int, pretrained: bool, width: float) -> Encoder:
    import torchvision

    small = size <= SMALL and not pretrained
    if width == 1:
        try:
            trunk = torchvision.models.get_model(name, weights="DEFAULT" if pretrained else None)
        except OSError as error:
            raise UserError(f"the weights of {name} could not be fetched: {error}") from error
        dim = trunk.fc.in_features
        trunk.fc = nn.Identity()
    else:  # timm's ResNets are the same networks, of any width
        import timm

        stages = [round(width * full) for full in (64, 128, 256, 512)]
        trunk = timm.create_model(name, channels=stages, num_classes=0, zero_init_last=False)
        dim = trunk.num_features
    if small:
        trunk.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(trunk.conv1.weight, mode="fan_out", nonlinearity="relu")
        trunk.maxpool = nn.Identity()
    elif channels != 3:
        if pretrained:
            raise UserError(f"the weights of {name} need 3 channels, the images have {channels}: drop --pretrained")
        trunk.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(trunk.conv1.weight, mode="fan_out", nonlinearity="relu")
    return Encoder(trunk, dim=dim, channels=channels, stem="3x3" if small else "7x7")


def check_patches(trunk: nn.Module, size: int) -> None:
    """Check that a vision transformer's patches tile images of ``size`` pixels; timm would silently drop the rest.

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


def set_image_size(encoder: Encoder, size: int) -> None:
    """Prepare an encoder for images of this side: a vision transformer's learned positions are resampled (timm's
    ``set_input_size``); a convolutional encoder takes any.

    Raises:
        UserError: the patches do not tile such images, or this transformer has one size.
    """
    trunks: Any = encoder.trunk if isinstance(encoder, SplitEncoder) else [encoder.trunk]
    for trunk in trunks:
        check_patches(trunk, size)
        built_for = getattr(getattr(trunk, "patch_embed", None), "img_size", None)
        if built_for in (None, (size, size)) or getattr(trunk, "dynamic_img_size", False):
            continue
        if not hasattr(trunk, "set_input_size"):
            raise UserError(f"this transformer takes images of {built_for[0]} px only, not {size}: drop --size")
        trunk.set_input_size((size, size))


def _timm(name: str, channels: int, size: int, pretrained: bool, vit: Mapping[str, Any]) -> Encoder:
    import timm

    if not timm.is_model(name):
        raise UserError(f"timm has no model '{name}'{suggest(name, timm.list_models())}")
    options: dict[str, Any] = {"num_classes": 0, "in_chans": channels, "pretrained": pretrained}
    stem, vit = bool(vit.get("residual_stem")), {key: value for key, value in vit.items() if key != "residual_stem"}
    try:
        trunk = _timm_trunk(name, size, vit, options)
        check_patches(trunk, size)
        with torch.no_grad():  # num_features excludes a convolution that some heads have
            features = trunk.eval()(torch.zeros(1, channels, size, size))
        trunk.train()
    except (OSError, RuntimeError, AssertionError) as error:
        raise UserError(f"timm:{name} cannot be built for {channels}x{size}x{size} images: {error}") from error
    if stem:  # MS-CLIP's, instead of the first block
        from contrastkit.parts.vit import specialise_early_

        specialise_early_(trunk)
    config: Any = trunk.pretrained_cfg
    normalisation = (config["mean"], config["std"]) if pretrained else None
    return Encoder(trunk, dim=features.shape[1], channels=channels, stem="own", normalisation=normalisation)


def _timm_trunk(name: str, size: int, vit: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
    """timm's model; ``vit`` goes to those that are built for a size of images.

    Raises:
        UserError: such a model, which does not take one of ``vit``.
    """
    import timm

    try:
        return timm.create_model(name, img_size=size, **vit, **options)  # position embeddings depend on the size
    except TypeError as error:
        refused = error
    try:
        timm.create_model(name, img_size=size, **options)
    except TypeError:  # convolutional models take no img_size
        return timm.create_model(name, **options)
    raise UserError(f"timm:{name} does not take {', '.join(vit)}: {refused}; use a vision transformer") from refused


@torch.no_grad()
def zero_branches_(trunk: nn.Module) -> None:
    """Make every residual block start as its shortcut: set the scale of its last batch or group norm to 0."""
    blocks: list[Any] = [module for module in trunk.modules() if hasattr(module, "conv2")]
    for block in blocks:
        (block.bn3 if hasattr(block, "bn3") else block.bn2).weight.zero_()


class ProjectedTrunk(nn.Sequential):
    """A trunk followed by one projector layer: linear, batch norm and ReLU."""

    def __init__(self, trunk: nn.Module, dim: int, width: int) -> None:
        """``dim``: number of the trunk's features; ``width``: number of the layer's."""
        super().__init__(trunk, nn.Linear(dim, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(inplace=True))

    def maps(self, x: Tensor) -> Tensor:
        """The trunk's feature maps."""
        return feature_maps(self[0], x)
