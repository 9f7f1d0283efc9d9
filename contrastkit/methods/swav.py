r"""SwAV: Swapping Assignments between Views (Caron et al. 2020, arXiv:2006.09882).

.. math::
    L(z_t, z_s) = \ell(z_t, q_s) + \ell(z_s, q_t) \qquad
    \ell(z_t, q_s) = -\sum_k q_s^{(k)} \log p_t^{(k)} \qquad
    p_t^{(k)} = \frac{\exp(z_t \cdot c_k / \tau)}{\sum_{k'} \exp(z_t \cdot c_{k'} / \tau)}

The dictionary is K trained prototypes c on the unit sphere. The code q of a full-size crop assigns it to prototypes so
that the batch uses all of them equally (Sinkhorn's algorithm, no gradient); every other crop of the image, full-size or
small, has to predict it. For small batches, a queue of earlier embeddings, scored by the current prototypes, improves
the balance. There is no momentum encoder, and crops are never compared with those of other images.

Where we depart from the official code: prototypes are normalised after each step instead of before the next forward
(the same sequence), the queue is filled after the step (in both, codes never see their own batch in it), its
length counts the rows of all processes and need not be a multiple of the batch, scores are float32 even if the
encoder runs in bfloat16, batch norm sees all processes instead of groups of 8, LARS divides by ||g + wd w|| instead of
||g|| + wd ||w|| (equivalent with a decay of 1e-6), the head's hidden layer has no bias, which its batch norm would
cancel, the stem is torchvision's, and the first channel's standard deviation is 0.229, not the code's 0.228.
"""

import math
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contrastkit import dist, losses, ops
from contrastkit.augment import VIEWS
from contrastkit.bounds import AT_LEAST_2, COUNT, COUNT_OR_0, PERIOD, POSITIVE, Interval
from contrastkit.errors import UserError
from contrastkit.methods.base import Method, Recipe
from contrastkit.methods.context import BuildContext
from contrastkit.methods.small import small
from contrastkit.optim import ParamGroup
from contrastkit.parts.dictionary import Queue
from contrastkit.parts.heads import Tower, mlp
from contrastkit.parts.norm import sync_batch_norm
from contrastkit.types import Batch, Step


@dataclass(frozen=True, kw_only=True)
class SwAVRecipe(Recipe):
    """SwAV's hyper-parameters, with the paper's letters."""

    n_views: ClassVar[tuple[int, int | None]] = (2, None)

    K: Annotated[int, "prototypes (Sec. 4, main_swav.py --nmb_prototypes)", AT_LEAST_2] = 3000
    tau: Annotated[float, "temperature of the prediction (Eq. 2)", POSITIVE] = 0.1
    epsilon: Annotated[
        float, "smoothness of the codes (Eq. 3); smaller values approach one prototype each", POSITIVE
    ] = 0.05
    iterations: Annotated[int, "Sinkhorn iterations (Sec. 3.1)", Interval(1, 1000)] = 3
    dim: Annotated[int, "dimensions of an embedding and of a prototype", COUNT] = 128
    hidden: Annotated[int, "width of the head's hidden layer; 0 gives a linear head", COUNT_OR_0] = 2048
    assign: Annotated[int, "number of leading views that get codes (main_swav.py --crops_for_assign)", COUNT] = 2
    queue_length: Annotated[
        int, "earlier embeddings per view to balance with the batch; 0 disables the queue", COUNT_OR_0
    ] = 0
    queue_epochs: Annotated[float, "epochs before the queue starts to fill; it is used once full", PERIOD] = 15.0
    freeze_epochs: Annotated[
        float, "epochs in which the prototypes are frozen (--freeze_prototypes_niters)", PERIOD
    ] = 1.0

    def build(self, context: BuildContext) -> "SwAV":
        if self.assign > len(self.views):
            raise UserError(f"--assign {self.assign}: there are only {len(self.views)} views")
        if context.images < self.K:
            raise UserError(f"{self.K} prototypes are more than the {context.images} images: lower --K")
        if self.queue_length % context.world:
            raise UserError(
                f"--queue-length {self.queue_length} must be a multiple of the number of processes ({context.world})"
            )
        return SwAV(self, context)


