r"""MoCo: Momentum Contrast (He et al. 2019, arXiv:1911.05722; v2: Chen et al. 2020, arXiv:2003.04297).

.. math::
    L_q = -\log \frac{\exp(q \cdot k_+ / \tau)}{\exp(q \cdot k_+ / \tau) + \sum_{i=1}^K \exp(q \cdot k_i / \tau)}
    \qquad \theta_k \leftarrow m \theta_k + (1 - m) \theta_q

The query q is one view under the online encoder, the positive key k+ the other view under its momentum average, and the
dictionary a queue of K previous keys. Keys are encoded in shuffled order, so that batch norm cannot leak (Sec. 3.3).

v2 is v1 with an MLP head, stronger views, tau = 0.2 and a cosine schedule: the rows below differ only in these.
Where we depart from the official code: the target is averaged and the queue written after the step instead of before
the next one (the same sequence), K need not be a multiple of the batch, the encoder normalises images with ImageNet's
statistics on every set of colour images, both directions of the symmetric loss share one order, and arithmetic is
bfloat16 where the device supports it (--precision float32 matches the papers).
"""

import math
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastkit import dist, ops, rng
from contrastkit.augment import VIEWS
from contrastkit.bounds import COUNT, COUNT_OR_0, POSITIVE, SHARE
from contrastkit.errors import UserError
from contrastkit.methods.base import Method, Recipe
from contrastkit.methods.context import BuildContext
from contrastkit.methods.small import small
from contrastkit.parts.dictionary import Queue
from contrastkit.parts.heads import Tower, mlp
from contrastkit.parts.norm import split_batch_norm
from contrastkit.parts.target import Target
from contrastkit.types import Batch, Step


@dataclass(frozen=True, kw_only=True)
class MoCoRecipe(Recipe):
    """MoCo's hyper-parameters, with the paper's letters."""

    n_views: ClassVar[tuple[int, int | None]] = (2, 2)

    K: Annotated[int, "keys in the queue (v1 Sec. 4.1)", COUNT] = 65536
    m: Annotated[float, "momentum of the key encoder (v1 Sec. 3.2)", SHARE] = 0.999
    tau: Annotated[float, "temperature: 0.07 in v1 (Sec. 3.1), 0.2 in v2 (Table 1)", POSITIVE]
    dim: Annotated[int, "dimensions of a key (v1 Sec. 3.3)", COUNT] = 128
    hidden: Annotated[int, "width of the head's hidden layer; 0 gives v1's linear head", COUNT_OR_0] = 0
    symmetric: Annotated[bool, "use each view as query and key, and sum both losses (option of the CIFAR demo)"] = False
    bn_groups: Annotated[
        int, "batch-norm groups per global batch: 8 GPUs in the paper (Sec. 3.3); 1 is plain batch norm", COUNT
    ] = 8

    def groups(self, world: int) -> int:
        """Batch-norm groups of ``world`` processes: at least one for each, which normalises its own images."""
        return max(self.bn_groups, world)

    def build(self, context: BuildContext) -> "MoCo":
        world = context.world
        groups = self.groups(world)
        if self.batch % groups or groups % world:
            raise UserError(
                f"{groups} batch-norm groups must divide --batch {self.batch} and be a multiple of the {world} "
                "process(es): change --bn-groups"
            )
        if self.batch == groups:
            raise UserError(
                f"each of the {groups} batch-norm groups would hold one image: raise --batch to {2 * groups} or lower "
                "--bn-groups"
            )
        return MoCo(self, context)


