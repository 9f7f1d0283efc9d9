r"""MAE: Masked Autoencoders Are Scalable Vision Learners (He et al. 2021, arXiv:2111.06377).

.. math::
    L = \frac{1}{|M|} \sum_{i \in M} \frac{1}{P} \lVert g(f(x_V))_i - \bar x_i \rVert^2 \qquad
    \bar x_i = \frac{x_i - \mathrm{mean}(x_i)}{\sqrt{\mathrm{var}(x_i) + 10^{-6}}}

An image is a grid of patches x_i of P numbers. A random quarter V of them goes through the encoder f, a vision
transformer, which never sees the others; a light decoder g puts mask tokens in their places and predicts the pixels of
the masked patches M. There is no second view, no negative and no target network: what the decoder can guess from a
quarter of an image has to be in the encoder's tokens. Targets are normalised patch by patch, with the unbiased variance
(Sec. 3; models_mae.py), of the image as the encoder normalises it.

The features of a run are the encoder's class token for the whole image, as in the official linear probe, or with
``--pool avg`` the mean of its patch tokens. The class token has no part in the loss, so nearest neighbours of these
features are poor; fine-tuning is what the paper measures.

Where we depart from the official code: which patches are hidden is a function of seed, step and image, and warm-up
begins at 0 and rises at every step; arithmetic is bfloat16 where the device supports it.
"""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, final

import torch
from torch import Tensor

from contrastkit import rng
from contrastkit.augment import VIEWS
from contrastkit.bounds import BELOW_1, COUNT, COUNT_OR_0, LAYERS, Interval
from contrastkit.errors import UserError
from contrastkit.methods.base import BuildContext, Method, Recipe
from contrastkit.methods.small import small
from contrastkit.optim import ParamGroup, decay_groups
from contrastkit.parts.encoder import Encoder
from contrastkit.parts.patches import assembled, moments, patches, put, taken
from contrastkit.types import Batch, Step

if TYPE_CHECKING:
    from contrastkit.parts.masked import MaskedAutoencoder


@dataclass(frozen=True, kw_only=True)
class MAERecipe(Recipe):
    """MAE's hyper-parameters."""

    n_views: ClassVar[tuple[int, int | None]] = (1, 1)

    mask_ratio: Annotated[
        float, "share of the patches that is hidden (Sec. 4.1; --mask_ratio)", Interval(0, 1, above=True, below=True)
    ] = 0.75
    norm_pix: Annotated[bool, "predict each patch minus its mean, over its deviation (--norm_pix_loss)"] = True
    decoder_width: Annotated[int, "dimensions of the decoder's tokens (Sec. 4.1, Table 1b)", COUNT] = 512
    decoder_depth: Annotated[int, "blocks of the decoder (Sec. 4.1, Table 1a)", LAYERS] = 8
    decoder_heads: Annotated[int, "attention heads of the decoder (models_mae.py)", COUNT] = 16
    patch_size: Annotated[int, "side of the encoder's patches in pixels; 0 keeps timm's", COUNT_OR_0] = 0
    width: Annotated[int, "dimensions of the encoder's tokens; 0 keeps timm's", COUNT_OR_0] = 0
    depth: Annotated[int, "blocks of the encoder; 0 keeps timm's", COUNT_OR_0] = 0
    heads: Annotated[int, "attention heads of the encoder; 0 keeps timm's", COUNT_OR_0] = 0
    pool: Annotated[
        Literal["token", "avg"], "the encoder's features: its class token, or the mean of its patch tokens"
    ] = "token"
    beta2: Annotated[float, "AdamW: decay of the mean square of the gradient (App. A.1)", BELOW_1] = 0.95

    @property
    def betas(self) -> tuple[float, float]:
        return 0.9, self.beta2

    def encoder_options(self, context: BuildContext) -> dict[str, Any]:
        numbers = {
            "patch_size": self.patch_size, "embed_dim": self.width, "depth": self.depth, "num_heads": self.heads
        }  # fmt: skip
        vit: dict[str, Any] = {name: number for name, number in numbers.items() if number}
        if self.pool == "avg":
            vit |= {"global_pool": "avg", "fc_norm": False}  # the norm stays in front of the mean
        return super().encoder_options(context) | {"vit": vit}

    def untrained_encoder(self, context: BuildContext) -> Encoder:
        from contrastkit.parts.masked import mae_start_, require_transformer

        encoder = super().untrained_encoder(context)
        require_transformer(encoder)
        trunk: Any = encoder.trunk
        if context.encoder is None:
            mae_start_(trunk)
        elif (built_for := trunk.patch_embed.img_size[0]) != self.views[0].size:
            raise UserError(f"the transformer is built for images of {built_for} px: choose --size {built_for}")
        return encoder

    def build(self, context: BuildContext) -> "MAE":
        if self.decoder_width % 4 or self.decoder_width % self.decoder_heads:
            raise UserError(
                f"--decoder-width must be a multiple of 4, for its positions, and of --decoder-heads "
                f"{self.decoder_heads}, not {self.decoder_width}"
            )
        return MAE(self, context)

    def visible(self, patches: int) -> int:
        """How many of an image's patches the encoder sees.

        Raises:
            UserError: all or none.
        """
        seen = math.floor(patches * (1 - self.mask_ratio) + 1e-6)
        if not 0 < seen < patches:
            missing = "masked" if seen else "visible"
            raise UserError(
                f"--mask-ratio {self.mask_ratio:g} leaves none of a view's {patches} patches {missing}: change it, or "
                "lower --patch-size"
            )
        return seen