@final
class SwAV(Method[Tensor]):
    """Swapped prediction of balanced codes; see the module docstring."""

    def __init__(self, recipe: SwAVRecipe, context: BuildContext) -> None:
        super().__init__()
        self.recipe, self.images = recipe, context.images
        self.queue_from = recipe.queue_epochs / recipe.epochs
        encoder = recipe.build_encoder(context)
        hidden = [recipe.hidden] if recipe.hidden else []
        self.online = Tower(encoder, mlp(encoder.dim, *hidden, recipe.dim, norm="batch", bias=False))
        self.prototypes = nn.Linear(recipe.dim, recipe.K, bias=False)
        self.normalise_prototypes()
        generator = torch.Generator().manual_seed(context.seed)
        self.queues = nn.ModuleList(
            Queue(recipe.queue_length, recipe.dim, generator, counted=True)
            for _ in range(recipe.assign if recipe.queue_length else 0)
        )
        sync_batch_norm(self, context.world)

    def forward(self, batch: Batch, progress: float) -> Step[Tensor]:
        V, n, A = len(batch.views), len(batch.index), self.recipe.assign
        z = F.normalize(self.online(batch.views).float(), dim=1)  # [V n, C]
        with torch.autocast(z.device.type, enabled=False):  # codes are exp(score / epsilon): bfloat16 is too coarse
            scores = self.prototypes(z).view(V, n, -1)  # [V, n, K]
            q = torch.stack([self.codes(scores[i], i, progress) for i in range(A)])  # [A, n, K]
            loss = losses.swapped_prediction(scores, q, tau=self.recipe.tau)
        hits = scores[1].argmax(1) == q[0].argmax(1)
        return Step(loss=loss.mean(), memory=z.detach().view(V, n, -1)[:A], logs={"top1": hits.float().mean()})

    @torch.no_grad()
    def codes(self, scores: Tensor, i: int, progress: float) -> Tensor:
        """Codes [n, K] of the i-th view, balanced over all processes and, once full, the queue."""
        n = len(scores)
        if self.queues and progress >= self.queue_from:
            queue = self.queues[i]
            assert isinstance(queue, Queue)
            if queue.full:
                earlier = self.prototypes(dist.local_shard(queue.keys))  # old embeddings, current prototypes
                scores = torch.cat([earlier, scores])
        recipe = self.recipe
        return ops.sinkhorn(scores, epsilon=recipe.epsilon, iterations=recipe.iterations, across_ranks=True)[-n:]

    @torch.no_grad()
    def after_step(self, batch: Batch, step: Step[Tensor], progress: float) -> None:
        self.normalise_prototypes()
        if progress >= self.queue_from:
            for queue, z in zip(self.queues, step.memory, strict=False):
                assert isinstance(queue, Queue)
                queue.push(dist.gather(z))

    @torch.no_grad()
    def normalise_prototypes(self) -> None:
        self.prototypes.weight.copy_(F.normalize(self.prototypes.weight, dim=1))

    def param_groups(self) -> list[ParamGroup]:
        """All decayed and adapted, including biases and norms, as in the official LARC; prototypes start later."""
        frozen_until = self.recipe.freeze_epochs / self.recipe.epochs
        return [
            ParamGroup(params=list(self.online.parameters())),
            ParamGroup(params=list(self.prototypes.parameters()), frozen_until=frozen_until),
        ]

    @property
    def notices(self) -> list[str]:
        r, seen = self.recipe, self.recipe.batch + self.recipe.queue_length
        lines = [
            (seen < r.K, f"{r.K} prototypes share {seen} embeddings of batch and queue, fewer than one each: "
             "lower --K, or raise --batch or --queue-length"),
            (self.images < r.queue_length, f"the queue of {r.queue_length} repeats images, there are only "
             f"{self.images}: lower --queue-length"),
            (r.queue_length > 0 and r.queue_epochs >= r.epochs,
             f"the queue is never used: --queue-epochs {r.queue_epochs:g} of {r.epochs}"),
            (r.freeze_epochs >= r.epochs,
             f"the prototypes are never trained: --freeze-epochs {r.freeze_epochs:g} of {r.epochs}"),
        ]  # fmt: skip
        return [line for applies, line in lines if applies]

    @property
    def chance_loss(self) -> float:
        """For predictions that are uniform over the prototypes."""
        return math.log(self.recipe.K)


