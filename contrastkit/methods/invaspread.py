r"""InvaSpread: invariant and spreading instance features (Ye et al. 2019, arXiv:1904.03436).

.. math::
    J = -\sum_i \log P(i \mid \hat x_i) - \sum_i \sum_{j \ne i} \log\bigl(1 - P(i \mid x_j)\bigr) \qquad
    P(i \mid x_j) = \frac{\exp(f_i \cdot f_j / \tau)}{\sum_k \exp(f_k \cdot f_j / \tau)}

One encoder, and the batch as the dictionary: the two views of an image should find each other (invariance), and every
other view of the batch is classified, one by one, as different (spreading). The second term distinguishes the loss from
InfoNCE, which only asks that the positive rank first.

As in the official code, not the paper's text, all 2m views are queries, the sum of P runs over the 2m - 1 others of the
query, its positive among them, and the second factor of each product is a constant: a view gets a gradient as a query,
never as a key, so keys from other processes need none. Where we depart from that code: batch norm sees the whole batch
of all processes instead of each GPU's share, and images are normalised with ImageNet's statistics.
"""

import math
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, final

import torch.nn.functional as F

from contrastkit import dist, losses
from contrastkit.augment import VIEWS
from contrastkit.bounds import COUNT, POSITIVE
from contrastkit.errors import UserError
from contrastkit.methods.base import Method, Recipe
from contrastkit.methods.context import BuildContext
from contrastkit.methods.small import small
from contrastkit.parts.heads import Tower, mlp
from contrastkit.parts.norm import sync_batch_norm
from contrastkit.types import Batch, Step


@dataclass(frozen=True, kw_only=True)
class InvaSpreadRecipe(Recipe):
    """InvaSpread's hyper-parameters, with the paper's letters."""

    n_views: ClassVar[tuple[int, int | None]] = (2, 2)

    tau: Annotated[float, "temperature (demo_seen.py: --batch-t)", POSITIVE] = 0.1
    dim: Annotated[int, "dimensions of an instance feature (demo_seen.py: --low-dim)", COUNT] = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch < 2:
            raise UserError(f"--batch must be at least 2, not {self.batch}: the negatives are the batch's other images")

    def build(self, context: BuildContext) -> "InvaSpread":
        return InvaSpread(self, context)


@final
class InvaSpread(Method[None]):
    """Invariance and spreading over a batch; see the module docstring."""

    def __init__(self, recipe: InvaSpreadRecipe, context: BuildContext) -> None:
        super().__init__()
        self.tau, self.rows = recipe.tau, 2 * recipe.batch
        encoder = recipe.build_encoder(context)
        self.online = Tower(encoder, mlp(encoder.dim, recipe.dim))
        sync_batch_norm(self, context.world)

    def forward(self, batch: Batch, progress: float) -> Step[None]:
        f = F.normalize(self.online(batch.views).float(), dim=1)  # [2n, C], the first views, then the second
        keys = dist.gather(f.detach())  # [2m, C] of all processes
        itself = dist.local_rows(keys)  # [2n], f's rows among the keys
        loss, top1 = losses.invaspread(f, keys, itself, itself.roll(len(f) // 2), tau=self.tau)
        return Step(loss=loss.mean(), memory=None, logs={"top1": top1.float().mean()})

    @property
    def chance_loss(self) -> float:
        """For equal similarities: P is 1 / (2m - 1) everywhere."""
        others = self.rows - 1
        return math.log(others) + (others - 1) * math.log(others / (others - 1))


# demo_seen.py's defaults. Its learning rate falls to a tenth at epoch 120 and stays there: the branches for 160 and 200
# are unreachable.
CIFAR = InvaSpreadRecipe(
    encoder="resnet18",
    epochs=301,
    batch=128,
    lr=0.03,
    weight_decay=5e-4,
    schedule="step",
    milestones=(120 / 301,),
    lr_per_epoch=True,
    views=tuple(replace(view, size=32, gray_first=False) for view in VIEWS["moco-v1"]),
)

# The paper does not train on ImageNet: these are its hyper-parameters with larger views.
IMAGENET = replace(CIFAR, views=tuple(replace(view, size=224) for view in CIFAR.views))

# For two CPU cores: MoCo's tiny views, a cosine instead of the step.
TINY = replace(
    CIFAR,
    encoder="tiny",
    epochs=24,
    lr=0.06,
    schedule="cosine",
    warmup_epochs=1.0,
    lr_per_epoch=False,
    views=tuple(replace(view, size=24, crop_min=0.2) for view in VIEWS["moco-cifar"]),
)

RECIPES: dict[str, Recipe] = {
    "invaspread/imagenet": IMAGENET,
    "invaspread/32": CIFAR,
    "invaspread/small": small(TINY),
    "invaspread/tiny": TINY,
    "invaspread/digits": replace(TINY, epochs=30, views=VIEWS["digits"]),
}
