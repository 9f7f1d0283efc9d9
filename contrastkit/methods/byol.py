r"""BYOL: Bootstrap Your Own Latent (Grill et al. 2020, arXiv:2006.07733).

.. math::
    L_{\theta,\xi} = \| \bar q_\theta(z_\theta) - \bar z'_\xi \|_2^2
        = 2 - 2 \frac{\langle q_\theta(z_\theta), z'_\xi \rangle}{\|q_\theta(z_\theta)\|_2 \|z'_\xi\|_2}
    \qquad \xi \leftarrow \tau \xi + (1 - \tau) \theta

The online tower encodes one view, and its predictor q predicts the output of the target, a momentum average of that
tower, for the other view; the loss is summed over both directions. Images are never compared with each other: predictor
and average (and, in some settings, batch norm: see below) keep all outputs from collapsing into one. The paper's tau,
the momentum of the average, is called ``m`` here as in the other methods; it rises to 1 along a cosine.

The role of batch norm was debated (Fetterman & Albrecht, Understanding self-supervised and contrastive learning with
BYOL, August 2020; the authors' reply, Richemond et al. 2020, arXiv:2010.10241). The norms of projector, predictor and
encoder are therefore options, and :mod:`contrastkit.ablation` has the trainings of that debate and of the reply.

Where we depart from the official code: the target starts as a copy of the online tower instead of its own random
weights (the authors saw no difference), residual branches start as in the paper instead of at zero as in the code,
crops are resized bilinearly, and the brightness jitter is multiplicative instead of additive.
"""

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastkit import dist, losses, ops
from contrastkit.augment import VIEWS
from contrastkit.bounds import COUNT, COUNT_OR_0, SHARE
from contrastkit.methods.base import Method, Recipe
from contrastkit.methods.context import BuildContext
from contrastkit.methods.small import small
from contrastkit.optim import ParamGroup, decay_groups
from contrastkit.parts.dictionary import Queue
from contrastkit.parts.heads import Norm, Tower, mlp
from contrastkit.parts.norm import sync_batch_norm
from contrastkit.parts.target import Target, momentum
from contrastkit.types import Batch, Step

TAU = 0.2  # temperature of the contrastive loss in the debate (imbue-ai/self_supervised, model_params.py)


@dataclass(frozen=True, kw_only=True)
class BYOLRecipe(Recipe):
    """BYOL's hyper-parameters."""

    n_views: ClassVar[tuple[int, int | None]] = (2, 2)

    m: Annotated[
        float,
        "initial momentum of the target, tau_base in the paper, raised to 1 along a cosine (App. J.1): configs/byol.py "
        "has 0.97 for 40 epochs, 0.99 for 100 and 300, 0.996 for 1000",
        SHARE,
    ] = 0.996
    hidden: Annotated[int, "width of the hidden layer of projector and predictor (Sec. 3.3)", COUNT] = 4096
    dim: Annotated[int, "dimensions of projection and prediction (Sec. 3.3)", COUNT] = 256
    projector_norm: Annotated[
        Norm, "norm of the projector's hidden layer (Sec. 3.3: batch); group standardizes its weights too"
    ] = "batch"
    predictor_norm: Annotated[
        Norm, "norm of the predictor's hidden layer (Sec. 3.3: batch); group standardizes its weights too"
    ] = "batch"
    encoder_norm: Annotated[
        Literal["batch", "group"],
        "norms of the encoder: batch, or group with weight standardization (arXiv:2010.10241)",
    ] = "batch"
    negatives: Annotated[
        int,
        "keys in a queue of negatives, for MoCo's contrastive loss instead of the regression (Fetterman & Albrecht "
        "2020); 0 is BYOL",
        COUNT_OR_0,
    ] = 0

    def build(self, context: BuildContext) -> "BYOL":
        if "batch" in (self.projector_norm, self.predictor_norm):
            self.require_two_images("batch norm")
        return BYOL(self, context)

    def encoder_options(self, context: BuildContext) -> dict[str, Any]:
        return super().encoder_options(context) | {"norm": self.encoder_norm}


