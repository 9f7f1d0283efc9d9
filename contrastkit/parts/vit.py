"""MoCo v3's, DINO's and MAE's changes to timm's vision transformers."""

import math

import torch
from timm.layers import DropPath
from timm.models import VisionTransformer
from torch import Tensor, nn


def sincos_positions(height: int, width: int, dim: int, *, column_first: bool = False) -> Tensor:
    """Fixed position embeddings in two dimensions, patches row by row: [height * width, dim].

    A quarter of the dimensions each: sine and cosine of the row, sine and cosine of the column, at dim / 4 wavelengths
    from 2 pi up to 20000 pi (Vaswani et al. 2017, Sec. 3.5, for one dimension). ``dim`` must be a multiple of 4. So
    does MoCo v3 (Chen et al. 2021, Sec. 4.2); with ``column_first`` the column's half precedes the row's, as in MAE's
    code (util/pos_embed.py).
    """
    omega = 10000.0 ** (-torch.arange(dim // 4) / (dim // 4))
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    first, second = (columns, rows) if column_first else (rows, columns)
    one, two = first.reshape(-1, 1) * omega, second.reshape(-1, 1) * omega
    return torch.cat([one.sin(), one.cos(), two.sin(), two.cos()], dim=1)


def fix_positions_(vit: VisionTransformer, *, column_first: bool = False) -> None:
    """Replace learned positions by :func:`sincos_positions`, which are not trained, and by zeros for the class token.

    A transformer without positions is left as it is.
    """
    if vit.pos_embed is None:
        return
    grid: tuple[int, int] = vit.patch_embed.grid_size
    with torch.no_grad():
        vit.pos_embed.zero_()
        vit.pos_embed[0, -math.prod(grid) :] = sincos_positions(*grid, vit.embed_dim, column_first=column_first)
    vit.pos_embed.requires_grad_(False)


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
    fix_positions_(vit)


def _xavier_(layer: nn.Linear | nn.Conv2d, fan_in: int, fan_out: int) -> None:
    bound = math.sqrt(6 / (fan_in + fan_out))
    nn.init.uniform_(layer.weight, -bound, bound)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def drop_paths(module: nn.Module) -> list[DropPath]:
    """The modules that drop residual branches at random (stochastic depth: Huang et al. 2016)."""
    return [child for child in module.modules() if isinstance(child, DropPath)]