# scripts/swav_800ep_pretrain.sh. Its 313 iterations with frozen prototypes are one epoch.
IMAGENET = SwAVRecipe(
    encoder="resnet50",
    epochs=800,
    batch=4096,
    optimizer="lars",
    lr=4.8,
    weight_decay=1e-6,
    warmup_epochs=10.0,
    first_lr=0.3,
    final_lr=0.0048,
    views=VIEWS["swav"],
)
# scripts/swav_400ep_bs256_pretrain.sh: four GPUs. 5005 iterations are one epoch.
SMALL_BATCH = replace(
    IMAGENET, epochs=400, batch=256, lr=0.6, warmup_epochs=0.0, first_lr=0.0, final_lr=0.0006, queue_length=3840
)

# lightly's cifar10_benchmark.py: ResNet-18, 3x3 stem, two crops, no queue, Adam (decay inside the gradient, which at
# 1e-6 makes no difference).
CIFAR = replace(
    IMAGENET,
    encoder="resnet18",
    epochs=200,
    batch=512,
    optimizer="adamw",
    lr=0.004,
    warmup_epochs=0.0,
    first_lr=0.0,
    final_lr=0.0,
    lr_per_epoch=True,
    K=512,
    hidden=512,
    freeze_epochs=0.0,
    views=VIEWS["swav-cifar"],
)

# For two CPU cores. With epsilon = 0.05 a small network stays at a loss of ln K for epochs; in that case the official
# README advises sharper codes and prototypes that are frozen at first.
_FULL, _PART = (replace(VIEWS["swav-cifar"][0], size=size) for size in (24, 16))
TINY = replace(
    CIFAR,
    encoder="tiny",
    epochs=24,
    batch=128,
    lr=0.001,
    warmup_epochs=1.0,
    lr_per_epoch=False,
    K=256,
    epsilon=0.03,
    queue_length=512,
    queue_epochs=2.0,
    freeze_epochs=1.0,
    views=(replace(_FULL, crop_min=0.2),) * 2 + (replace(_PART, crop_min=0.1, crop_max=0.3),) * 2,
)
# To an untrained encoder all digits are similar: at an epsilon of 0.03 their codes are uniform, and the loss stays at
# log K (the official README's remedy is a smaller epsilon). Chosen on held-out digits, like the other values.
DIGITS = replace(
    TINY,
    epochs=16,
    batch=64,
    optimizer="sgd",
    lr=0.06,
    weight_decay=5e-4,
    K=64,
    epsilon=0.01,
    queue_length=0,
    views=VIEWS["digits-strong"],
)

RECIPES: dict[str, Recipe] = {
    "swav/imagenet": IMAGENET,
    # Crops as in App. A.2 and VISSL's configuration; SwAV's own figure is for 200 epochs, batch 256 (Sec. 4.3).
    "swav/imagenet-160": replace(IMAGENET, views=VIEWS["swav-small"]),
    "swav/imagenet-256": SMALL_BATCH,
    "swav/32": CIFAR,
    "swav/small": small(TINY, K=128),  # fewer prototypes than a set of 200 photos has images
    "swav/tiny": TINY,
    "swav/digits": DIGITS,
}
