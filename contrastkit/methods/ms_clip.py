r"""MS-CLIP: modality-shared CLIP (You et al. 2022, arXiv:2207.12661).

.. math::
    L = -\frac{1}{2N} \sum_i \log \frac{\exp(t\, x_i \cdot y_i)}{\sum_j \exp(t\, x_i \cdot y_j)}
        + \log \frac{\exp(t\, x_i \cdot y_i)}{\sum_j \exp(t\, x_j \cdot y_i)}
    \qquad x_i = W_x f_{\theta, \phi}(\text{image}_i) \quad y_i = W_y f_{\theta, \psi}(\text{text}_i)

CLIP (:mod:`contrastkit.methods.clip`), whose two towers are one transformer: of each block, attention and perceptron
(theta) serve patches and words alike; embeddings, norms and projections (phi and psi, W) are each modality's own, as
the paper found best (Sec. 3). Images attend to all patches and are pooled at a class token, texts attend to what
precedes and are pooled at their end. ``--share attention`` leaves the perceptrons apart; ``--share none`` is CLIP with
a text tower of the image tower's shape.

``--early-specialisation`` replaces the first block of images by a residual convolutional stem, while texts keep a block
of their own there (Sec. 3): of MS-CLIP-S, the half without its parallel branch of convolutions, which is left out.

Where we depart from the official code (Hxyou/MSCLIP, which evaluates only): what CLIP does here; the temperature begins
at CLIP's 0.07 instead of at 1/e; weights start as CLIP's, all blocks as those of its text transformer, instead of at a
deviation of 0.02; norms have torch's epsilon.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

from contrastkit.augment import VIEWS
from contrastkit.bounds import COUNT_OR_0
from contrastkit.errors import UserError
from contrastkit.methods.base import Recipe
from contrastkit.methods.clip import CaptionRecipe
from contrastkit.methods.context import BuildContext
from contrastkit.methods.small import small
from contrastkit.parts.encoder import Encoder
from contrastkit.parts.shared import Share, require_blocks, share_
from contrastkit.parts.text import Activation, TextTower
from contrastkit.parts.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class MSCLIPRecipe(CaptionRecipe):
    """MS-CLIP's hyper-parameters."""

    takes_module: ClassVar[bool] = False

    share: Annotated[Share, "what images and texts share of each block; all is attention and perceptron (Sec. 3)"] = (
        "all"
    )
    early_specialisation: Annotated[
        bool, "a residual stem instead of the first block of images, a block of its own for texts (Sec. 3)"
    ] = False
    activation: Annotated[Activation, "of both towers: gelu, or quickgelu (clip_openai_pe_res_v1.py)"] = "gelu"
    patch_size: Annotated[int, "side of the patches in pixels; 0 keeps timm's", COUNT_OR_0] = 0
    width: Annotated[int, "dimensions of the tokens of images and texts; 0 keeps timm's", COUNT_OR_0] = 0
    depth: Annotated[int, "blocks; 0 keeps timm's", COUNT_OR_0] = 0
    heads: Annotated[int, "attention heads; 0 keeps timm's", COUNT_OR_0] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.heads and self.width % self.heads:
            raise UserError(f"--width {self.width} must be a multiple of --heads {self.heads}")

    def prepare(self, context: BuildContext) -> BuildContext:
        """See there.

        Raises:
            UserError: weights of a whole CLIP, whose text tower shares nothing.
        """
        if context.weights is not None and context.weights.tokenizer is not None:
            raise UserError(f"{context.weights.source} has a text tower of its own, which ms-clip has not: use clip")
        return super().prepare(context)

    def encoder_options(self, context: BuildContext) -> dict[str, Any]:
        numbers = {
            "patch_size": self.patch_size, "embed_dim": self.width, "depth": self.depth, "num_heads": self.heads
        }  # fmt: skip
        vit: dict[str, Any] = {name: number for name, number in numbers.items() if number}
        if self.activation == "quickgelu":
            vit["act_layer"] = "quick_gelu"
        if self.early_specialisation:
            vit["residual_stem"] = True
        return super().encoder_options(context) | {"vit": vit}

    def untrained_encoder(self, context: BuildContext) -> Encoder:
        from contrastkit.parts.vit import clip_start_  # slow to import

        encoder = super().untrained_encoder(context)
        trunk: Any = encoder.trunk
        require_blocks(trunk)
        clip_start_(trunk)
        return encoder

    def build_texts(self, encoder: Encoder, tokenizer: Tokenizer) -> TextTower:
        trunk: Any = encoder.trunk
        texts = TextTower(
            vocabulary=tokenizer.size,
            context=self.context,
            end=tokenizer.end,
            width=trunk.embed_dim,
            layers=len(trunk.blocks) + self.early_specialisation,
            heads=trunk.blocks[0].attn.num_heads,
            dim=self.dim,
            activation=self.activation,
        )
        share_(texts, trunk, self.share)
        return texts


# Batch and epochs of the paper; rate and decay of Hxyou/MSCLIP, b32-yfcc-msclips.yaml (LR_SHARE, WD_SHARE); warm-up,
# first and final rate of its b32.yaml, some of whose other numbers are a linear probe's.
YFCC = MSCLIPRecipe(
    encoder="timm:vit_base_patch32_clip_224",
    epochs=32,
    batch=4096,
    lr=1e-4,
    weight_decay=0.2,
    warmup_epochs=5.0,
    first_lr=1e-6,
    final_lr=1e-5,
    activation="quickgelu",
    views=VIEWS["clip"],
)

# No published code trains MS-CLIP on small images: a transformer of ViT-Tiny's size, patches of 4.
SMALL_IMAGES = replace(
    YFCC,
    epochs=30,
    batch=256,
    lr=1e-3,
    weight_decay=0.1,
    warmup_epochs=1.0,
    first_lr=0.0,
    final_lr=0.0,
    activation="gelu",
    dim=256,
    vocabulary=8192,
    patch_size=4,
    width=192,
    depth=12,
    heads=3,
    views=VIEWS["clip-32"],
)

# For two CPU cores.
TINY = replace(
    SMALL_IMAGES,
    epochs=24,
    batch=128,
    warmup_epochs=2.0,
    dim=128,
    vocabulary=4096,
    width=128,
    depth=6,
    heads=4,
    views=tuple(replace(view, size=24) for view in VIEWS["clip-32"]),
)

RECIPES: dict[str, Recipe] = {
    "ms-clip/yfcc": YFCC,
    "ms-clip/32": SMALL_IMAGES,
    "ms-clip/small": small(TINY, encoder=TINY.encoder, patch_size=8, width=192, depth=12),
    "ms-clip/tiny": TINY,
}
