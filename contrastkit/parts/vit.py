"""MoCo v3's and DINO's changes to timm's vision transformers."""

import math

import torch
from timm.layers import DropPath
from timm.models import VisionTransformer
from torch import Tensor, nn


def sincos_positions(height: int, width: int, dim: int) -> Tensor:
    """The fixed position embeddings of MoCo v3 (Chen et al. 2021, Sec. 4.2), patches row by row: [height * width, dim].

    A quarter of the dimensions each: sine and cosine of the row, sine and cosine of the column, at dim / 4 wavelengths
    from 2 pi up to 20000 pi (Vaswani et al. 2017, Sec. 3.5, for one dimension). ``dim`` must be a multiple of 4.
    """
    omega = 10000.0 ** (-torch.arange(dim // 4) / (dim // 4))
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    row, column = rows.reshape(-1, 1) * omega, columns.reshape(-1, 1) * omega
    return torch.cat([row.sin(), row.cos(), column.sin(), column.cos()], dim=1)


@torch.no_grad()
def moco_v3_start_(vit: VisionTransformer, *, stop_grad_conv1: bool) -> None:
    """Initialise as MoCo v3's transformers (the official vits.py), in place.

    Xavier-uniform matrices, with query, key and value as separate ones; fixed sine-cosine positions, zero for the class
    token; and, with ``stop_grad_conv1``, a patch embedding frozen as initialised (Sec. 4.3).
    """
    for name, module in vit.named_modules():
        if isinstance(module, nn.Linear):
            fan_out, fan_in = module.weight.shape
            _xavier_(module, fan_in, fan_out // 3 if name.endswith("qkv") else fan_out)
    if vit.cls_token is not None:
        nn.init.normal_(vit.cls_token, std=1e-6)
    patches = vit.patch_embed.proj
    _xavier_(patches, patches.weight[0].numel(), patches.weight.shape[0])
    patches.requires_grad_(not stop_grad_conv1)
    if vit.pos_embed is not None:
        grid: tuple[int, int] = vit.patch_embed.grid_size
        vit.pos_embed.zero_()
        vit.pos_embed[0, -math.prod(grid) :] = sincos_positions(grid[0], grid[1], vit.embed_dim)
        vit.pos_embed.requires_grad_(False)


def _xavier_(layer: nn.Linear | nn.Conv2d, fan_in: int, fan_out: int) -> None:
    bound = math.sqrt(6 / (fan_in + fan_out))
    nn.init.uniform_(layer.weight, -bound, bound)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def drop_paths(module: nn.Module) -> list[DropPath]:
    """The modules that drop residual branches at random (stochastic depth: Huang et al. 2016)."""
    return [child for child in module.modules() if isinstance(child, DropPath)]
