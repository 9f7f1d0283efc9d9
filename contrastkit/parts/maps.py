"""Feature maps: a trunk's features at each position of an image, before pooling."""

from typing import Any

from torch import Tensor

from contrastkit.errors import UserError


def feature_maps(trunk: Any, x: Tensor) -> Tensor:
    """Normalised images x [N, channels, H, W] -> maps [N, C, h, w], which the trunk pools to features.

    Our own trunks have a method ``maps``; torchvision's ResNets and timm's models are handled here.

    Raises:
        UserError: the trunk has no feature maps, or an unknown layout.
    """
    if hasattr(trunk, "maps"):
        return trunk.maps(x)
    if hasattr(trunk, "forward_features"):
        return _timm_maps(trunk, x)

    from torchvision.models import ResNet  # slow to import

    if isinstance(trunk, ResNet):
        x = trunk.maxpool(trunk.relu(trunk.bn1(trunk.conv1(x))))
        return trunk.layer4(trunk.layer3(trunk.layer2(trunk.layer1(x))))
    raise UserError(f"{type(trunk).__name__} has no feature maps: use tiny, a torchvision ResNet or a timm model")


def _timm_maps(trunk: Any, x: Tensor) -> Tensor:
    """The last feature maps of a timm model: convolutional maps, or a transformer's patch tokens on their grid."""
    y = trunk.forward_features(x)
    if isinstance(y, Tensor) and y.ndim == 4:
        channels_last = getattr(trunk, "output_fmt", "NCHW") == "NHWC"  # Swin's, for example
        return y.permute(0, 3, 1, 2) if channels_last else y
    embed: Any = getattr(trunk, "patch_embed", None)
    if isinstance(y, Tensor) and y.ndim == 3 and hasattr(embed, "dynamic_feat_size"):
        tokens = y[:, getattr(trunk, "num_prefix_tokens", 0) :]  # without class and register tokens
        h, w = embed.dynamic_feat_size(x.shape[-2:])
        if tokens.shape[1] == h * w:
            return tokens.transpose(1, 2).unflatten(2, (h, w))
    raise UserError(
        f"the feature maps of timm's {type(trunk).__name__} are not known: use a ResNet, a ConvNeXt or a ViT"
    )
