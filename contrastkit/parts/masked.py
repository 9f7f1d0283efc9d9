"""A masked autoencoder: a vision transformer that sees some patches of an image, and a decoder that predicts the rest
(He et al. 2021, arXiv:2111.06377, Sec. 3)."""

from typing import Any

import torch
from timm.layers import LayerNorm
from timm.models import VisionTransformer
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from contrastkit.errors import UserError
from contrastkit.parts.encoder import Encoder
from contrastkit.parts.heads import Tower
from contrastkit.parts.patches import put, taken
from contrastkit.parts.vit import fix_positions_, sincos_positions


class MaskedAutoencoder(Tower):
    """An encoder and a decoder of patches; without a mask, images [N, channels, H, W] in [0, 1] -> features [N, dim].

    Only the encoder outlives training.
    """

    def __init__(self, encoder: Encoder, *, width: int, depth: int, heads: int) -> None:
        """
        Args:
            encoder: a vision transformer (:func:`require_transformer`).
            width, depth, heads: of the decoder: dimensions of a token, blocks, attention heads of each.
        """
        super().__init__(encoder, nn.Identity())
        trunk: Any = encoder.trunk
        self.patch: int = trunk.patch_embed.patch_size[0]
        self.decoder = Decoder(
            trunk.embed_dim,
            trunk.patch_embed.grid_size,
            width=width,
            depth=depth,
            heads=heads,
            out=self.patch**2 * encoder.channels,
        )

    def forward(self, images: Any, shown: Tensor | None = None, hidden: Tensor | None = None) -> Tensor:
        """With a mask, the predictions of the hidden patches.

        Args:
            shown, hidden: int64 [N, L'] and [N, L - L'], the numbers of an image's L patches, counted row by row, that
                the encoder sees and that are predicted.

        Returns:
            [N, L - L', patch^2 channels]; in the order of :func:`contrastkit.parts.patches.patches`.
        """
        if shown is None or hidden is None:
            return super().forward(images)
        return self.decoder(visible_tokens(self.encoder, images, shown), shown, hidden)


class Decoder(nn.Module):
    """A light transformer over all patches: the encoder's tokens in their places, elsewhere a mask token (Sec. 3)."""

    positions: Tensor  # [1, 1 + L, width]

    def __init__(self, dim: int, grid: tuple[int, int], *, width: int, depth: int, heads: int, out: int) -> None:
        """``dim``: of the encoder's tokens; ``grid``: rows and columns of patches; ``out``: numbers of a patch."""
        super().__init__()
        self.embed = nn.Linear(dim, width)
        self.mask_token = nn.Parameter(torch.empty(1, 1, width))
        table = sincos_positions(*grid, width, column_first=True)
        self.register_buffer("positions", torch.cat([torch.zeros(1, width), table])[None], persistent=False)
        self.blocks = nn.Sequential(*(Block(width, heads, qkv_bias=True) for _ in range(depth)))
        self.norm = LayerNorm(width)
        self.predict = nn.Linear(width, out)
        nn.init.normal_(self.mask_token, std=0.02)
        xavier_(self)

    def forward(self, tokens: Tensor, shown: Tensor, hidden: Tensor) -> Tensor:
        """Tokens [N, 1 + L', dim], the class token first -> predictions [N, L - L', out]; the class token has none."""
        first, own = self.embed(tokens).split([1, shown.shape[1]], dim=1)
        masks = self.mask_token.to(own.dtype).expand(len(own), shown.shape[1] + hidden.shape[1], -1)
        every = torch.cat([first, put(masks, shown, own)], dim=1)
        x = self.norm(self.blocks(every + self.positions))
        return self.predict(taken(x[:, 1:], hidden))


def require_transformer(encoder: Encoder) -> None:
    """Check that an encoder is a vision transformer of patches, with a class token and positions for all of them.

    Raises:
        UserError: it is not; the message says what is.
    """
    trunk: Any = encoder.trunk
    plain = (
        isinstance(trunk, VisionTransformer)
        and trunk.has_class_token
        and trunk.pos_embed is not None
        and trunk.pos_embed.shape[1] == 1 + trunk.patch_embed.num_patches
    )
    if not plain:
        raise UserError(
            "mae hides patches from a vision transformer with a class token and a position for each patch, which this "
            "encoder is not: use one like timm:vit_base_patch16_224, or the small one of --recipe tiny"
        )
    if trunk.embed_dim % 4:
        raise UserError(f"the positions need a width that is a multiple of 4, not {trunk.embed_dim}: change --width")


def visible_tokens(encoder: Encoder, images: Tensor, shown: Tensor) -> Tensor:
    """The encoder's tokens of the patches ``shown``, int64 [N, L'], alone, behind the class token: [N, 1 + L', dim]."""
    trunk: Any = encoder.trunk
    x = taken(trunk.patch_embed(encoder.normalise(images)) + trunk.pos_embed[:, 1:], shown)
    first = (trunk.cls_token + trunk.pos_embed[:, :1]).expand(len(x), -1, -1)
    return trunk.norm(trunk.blocks(trunk.norm_pre(torch.cat([first, x], dim=1))))


@torch.no_grad()
def mae_start_(vit: VisionTransformer) -> None:
    """Initialise as MAE's transformers (models_mae.py), in place: Xavier-uniform matrices, of the patch projection too,
    tokens N(0, 0.02), and fixed sine-cosine positions."""
    xavier_(vit)
    nn.init.xavier_uniform_(vit.patch_embed.proj.weight.flatten(1))  # a convolution, initialised as a linear layer
    if vit.cls_token is not None:
        nn.init.normal_(vit.cls_token, std=0.02)
    fix_positions_(vit, column_first=True)


def xavier_(module: nn.Module) -> None:
    """Draw all matrices of linear layers Xavier-uniform, query, key and value as one; biases are 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
