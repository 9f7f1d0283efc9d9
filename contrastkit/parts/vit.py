"""MoCo v3's, DINO's, MAE's and MS-CLIP's changes to timm's vision transformers."""

import math
from typing import Any

import torch
from timm.layers import DropPath, PatchEmbed
from timm.models import VisionTransformer
from torch import Tensor, nn

from contrastkit.errors import UserError
from contrastkit.parts.text import start_


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


@torch.no_grad()
def clip_start_(vit: VisionTransformer) -> None:
    """Initialise as CLIP's transformers, in place: class token and positions N(0, 1 / width) as model.py's
    ``VisionTransformer``, blocks as its text transformer."""
    for token in (vit.cls_token, vit.pos_embed):
        if token is not None:
            nn.init.normal_(token, std=vit.embed_dim**-0.5)
    blocks: Any = vit.blocks
    for block in blocks:
        start_(block.attn.qkv, block.attn.proj, block.mlp.fc1, block.mlp.fc2, len(vit.blocks))


def _xavier_(layer: nn.Linear | nn.Conv2d, fan_in: int, fan_out: int) -> None:
    bound = math.sqrt(6 / (fan_in + fan_out))
    nn.init.uniform_(layer.weight, -bound, bound)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def drop_paths(module: nn.Module) -> list[DropPath]:
    """The modules that drop residual branches at random (stochastic depth: Huang et al. 2016)."""
    return [child for child in module.modules() if isinstance(child, DropPath)]


class ResidualStem(nn.Sequential):
    """Images [N, channels, H, W] -> the tokens of patches of 2^k pixels on their grid, [N, width, H / 2^k, W / 2^k].

    A convolution and k - 1 residual ones, each of which halves the side and all but the first double the channels; then
    a linear map of each place (MS-CLIP: You et al. 2022, Sec. 3; ``EarlyconvRes`` and ``ResBasicBlock_v0`` of
    clip_openai_pe_res_v1.py).
    """

    def __init__(self, channels: int, width: int, k: int) -> None:
        first = width >> (k - 1)
        super().__init__(
            nn.Conv2d(channels, first, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(),
            *(_ResidualConv(first << i, first << (i + 1)) for i in range(k - 1)),
            nn.Conv2d(width, width, 1, bias=False),
        )


class _ResidualConv(nn.Module):
    """ReLU(3x3 convolution + 1x1 convolution), each of stride 2 and with a batch norm."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(into, out, 3, stride=2, padding=1, bias=False)
        self.shortcut = nn.Conv2d(into, out, 1, stride=2, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(out), nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu_(self.norm1(self.conv(x)) + self.norm2(self.shortcut(x)))


def specialise_early_(vit: Any) -> None:
    """Replace the first block and the patch embedding by a :class:`ResidualStem`, in place (MS-CLIP's early
    specialisation).

    Raises:
        UserError: this network has no such parts, or of a size that cannot be halved.
    """
    plain = isinstance(vit, VisionTransformer) and type(vit.patch_embed) is PatchEmbed
    if not plain or len(vit.blocks) < 2:
        raise UserError(
            "a residual stem takes the place of the first of a vision transformer's blocks, of which it needs two or "
            "more: raise --depth, or choose another --encoder"
        )
    embed = vit.patch_embed
    (height, side), width = embed.patch_size, vit.embed_dim
    k = side.bit_length() - 1
    if height != side or side != 2**k or k < 1:
        raise UserError(f"a residual stem halves patches of 2, 4, 8, ... pixels, not of {side}: change --patch-size")
    if width % (least := side // 2):
        raise UserError(
            f"a residual stem on patches of {side} pixels needs a --width that is a multiple of {least}, not {width}"
        )
    embed.proj = ResidualStem(embed.proj.in_channels, width, k)
    del vit.blocks[0]