@final
class BYOL(Method[Tensor | None]):
    """Prediction of a momentum target; see the module docstring."""

    def __init__(self, recipe: BYOLRecipe, context: BuildContext) -> None:
        super().__init__()
        self.recipe, self.images = recipe, context.images
        encoder, hidden, dim = recipe.build_encoder(context), recipe.hidden, recipe.dim
        self.online = Tower(encoder, mlp(encoder.dim, hidden, dim, norm=recipe.projector_norm, last_bias=False))
        self.predictor = mlp(dim, hidden, dim, norm=recipe.predictor_norm, last_bias=False)
        self.target = Target(self.online)
        self.queue: Queue | None = None
        if recipe.negatives:
            self.queue = Queue(recipe.negatives, dim, torch.Generator().manual_seed(context.seed))
        sync_batch_norm(self, context.world)

    def forward(self, batch: Batch, progress: float) -> Step[Tensor | None]:
        x1, x2 = batch.views  # separately: each view has its own batch statistics
        p1, p2 = self.predictor(self.online(x1)), self.predictor(self.online(x2))  # [n, C]
        z1, z2 = self.target(x1), self.target(x2)  # [n, C]
        if self.queue is not None:
            return self.contrast(p1, p2, z1, z2, self.queue.keys)
        loss = losses.regression(p1, z2) + losses.regression(p2, z1)
        return Step(loss=loss.mean(), memory=None, logs={})

    def contrast(self, p1: Tensor, p2: Tensor, z1: Tensor, z2: Tensor, keys: Tensor) -> Step[Tensor | None]:
        """MoCo's loss between the same outputs, in both directions: the debate's point of comparison."""
        p1, p2, z1, z2 = (F.normalize(x.float(), dim=1) for x in (p1, p2, z1, z2))
        loss, _, top1 = ops.infonce(p1, z2, keys, tau=TAU)
        other, _, other_top1 = ops.infonce(p2, z1, keys, tau=TAU)
        hits = (top1.float().mean() + other_top1.float().mean()) / 2
        memory = torch.cat([dist.gather(z2), dist.gather(z1)])  # [2N, C]
        return Step(loss=(loss + other).mean(), memory=memory, logs={"top1": hits})

    @torch.no_grad()
    def after_step(self, batch: Batch, step: Step[Tensor | None], progress: float) -> None:
        self.target.update(self.online, momentum(progress, self.recipe.m))
        if self.queue is not None and step.memory is not None:
            self.queue.push(step.memory)

    def param_groups(self) -> list[ParamGroup]:
        return decay_groups([*self.online.parameters(), *self.predictor.parameters()])

    @property
    def notices(self) -> list[str]:
        if self.recipe.negatives >= 2 * self.images:
            return [
                f"--negatives {self.recipe.negatives} holds both views of all {self.images} images, so each image is "
                "among its own negatives: lower --negatives"
            ]
        if self.queue is not None or {"batch", "group"} & {self.recipe.projector_norm, self.recipe.predictor_norm}:
            return []
        return [
            "without batch norm in projector and predictor, BYOL learns less, or nothing at a high learning rate "
            "(Fetterman & Albrecht 2020): compare with contrastkit ablate byol-norm"
        ]

    @property
    def directions(self) -> int:
        return 2

    @property
    def chance_loss(self) -> float | None:
        return None if self.queue is None else 2 * math.log(self.queue.keys.shape[0] + 1)


# configs/byol.py, the preset of 1000 epochs: 0.2 for a batch of 256, times 4096 / 256 (Sec. 3.3, App. J).
V1 = BYOLRecipe(
    encoder="resnet50",
    epochs=1000,
    batch=4096,
    optimizer="lars",
    lr=3.2,
    weight_decay=1.5e-6,
    warmup_epochs=10.0,
    views=VIEWS["byol"],
)

# Solo-learn's scripts/pretrain/cifar/byol.yaml: 1.0 for a batch of 256, LARS with clip_lr and eta 0.02.
CIFAR = replace(
    V1,
    encoder="resnet18",
    batch=256,
    lr=1.0,
    trust=0.02,
    trust_clip=True,
    weight_decay=1e-5,
    m=0.99,
    views=VIEWS["byol-cifar"],
)

# For two CPU cores; SGD and weight decay are lightly's (cifar10_benchmark.py), m is that of the official preset with as
# many steps (40 epochs). Measured in four epochs of 10,000 CIFAR-10 images: a rate of 0.12 and a fast target learn
# more than 0.06 and 0.99.
TINY = replace(
    CIFAR,
    encoder="tiny",
    epochs=24,
    batch=128,
    optimizer="sgd",
    lr=0.12,
    weight_decay=5e-4,
    m=0.97,
    warmup_epochs=1.0,
    hidden=512,
    dim=128,
    views=tuple(replace(view, size=24, crop_min=0.2) for view in VIEWS["byol-cifar"]),
)
# Chosen on held-out digits: with the views of "digits" and batches of 128, kNN stayed below the untrained encoder's.
DIGITS = replace(TINY, epochs=16, batch=48, m=0.95, views=VIEWS["digits-strong"])

RECIPES: dict[str, Recipe] = {
    "byol/imagenet": V1,
    "byol/32": CIFAR,
    "byol/small": small(TINY),
    "byol/tiny": TINY,
    "byol/digits": DIGITS,
}
