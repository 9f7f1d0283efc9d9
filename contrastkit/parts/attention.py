"""What a vision transformer's class token attends to."""

from typing import Any

import torch
from torch import Tensor

from contrastkit.parts.encoder import Encoder, PatchEncoder


def class_attention(encoder: Encoder, images: Tensor) -> Tensor | None:
    """The attention of the class token to the patches in the last layer, by each head (Caron et al. 2021, Fig. 1).

    It is the softmax over all tokens, so what is missing to a sum of 1 goes to the class token itself and to registers.

    Args:
        images: [N, channels, H, W] float in [0, 1].

    Returns:
        [N, heads, h, w], patches row by row; None if the encoder is no transformer of timm with a class token.
    """
    trunk: Any = encoder.trunk
    trunk = trunk[0] if isinstance(trunk, torch.nn.Sequential) else trunk  # behind a projector
    attention = _last_attention(trunk)
    if attention is None or isinstance(encoder, PatchEncoder):
        return None
    found: list[Tensor] = []
    hook = attention.attn_drop.register_forward_hook(lambda module, args, output: found.append(output))
    fused, attention.fused_attn = attention.fused_attn, False  # the fused kernel does not give its weights
    try:
        trunk.forward_features(encoder.normalise(images))
    finally:
        attention.fused_attn = fused
        hook.remove()
    to_patches = found[0][:, :, 0, trunk.num_prefix_tokens :]
    return to_patches.unflatten(2, trunk.patch_embed.dynamic_feat_size(images.shape[-2:]))


def _last_attention(trunk: Any) -> Any:
    if getattr(trunk, "cls_token", None) is None or not hasattr(trunk, "blocks"):
        return None
    attention = getattr(trunk.blocks[-1], "attn", None)
    return attention if hasattr(attention, "attn_drop") and hasattr(attention, "fused_attn") else None
