r"""InstDisc: Non-Parametric Instance Discrimination (Wu et al. 2018, arXiv:1805.01978).

.. math::
    P(i | v) = \frac{\exp(v_i^T v / \tau)}{Z} \qquad h(i, v) = \frac{P(i | v)}{P(i | v) + m P_n(i)} \qquad P_n = 1 / n

    J(\theta) = -E_{P_d} \left[ \log h(i, v) - \lambda \lVert v - v_i \rVert^2 \right]
                - m E_{P_n} \left[ \log(1 - h(i, v')) \right]

Every image is its own class, whose weight vector v_i is the encoder's latest feature of it: a row of the memory bank.
One view of an image, v, should be nearest to the image's own row. Noise-contrastive estimation avoids the softmax's sum
over all n images: it discriminates the own row from m = K drawn ones, with a constant for Z (Eqs. 4 to 7). After the
step the row moves towards the feature, v_i <- normalise(m v_i + (1 - m) v), where m is the momentum.

``--loss softmax`` takes the softmax over the own row and the K drawn ones (CMC's code), ``--loss full`` that over the
whole bank (Eq. 2), as in the official CIFAR-10 command (--nce-k 0). ``--proximal`` is the paper's lambda (Sec. 3.3,
Eqs. 8 and 9), which its code lacks. ``--m-z 0.99`` averages Z, which the official code sets once, from the first batch
(K. He in HobbitLong/CMC, issue 23). ``--centre``, a batch norm at the end of the head, is ours: it removes what the
features of all images share, which drifts and so distinguishes rows of this epoch from older ones.

Where we depart from the official code: the bank is written after the step instead of in backward, NCE's ratios are
exact (no 1e-7 in their denominators), draws are a function of the seed, the step and the image, batch norm sees the
images of all processes instead of each GPU's, and the stem for small images is ours.
"""

import math
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastkit import dist, ops
from contrastkit.augment import VIEWS
from contrastkit.bounds import COUNT, NOT_NEGATIVE, POSITIVE, SHARE
from contrastkit.methods.base import Method, Recipe
from contrastkit.methods.context import BuildContext
from contrastkit.methods.small import small
from contrastkit.parts.dictionary import MemoryBank
from contrastkit.parts.heads import Tower, mlp
from contrastkit.parts.norm import sync_batch_norm
from contrastkit.types import Batch, Step


@dataclass(frozen=True, kw_only=True)
class InstDiscRecipe(Recipe):
    """InstDisc's hyper-parameters, with the paper's letters; K is its m, the number of noise samples."""

    n_views: ClassVar[tuple[int, int | None]] = (1, 1)

    loss: Annotated[
        Literal["nce", "softmax", "full"], "NCE (Sec. 3.2), softmax over the drawn rows, or over the whole bank (Eq. 2)"
    ] = "nce"
    K: Annotated[int, "noise rows drawn from the bank (Sec. 4.1); --loss full uses the whole bank", COUNT] = 4096
    tau: Annotated[float, "temperature: 0.07 (Sec. 3.1), 0.1 on CIFAR (cifar.py)", POSITIVE] = 0.07
    m: Annotated[float, "momentum of the bank's rows (main.py --nce-m)", SHARE] = 0.5
    m_z: Annotated[
        float, "momentum of Z; 1 keeps the first batch's (official), 0.99 averages (CMC issue 23)", SHARE
    ] = 1.0
    proximal: Annotated[
        float, "weight lambda of the proximal term (Sec. 3.3); 0 (official code) disables it", NOT_NEGATIVE
    ] = 0
    dim: Annotated[int, "dimensions of a feature (Sec. 4.3)", COUNT] = 128
    centre: Annotated[bool, "end the head with a batch norm without scale and shift (ours, for small sets)"] = False
    bank_dtype: Annotated[Literal["float32", "bfloat16"], "data type of the bank; bfloat16 halves memory"] = "float32"

    def build(self, context: BuildContext) -> "InstDisc":
        MemoryBank.check(context.images, 0 if self.loss == "full" else self.K)
        if self.centre:
            self.require_two_images("--centre, a batch norm,")
        return InstDisc(self, context)


