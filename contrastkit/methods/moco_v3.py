r"""MoCo v3: An Empirical Study of Training Self-Supervised Vision Transformers (Chen, Xie & He 2021, arXiv:2104.02057).

.. math::
    L_q = -\log \frac{\exp(q \cdot k^+ / \tau)}{\exp(q \cdot k^+ / \tau) + \sum_{k^-} \exp(q \cdot k^- / \tau)}
    \qquad L = 2\tau \, (L_{q_1} + L_{q_2}) \qquad \theta_k \leftarrow m \theta_k + (1 - m) \theta_q

Each view is query and key. The positive of the query q1 is the key k2 of the same image, and the dictionary is not a
queue but the keys k2 of the whole batch, over all processes. A predictor follows the projector of the query; keys come
from a momentum average of encoder and projector, with m rising to 1 (Sec. 3, Alg. 1).

Vision transformers train unstably with it, visible only in the accuracy, unless their patch projection stays frozen as
initialised (Sec. 4); their position embeddings are fixed sines and cosines.

Where we depart from the official code: the target is averaged after the step instead of before the next one (the same
sequence, up to one step of m's schedule), and arithmetic is bfloat16 where the device supports it. As in that code
(moco/builder.py), projector and predictor end with a batch norm without scale and shift, except the predictor of a
ResNet.
"""

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastkit import dist, ops
from contrastkit.augment import VIEWS
from contrastkit.bounds import COUNT, COUNT_OR_0, LAYERS, POSITIVE, SHARE
from contrastkit.errors import UserError
from contrastkit.methods.base import Method, Recipe
from contrastkit.methods.context import BuildContext
from contrastkit.methods.small import small
from contrastkit.optim import ParamGroup, decay_groups
from contrastkit.parts.encoder import Encoder
from contrastkit.parts.heads import Tower, mlp
from contrastkit.parts.norm import sync_batch_norm
from contrastkit.parts.target import Target, momentum
from contrastkit.types import Batch, Step

SMALLEST = 256  # the smallest batch with published results: solo-learn's on CIFAR; the paper uses 1024 and more


@dataclass(frozen=True, kw_only=True)
class MoCoV3Recipe(Recipe):
    """MoCo v3's hyper-parameters, with the paper's letters."""

    n_views: ClassVar[tuple[int, int | None]] = (2, 2)

    tau: Annotated[float, "temperature: 1 for ResNets, 0.2 for ViTs (CONFIG.md)", POSITIVE]
    m: Annotated[float, "initial momentum of the key encoder (--moco-m)", SHARE] = 0.99
    m_cos: Annotated[bool, "raise m to 1 along a cosine, at every step (--moco-m-cos)"] = True
    dim: Annotated[int, "dimensions of a key (--moco-dim)", COUNT] = 256
    hidden: Annotated[int, "width of the hidden layers of projector and predictor (--moco-mlp-dim)", COUNT] = 4096
    layers: Annotated[int, "linear layers of the projector: 2 for ResNets, 3 for ViTs (moco/builder.py)", LAYERS] = 2
    predictor_norm: Annotated[bool, "end the predictor with a batch norm: for ViTs only (moco/builder.py)"] = False
    zero_init: Annotated[bool, "start every residual branch of a ResNet at zero (main_moco.py)"] = False
    heads: Annotated[
        int, "attention heads of a ViT; 0 keeps timm's number, 6 for ViT-S where vits.py has 12", COUNT_OR_0
    ] = 0
    stop_grad_conv1: Annotated[bool, "freeze a ViT's patch projection as initialised (Sec. 4.3)"] = True

    def build(self, context: BuildContext) -> "MoCoV3":
        if self.batch < 2:
            raise UserError(f"--batch must be at least 2, not {self.batch}: the negatives are the batch's other images")
        return MoCoV3(self, context)

    def encoder_options(self, context: BuildContext) -> dict[str, Any]:
        vit = {"num_heads": self.heads} if self.heads else {}
        return super().encoder_options(context) | {"zero_init": self.zero_init, "vit": vit}

    def untrained_encoder(self, context: BuildContext) -> Encoder:
        encoder = super().untrained_encoder(context)
        if self.encoder.startswith("timm:"):
            from contrastkit.parts.vit import VisionTransformer, moco_v3_start_

            if isinstance(encoder.trunk, VisionTransformer):
                moco_v3_start_(encoder.trunk, stop_grad_conv1=self.stop_grad_conv1)
        return encoder