@final
class MoCo(Method[Tensor]):
    """Momentum contrast over a queue; see the module docstring."""

    def __init__(self, recipe: MoCoRecipe, context: BuildContext) -> None:
        super().__init__()
        self.tau, self.m, self.symmetric, self.seed = recipe.tau, recipe.m, recipe.symmetric, context.seed
        self.images = context.images
        encoder = recipe.build_encoder(context)
        self.online = Tower(encoder, mlp(encoder.dim, *([recipe.hidden] if recipe.hidden else []), recipe.dim))
        self.bn_groups, self.groups = recipe.bn_groups, recipe.groups(context.world)
        split_batch_norm(self.online, self.groups // context.world)
        self.target = Target(self.online)
        self.queue = Queue(recipe.K, recipe.dim, torch.Generator().manual_seed(context.seed))

    def forward(self, batch: Batch, progress: float) -> Step[Tensor]:
        x1, x2 = batch.views
        loss, k, hits = self.contrast(x1, x2, progress)
        if self.symmetric:
            other, k1, other_hits = self.contrast(x2, x1, progress)
            loss, k, hits = loss + other, torch.cat([k1, k]), (hits + other_hits) / 2
        return Step(loss=loss, memory=k, logs={"top1": hits})

    def contrast(self, x_q: Tensor, x_k: Tensor, progress: float) -> tuple[Tensor, Tensor, Tensor]:
        """Eq. 1 in one direction: the mean loss, the keys of all processes [N, C], the share of top-1 hits."""
        q = F.normalize(self.online(x_q).float(), dim=1)  # [n, C]
        k = self.keys(x_k, progress)  # [N, C]
        loss, _, top1 = ops.infonce(q, dist.local_shard(k), self.queue.keys, tau=self.tau)
        return loss.mean(), k, top1.float().mean()

    @torch.no_grad()
    def keys(self, x: Tensor, progress: float) -> Tensor:
        """Keys [N, C] of all processes, encoded in an order shuffled over all of them (shuffling BN, Sec. 3.3).

        The order is a function of (seed, progress): the same in a resumed run and for any number of processes.
        """
        if self.groups == 1:
            return F.normalize(dist.gather(self.target(x)).float(), dim=1)
        images = dist.gather(x).contiguous(memory_format=torch.channels_last)
        order = rng.permutation(self.seed, rng.beside_epochs(progress), images.shape[0]).to(x.device)
        k = dist.gather(self.target(images[dist.local_shard(order)]))
        return F.normalize(torch.empty_like(k).index_copy_(0, order, k).float(), dim=1)

    @torch.no_grad()
    def after_step(self, batch: Batch, step: Step[Tensor], progress: float) -> None:
        self.target.update(self.online, self.m)
        self.queue.push(step.memory)

    @property
    def notices(self) -> list[str]:
        lines, keys = [], self.queue.keys.shape[0]
        if self.groups != self.bn_groups:
            lines.append(
                f"batch norm in {self.groups} groups, one per process, not {self.bn_groups}: results will differ"
            )
        if keys > self.images:
            lines.append(
                f"the queue holds {keys:,} keys of {self.images:,} images, which meet older keys of their own among "
                "the negatives: lower --K"
            )
        return lines

    @property
    def directions(self) -> int:
        return 2 if self.symmetric else 1

    @property
    def chance_loss(self) -> float:
        return (2 if self.symmetric else 1) * math.log(self.queue.keys.shape[0] + 1)


# Main_moco.py's defaults; 200 epochs, the rate drops at 120 and 160 (v1 Sec. 4.1).
V1 = MoCoRecipe(
    encoder="resnet50",
    epochs=200,
    batch=256,
    lr=0.03,
    weight_decay=1e-4,
    schedule="step",
    milestones=(0.6, 0.8),
    lr_per_epoch=True,
    tau=0.07,
    views=VIEWS["moco-v1"],
)
V2 = replace(V1, tau=0.2, hidden=2048, schedule="cosine", views=VIEWS["moco-v2"])

# The official CIFAR-10 demo (branch colab-notebook): ResNet-18, 3x3 stem, linear head, K 4096, m 0.99, tau 0.1.
CIFAR = replace(
    V1,
    encoder="resnet18",
    batch=512,
    lr=0.06,
    weight_decay=5e-4,
    schedule="cosine",
    K=4096,
    m=0.99,
    tau=0.1,
    views=VIEWS["moco-cifar"],
)

# For two CPU cores. One batch-norm group, so no shuffling: the fastest choice in one process, and these data do not
# show the leak that the paper describes (App. A.9: the loss falls, the accuracy does not rise); the monitor checks.
TINY = replace(
    CIFAR,
    encoder="tiny",
    epochs=24,
    batch=128,
    lr=0.12,
    warmup_epochs=1.0,
    lr_per_epoch=False,
    hidden=512,
    symmetric=True,
    bn_groups=1,
    views=tuple(replace(view, size=24, crop_min=0.2) for view in VIEWS["moco-cifar"]),
)
DIGITS = replace(TINY, epochs=30, lr=0.06, views=VIEWS["digits"])
SMALL = small(TINY, K=1024)  # fewer keys than photos, or an image is its own negative

RECIPES: dict[str, Recipe] = {
    "moco-v1/imagenet": V1,
    "moco-v2/imagenet": V2,
    "moco-v1/32": CIFAR,
    "moco-v2/32": replace(CIFAR, hidden=512, symmetric=True),
    "moco-v1/small": replace(SMALL, hidden=0, symmetric=False),
    "moco-v2/small": SMALL,
    "moco-v1/tiny": replace(TINY, hidden=0, symmetric=False),
    "moco-v2/tiny": TINY,
    "moco-v1/digits": replace(DIGITS, hidden=0, symmetric=False),
    "moco-v2/digits": DIGITS,
}