@final
class MAE(Method[None]):
    """Prediction of masked patches; see the module docstring."""

    online: "MaskedAutoencoder"

    def __init__(self, recipe: MAERecipe, context: BuildContext) -> None:
        from contrastkit.parts.masked import MaskedAutoencoder

        super().__init__()
        self.recipe, self.seed = recipe, context.seed
        self.online = MaskedAutoencoder(
            recipe.build_encoder(context),
            width=recipe.decoder_width,
            depth=recipe.decoder_depth,
            heads=recipe.decoder_heads,
        )
        self.patches = self.online.decoder.positions.shape[1] - 1
        self.visible = recipe.visible(self.patches)

    def forward(self, batch: Batch, progress: float) -> Step[None]:
        (x,) = batch.views
        shown, hidden = self.mask(batch.index, progress)
        predicted = self.online(x, shown, hidden).float()
        return Step(loss=(predicted - self.targets(x, hidden)).square().mean(), memory=None, logs={})

    def mask(self, index: Tensor, progress: float) -> tuple[Tensor, Tensor]:
        """The patches of each image that are shown and hidden at a step, int64 [n, L'] and [n, L - L'] (Sec. 3).

        Args:
            index: int64 [n], positions in the data set.
        """
        draws = rng.uniform(self.seed, rng.at_step(progress), index, rng.MASKS, self.patches)
        order = draws.argsort(dim=1, stable=True)
        return order[:, : self.visible], order[:, self.visible :]

    def targets(self, images: Tensor, hidden: Tensor) -> Tensor:
        """What is predicted of images [n, C, H, W]: their patches ``hidden``, float32 [n, L - L', P]."""
        own = taken(self.pixels(images), hidden)
        if self.recipe.norm_pix:
            mean, deviation = moments(own)
            own = (own - mean) / deviation
        return own

    def pixels(self, images: Tensor) -> Tensor:
        """The patches of images as the encoder normalises them, float32 [n, L, P]."""
        return patches(self.online.encoder.normalise(images).float(), self.online.patch)

    @torch.no_grad()
    def reconstruct(self, images: Tensor, index: Tensor, progress: float) -> tuple[Tensor, Tensor]:
        """Images [n, C, H, W] in [0, 1] under the mask of a step: the hidden patches in the mean colour, and predicted.

        Normalised predictions get mean and deviation of the patch that they stand for.
        """
        shown, hidden = self.mask(index, progress)
        every, predicted = self.pixels(images), self.online(images, shown, hidden).float()
        if self.recipe.norm_pix:
            mean, deviation = moments(taken(every, hidden))
            predicted = mean + deviation * predicted
        encoder, columns = self.online.encoder, images.shape[3] // self.online.patch
        masked, filled = (
            assembled(put(every, hidden, values), self.online.patch, columns) * encoder.std + encoder.mean
            for values in (torch.zeros_like(predicted), predicted)
        )
        return masked.clamp(0, 1), filled.clamp(0, 1)

    @property
    def can_collapse(self) -> bool:
        """No: the loss compares pixels. The features of all images share a direction."""
        return False

    def param_groups(self) -> list[ParamGroup]:
        """Biases and norms are not decayed (main_pretrain.py); positions are not trained."""
        return decay_groups(self.parameters())


# PRETRAIN.md (--norm_pix_loss, 800 epochs) for ViT-B: AdamW of rate 1.5e-4 x 4096 / 256.
IMAGENET = MAERecipe(
    encoder="timm:vit_base_patch16_224",
    epochs=800,
    batch=4096,
    optimizer="adamw",
    lr=2.4e-3,
    weight_decay=0.05,
    warmup_epochs=40.0,
    views=VIEWS["mae"],
)
# Nobody's numbers as a whole: patches of 4, like a user who fine-tuned to 95.5 % after 800 epochs (enyac-group/supmae,
# issue 1), and the decoder of IcarusWizard/MAE, as wide as the encoder and a third as deep.
CIFAR = replace(
    IMAGENET,
    encoder="timm:vit_tiny_patch16_224",
    batch=512,
    lr=3e-4,
    patch_size=4,
    decoder_width=192,
    decoder_depth=4,
    decoder_heads=3,
    views=VIEWS["mae-32"],
)

# For two CPU cores.
TINY = replace(
    CIFAR,
    epochs=24,
    batch=128,
    lr=2e-3,
    warmup_epochs=2.0,
    width=96,
    depth=4,
    decoder_width=64,
    decoder_depth=2,
    decoder_heads=4,
    views=tuple(replace(view, size=24) for view in VIEWS["mae-32"]),
)
DIGITS = replace(TINY, epochs=30, views=VIEWS["digits"][:1])

RECIPES: dict[str, Recipe] = {
    "mae/imagenet": IMAGENET,
    "mae/32": CIFAR,
    "mae/small": small(TINY, encoder=TINY.encoder, patch_size=8, width=192, depth=12),
    "mae/tiny": TINY,
    "mae/digits": DIGITS,
}
