r"""SimSiam: Exploring Simple Siamese Representation Learning (Chen & He 2020, arXiv:2011.10566).

.. math::
    L = \tfrac{1}{2} D(p_1, \mathrm{stopgrad}(z_2)) + \tfrac{1}{2} D(p_2, \mathrm{stopgrad}(z_1)) \qquad
    D(p, z) = -\frac{p}{\|p\|_2} \cdot \frac{z}{\|z\|_2} \qquad p = h(z), \; z = f(x)

BYOL without the average: one tower f encodes each view as z, and a predictor h on one side has to match the z of the
other, which gets no gradient. No negatives, no queue, no target; the stop-gradient prevents collapse (Sec. 4.1), and
switches of the recipe remove it and the other parts one by one (Tables 1 and 3, Sec. 4).

Where we depart from the official code: the projector's last layer has no bias (theirs is untrained and cancelled by the
batch norm after it), and without batch norm the hidden layers get a bias.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal, final

from torch import nn

from contrastkit import losses
from contrastkit.augment import VIEWS
from contrastkit.bounds import COUNT, LAYERS
from contrastkit.methods.base import Method, Recipe
from contrastkit.methods.context import BuildContext
from contrastkit.methods.small import small
from contrastkit.optim import ParamGroup
from contrastkit.parts.heads import Norm, Tower, mlp
from contrastkit.parts.norm import sync_batch_norm
from contrastkit.types import Batch, Step


@dataclass(frozen=True, kw_only=True)
class SimSiamRecipe(Recipe):
    """SimSiam's hyper-parameters, and the switches of its Section 4."""

    n_views: ClassVar[tuple[int, int | None]] = (2, 2)

    layers: Annotated[int, "linear layers of the projector (Sec. 3: 3; App. D: 2 for CIFAR-10)", LAYERS] = 3
    hidden: Annotated[int, "width of the projector's hidden layers (Sec. 3)", COUNT] = 2048
    dim: Annotated[int, "dimensions of a projection (Sec. 3)", COUNT] = 2048
    bottleneck: Annotated[int, "width of the predictor's hidden layer (Sec. 3)", COUNT] = 512
    stop_gradient: Annotated[
        bool, "stop the gradient on the predicted side (Sec. 4.1); without it, the outputs collapse"
    ] = True
    predictor: Annotated[
        Literal["trained", "random", "none"], "predictor: trained, frozen as initialised, or none (Table 1)"
    ] = "trained"
    fix_pred_lr: Annotated[bool, "keep the predictor's learning rate constant (Table 1, last row)"] = True
    batch_norm: Annotated[
        Literal["default", "hidden", "all", "none"],
        "batch norm of the heads: hidden layers and the projector's output; hidden layers only; all, including the "
        "predictor's output; none (Table 3)",
    ] = "default"
    symmetric: Annotated[bool, "predict each view from the other, not only the second from the first (Sec. 4.6)"] = True
    zero_init: Annotated[bool, "start every residual branch of a ResNet at zero (builder.py)"] = False

    def build(self, context: BuildContext) -> "SimSiam":
        if self.batch_norm != "none":
            self.require_two_images("batch norm")
        return SimSiam(self, context)

    def encoder_options(self, context: BuildContext) -> dict[str, Any]:
        return super().encoder_options(context) | {"zero_init": self.zero_init}


@final
class SimSiam(Method[None]):
    """Prediction of the other view, with a stop-gradient; see the module docstring."""

    def __init__(self, recipe: SimSiamRecipe, context: BuildContext) -> None:
        super().__init__()
        self.recipe = recipe
        encoder, dim = recipe.build_encoder(context), recipe.dim
        hidden = [recipe.hidden] * (recipe.layers - 1)
        norm: Norm = "none" if recipe.batch_norm == "none" else "batch"
        bias = norm == "none"
        z_norm: Literal["plain", "none"] = "plain" if recipe.batch_norm in ("default", "all") else "none"
        last_bias = z_norm == "none"
        projector = mlp(encoder.dim, *hidden, dim, norm=norm, bias=bias, last_norm=z_norm, last_bias=last_bias)
        self.online = Tower(encoder, projector)
        self.predictor: nn.Module = nn.Identity()
        if recipe.predictor != "none":
            p_norm: Literal["plain", "none"] = "plain" if recipe.batch_norm == "all" else "none"
            self.predictor = mlp(dim, recipe.bottleneck, dim, norm=norm, bias=bias, last_norm=p_norm)
            self.predictor.requires_grad_(recipe.predictor == "trained")
        sync_batch_norm(self, context.world)

    def forward(self, batch: Batch, progress: float) -> Step[None]:
        x1, x2 = batch.views  # separately: each view has its own batch statistics
        z1, z2 = self.online(x1), self.online(x2)  # [n, C]
        t1, t2 = (z1.detach(), z2.detach()) if self.recipe.stop_gradient else (z1, z2)
        loss = losses.negative_cosine(self.predictor(z1), t2).mean()
        if self.recipe.symmetric:
            loss = (loss + losses.negative_cosine(self.predictor(z2), t1).mean()) / 2
        return Step(loss=loss, memory=None, logs={})

    def param_groups(self) -> list[ParamGroup]:
        fixed = self.recipe.lr if self.recipe.fix_pred_lr else None
        return [
            ParamGroup(params=list(self.online.parameters())),
            ParamGroup(params=[p for p in self.predictor.parameters() if p.requires_grad], fixed_lr=fixed),
        ]


# Main_simsiam.py's defaults, and --fix-pred-lr as in its README: 0.05 for a batch of 256 (Sec. 3, Baseline settings).
V1 = SimSiamRecipe(
    encoder="resnet50",
    epochs=100,
    batch=512,
    lr=0.1,
    weight_decay=1e-4,
    lr_per_epoch=True,
    zero_init=True,
    views=VIEWS["moco-v2"],
)

# App. D: 0.03 for a batch of 256, two projector layers, no blur. Crops as in the ImageNet recipe.
CIFAR = replace(
    V1,
    encoder="resnet18",
    epochs=800,
    lr=0.06,
    weight_decay=5e-4,
    layers=2,
    fix_pred_lr=False,
    zero_init=False,
    views=tuple(replace(view, crop_min=0.2) for view in VIEWS["moco-cifar"]),
)

# For two CPU cores. Measured in four epochs of 10,000 CIFAR-10 images: a rate of 0.15 learns more than 0.06.
TINY = replace(
    CIFAR,
    encoder="tiny",
    epochs=24,
    batch=128,
    lr=0.15,
    lr_per_epoch=False,
    hidden=512,
    dim=512,
    bottleneck=128,
    views=tuple(replace(view, size=24) for view in CIFAR.views),
)
DIGITS = replace(TINY, epochs=16, batch=48, lr=0.1, views=VIEWS["digits-strong"])  # see BYOL's

RECIPES: dict[str, Recipe] = {
    "simsiam/imagenet": V1,
    "simsiam/32": CIFAR,
    "simsiam/small": small(TINY),
    "simsiam/tiny": TINY,
    "simsiam/digits": DIGITS,
}