@final
class MoCoV3(Method[None]):
    """Momentum contrast within the batch; see the module docstring."""

    def __init__(self, recipe: MoCoV3Recipe, context: BuildContext) -> None:
        super().__init__()
        self.recipe = recipe
        encoder = recipe.build_encoder(context)
        hidden = [recipe.hidden] * (recipe.layers - 1)
        options: dict[str, Any] = {"norm": "batch", "bias": False, "last_bias": False}
        self.online = Tower(encoder, mlp(encoder.dim, *hidden, recipe.dim, last_norm="plain", **options))
        last_norm: Literal["plain", "none"] = "plain" if recipe.predictor_norm else "none"
        self.predictor = mlp(recipe.dim, recipe.hidden, recipe.dim, last_norm=last_norm, **options)
        self.target = Target(self.online)
        sync_batch_norm(self, context.world)

    def forward(self, batch: Batch, progress: float) -> Step[None]:
        q1, q2 = (F.normalize(self.predictor(self.online(x)).float(), dim=1) for x in batch.views)  # [n, C] each
        k1, k2 = (F.normalize(dist.gather(self.target(x)).float(), dim=1) for x in batch.views)  # [N, C] each
        loss1, hits1 = self.contrast(q1, k2)
        loss2, hits2 = self.contrast(q2, k1)
        return Step(loss=loss1 + loss2, memory=None, logs={"top1": (hits1 + hits2) / 2})

    def contrast(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """2 tau L_q of queries [n, C] among the keys [N, C] of all processes, and the share of top-1 hits."""
        own = dist.local_rows(k)  # [n], each query's positive among the keys
        tau = self.recipe.tau
        loss, _, top1 = ops.infonce(q, dist.local_shard(k), k, tau=tau, exclude=own[:, None])
        return 2 * tau * loss.mean(), top1.float().mean()

    @torch.no_grad()
    def after_step(self, batch: Batch, step: Step[None], progress: float) -> None:
        self.target.update(self.online, momentum(progress, self.recipe.m, rises=self.recipe.m_cos))

    def param_groups(self) -> list[ParamGroup]:
        """LARS neither decays nor adapts biases and norms (moco/optimizer.py); AdamW decays everything."""
        params = [p for p in self.parameters() if p.requires_grad]
        return decay_groups(params) if self.recipe.optimizer == "lars" else [ParamGroup(params=params)]

    @property
    def notices(self) -> list[str]:
        recipe, lines = self.recipe, []
        if recipe.batch < SMALLEST:
            lines.append(
                f"each query has only {recipe.batch - 1} negatives, the rest of the batch: raise --batch if possible; "
                f"published results use {SMALLEST} or more"
            )
        is_vit = hasattr(self.online.encoder.trunk, "patch_embed")
        if recipe.heads and not is_vit:
            lines.append(f"--heads {recipe.heads} has no effect: {recipe.encoder} is not a vision transformer")
        if recipe.optimizer == "lars" and is_vit:
            lines.append("this recipe is for ResNets, the encoder is a transformer: use --recipe imagenet-vit")
        return lines

    @property
    def directions(self) -> int:
        return 2

    @property
    def chance_loss(self) -> float:
        return 4 * self.recipe.tau * math.log(self.recipe.batch)


# main_moco.py's defaults and CONFIG.md's first command: 100 epochs, LARS of rate 0.6 x 4096 / 256.
IMAGENET = MoCoV3Recipe(
    encoder="resnet50",
    epochs=100,
    batch=4096,
    optimizer="lars",
    lr=9.6,
    weight_decay=1e-6,
    warmup_epochs=10.0,
    tau=1.0,
    zero_init=True,
    views=VIEWS["moco-v3"],
)
# CONFIG.md's ViT-Small command: AdamW of rate 1.5e-4 x 4096 / 256.
VIT = replace(
    IMAGENET,
    encoder="timm:vit_small_patch16_224",
    epochs=300,
    optimizer="adamw",
    lr=2.4e-3,
    weight_decay=0.1,
    warmup_epochs=40.0,
    tau=0.2,
    layers=3,
    predictor_norm=True,
    zero_init=False,
    heads=12,
    views=VIEWS["moco-v3-vit"],
)
# solo-learn's scripts/pretrain/cifar/mocov3.yaml: 93.1 % in its README, about 90 reported by others (its issue 385).
CIFAR = replace(
    IMAGENET,
    encoder="resnet18",
    epochs=1000,
    batch=256,
    lr=0.3,
    trust=0.02,
    trust_clip=True,
    tau=0.2,
    zero_init=False,
    views=VIEWS["byol-cifar"],
)

# For two CPU cores.
TINY = replace(
    CIFAR,
    encoder="tiny",
    epochs=24,
    batch=128,
    optimizer="sgd",
    lr=0.2,
    weight_decay=1e-4,
    warmup_epochs=1.0,
    hidden=512,
    dim=128,
    views=tuple(replace(view, size=24, crop_min=0.2) for view in VIEWS["byol-cifar"]),
)
DIGITS = replace(TINY, epochs=30, views=VIEWS["digits"])

RECIPES: dict[str, Recipe] = {
    "moco-v3/imagenet": IMAGENET,
    "moco-v3/imagenet-vit": VIT,
    "moco-v3/32": CIFAR,
    "moco-v3/small": small(TINY),
    "moco-v3/tiny": TINY,
    "moco-v3/digits": DIGITS,
}