@final
class InstDisc(Method[tuple[Tensor, Tensor | None]]):
    """Instance discrimination over a memory bank; see the module docstring."""

    def __init__(self, recipe: InstDiscRecipe, context: BuildContext) -> None:
        super().__init__()
        self.recipe, self.seed = recipe, context.seed
        encoder = recipe.build_encoder(context)
        norm: Literal["plain", "none"] = "plain" if recipe.centre else "none"
        head = mlp(encoder.dim, recipe.dim, last_norm=norm, last_bias=not recipe.centre)
        self.online = Tower(encoder, head)
        self.bank = MemoryBank(
            context.images,
            recipe.dim,
            generator=torch.Generator().manual_seed(context.seed),
            dtype=getattr(torch, recipe.bank_dtype),
        )
        sync_batch_norm(self, context.world)

    def forward(self, batch: Batch, progress: float) -> Step[tuple[Tensor, Tensor | None]]:
        r = self.recipe
        (x,) = batch.views
        v = F.normalize(self.online(x).float(), dim=1)  # [n, C]
        own = self.bank.rows[batch.index]  # [n, C]
        Z: Tensor | None = None
        if r.loss == "full":
            loss, _, top1 = ops.infonce(v, own, self.bank.rows, tau=r.tau, exclude=batch.index[:, None])
        else:
            drawn = self.bank.draw(batch.index, r.K, seed=self.seed, progress=progress)  # [n, 1 + K]
            if r.loss == "nce":
                loss, top1, Z = self.bank.nce(v, drawn, tau=r.tau, m_z=r.m_z)
            else:
                loss, _, top1 = ops.bank_loss(v, self.bank.rows, drawn, tau=r.tau)
        loss = loss.mean()
        if r.proximal:
            loss = loss + r.proximal * (v - own).square().sum(1).mean()
        return Step(loss=loss, memory=(dist.gather(v.detach()), Z), logs={"top1": top1.float().mean()})

    @torch.no_grad()
    def after_step(self, batch: Batch, step: Step[tuple[Tensor, Tensor | None]], progress: float) -> None:
        v, Z = step.memory
        self.bank.update(dist.gather(batch.index), v, m=self.recipe.m, Z=Z)

    @property
    def chance_loss(self) -> float | None:
        r = self.recipe
        if r.proximal:
            return None
        if r.loss == "full":
            return math.log(len(self.bank.rows))
        return MemoryBank.chance_loss(r.K, nce=r.loss == "nce")


# The defaults of lemniscate.pytorch's main.py; 200 epochs, the rate drops at 120 and 160 (Sec. 4.1).
IMAGENET = InstDiscRecipe(
    encoder="resnet50",
    epochs=200,
    batch=256,
    lr=0.03,
    weight_decay=1e-4,
    schedule="step",
    milestones=(0.6, 0.8),
    lr_per_epoch=True,
    views=VIEWS["instdisc"],
)

# Its cifar.py --nce-k 0 --nce-t 0.1 --lr 0.03: ResNet-18, the whole bank. The learning rate is constant up to epoch
# 80, then has the factor 0.1^((epoch - 80) // 40): of 200 epochs it drops at 120 and 160, as on ImageNet.
CIFAR = replace(
    IMAGENET,
    encoder="resnet18",
    batch=128,
    weight_decay=5e-4,
    loss="full",
    tau=0.1,
    views=VIEWS["instdisc-cifar"],
)

# For two CPU cores. The whole bank as above, and centred. Measured on posed digits: with the first batch's Z, NCE's
# loss rises tenfold above chance (that Z is for a random bank, and an untrained encoder's rows are all similar); with
# the whole bank, kNN rises from 50 % to 76 % in 24 epochs if centred, and never above 50 % if not.
TINY = replace(
    CIFAR,
    encoder="tiny",
    epochs=24,
    schedule="cosine",
    warmup_epochs=1.0,
    lr_per_epoch=False,
    K=1024,
    centre=True,
    views=tuple(replace(view, size=24) for view in VIEWS["instdisc-cifar"]),
)
DIGITS = replace(TINY, epochs=30, lr=0.06, views=VIEWS["digits"][:1])

RECIPES: dict[str, Recipe] = {
    "instdisc/imagenet": IMAGENET,
    "instdisc/32": CIFAR,
    "instdisc/small": small(TINY),
    "instdisc/tiny": TINY,
    "instdisc/digits": DIGITS,
}
