"""A text tower that computes with the matrices of a vision transformer (MS-CLIP: You et al. 2022, arXiv:2207.12661,
Sec. 3)."""

from typing import Any, Literal

import torch
from torch import nn

from contrastkit.errors import UserError
from contrastkit.parts.text import Block, TextTower

Share = Literal["all", "attention", "none"]

# The matrices of a block of texts, and their places in one of timm's.
ATTENTION = {"qkv": "attn.qkv", "out": "attn.proj"}
MATRICES = ATTENTION | {"hidden": "mlp.fc1", "mlp_out": "mlp.fc2"}
SHARED: dict[Share, dict[str, str]] = {"all": MATRICES, "attention": ATTENTION, "none": {}}


def share_(texts: TextTower, trunk: Any, share: Share) -> None:
    """Let the last blocks of a text tower compute with the matrices and biases of a vision transformer's, in place.

    Norms, embeddings and projections stay each tower's own. What is shared is the image tower's in every state, where
    it is moved, saved and loaded once: of the text tower it is no submodule.

    Args:
        trunk: of as many blocks as the text tower, or of fewer, and as wide (:func:`require_blocks`).
        share: the attention and the perceptron of a block, the attention alone, or nothing.
    """
    first = len(texts.blocks) - len(trunk.blocks)
    for block, lender in zip(list(texts.blocks)[first:], trunk.blocks, strict=True):
        for name, place in SHARED[share].items():
            delattr(block, name)
            vars(block)[name] = lender.get_submodule(place)


def require_blocks(trunk: Any) -> None:
    """Check that an encoder's trunk is a vision transformer whose blocks have the matrices of the text tower's.

    Raises:
        UserError: it is not; the message says what is.
    """
    from timm.models import VisionTransformer  # slow to import

    if not isinstance(trunk, VisionTransformer) or not all(_is_plain(block, trunk.embed_dim) for block in trunk.blocks):
        raise UserError(
            "ms-clip shares the blocks of a plain vision transformer, which this encoder is not: use one like "
            "timm:vit_base_patch32_clip_224, or the small one of --recipe tiny"
        )


def _is_plain(block: Any, width: int) -> bool:
    """Whether attention and perceptron of a block are the matrices and biases of a text block, and nothing else."""
    with torch.device("meta"):
        own = Block(width, 1, 1, "gelu")
    expected = {
        f"{place}.{kind}": p.shape
        for name, place in MATRICES.items()
        for kind, p in own.get_submodule(name).named_parameters()
    }
    return expected == {name: p.shape for name, p in block.named_parameters() if name.startswith(("attn.", "mlp."))}


def parameters(images: nn.Module, texts: TextTower) -> tuple[int, int, int]:
    """How many parameters two towers have: the image tower alone, the text tower alone, and both."""
    used = {id(p) for block in texts.blocks for name in MATRICES for p in getattr(block, name).parameters()}
    shared = sum(p.numel() for p in images.parameters() if id(p) in used)
    of_images, of_texts = (sum(p.numel() for p in tower.parameters()) for tower in (images, texts))
    return of_images - shared, of_texts, shared
