"""The layers of an encoder in the order of depth, to train the last ones, or each at a rate of its own."""

from collections.abc import Callable
from typing import Any

from torch import nn

from contrastkit.errors import UserError
from contrastkit.parts.build import ProjectedTrunk
from contrastkit.parts.encoder import Encoder, SplitEncoder
from contrastkit.parts.tiny import TinyResNet

STEM, TOP = 0, -1  # what comes before the first layer, and after the last


def depths(encoder: Encoder) -> tuple[dict[str, int], int]:
    """The depth of each parameter by name: 0 for the stem, 1 to L for the layers, L + 1 for what follows them; and L.

    Layers are the stages of a convolutional encoder, the blocks of a vision transformer, and the projector layers kept
    with an encoder. A transformer is numbered as by BEiT and MAE (lr_decay.py): patch embedding, positions and class
    token are 0, the last norm is L + 1, as is a classifier.

    Raises:
        UserError: the layers of this encoder are not known.
    """
    trunks = encoder.trunk if isinstance(encoder, SplitEncoder) else [encoder.trunk]
    prefixes = [f"trunk.{i}." for i in range(len(trunks))] if isinstance(encoder, SplitEncoder) else ["trunk."]
    found, last = {}, 0
    for prefix, trunk in zip(prefixes, trunks, strict=True):
        depth, last = _of_trunk(trunk)
        for name, _ in trunk.named_parameters():
            found[prefix + name] = last + 1 if (at := depth(name)) == TOP else at
    return found, last


def layer_rates(layers: int, decay: float) -> list[float]:
    """The factors on the learning rate of depths 0 to ``layers`` + 1: decay^(layers + 1 - depth) (BEiT's
    ``layer_decay``; the classifier's is 1)."""
    return [decay ** (layers + 1 - depth) for depth in range(layers + 2)]


def _of_trunk(trunk: Any) -> tuple[Callable[[str], int], int]:
    """The depth of a trunk's parameter by its name, and the number of layers."""
    if isinstance(trunk, ProjectedTrunk):  # the trunk, then linear, batch norm, ReLU
        below, n = _of_trunk(trunk[0])
        return lambda name: (below(name[2:]) if name.startswith("0.") else TOP) % (n + 2), n + 1
    if isinstance(trunk, TinyResNet):
        return lambda name: 1 + int(name.split(".")[1]) if name.startswith("blocks.") else STEM, len(trunk.blocks)
    if hasattr(trunk, "blocks") and hasattr(trunk, "patch_embed"):
        return _of_transformer, len(trunk.blocks)
    if hasattr(trunk, "layer3"):  # a ResNet; of torchvision's and timm's with three stages, the last is empty
        layers = [getattr(trunk, f"layer{i}", nn.Identity()) for i in range(1, 5)]
        stages = sum(any(True for _ in layer.parameters()) for layer in layers)
        return lambda name: int(name[len("layer")]) if name.startswith("layer") else STEM, stages
    if hasattr(trunk, "group_matcher"):
        return _of_timm(trunk)
    raise UserError(f"the layers of {type(trunk).__name__} are not known: leave out --layers and --layer-decay")


def _of_transformer(name: str) -> int:
    if name.startswith("blocks."):
        return 1 + int(name.split(".")[1])
    tokens = ("cls_token", "reg_token", "dist_token", "pos_embed")
    return STEM if name.startswith((*tokens, "patch_embed.", "norm_pre.")) else TOP


def _of_timm(trunk: nn.Module) -> tuple[Callable[[str], int], int]:
    """By timm's own table for layer decay; what follows the last stage counts as a layer of its own."""
    from timm.models import group_parameters

    matcher: Any = trunk.group_matcher
    of: dict[str, int] = group_parameters(trunk, matcher(coarse=True), reverse=True)
    return of.__getitem__, max(of.values())
