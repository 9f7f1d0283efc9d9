r"""CMC: Contrastive Multiview Coding (Tian et al. 2019, arXiv:1906.05849).

.. math::
    L(V_1, V_2) = L_{contrast}^{V_1, V_2} + L_{contrast}^{V_2, V_1} \qquad
    L_{contrast}^{V_1, V_2} = -\log \frac{\exp(z_1 \cdot z_2^1 / \tau)}{\sum_{j=1}^{k+1} \exp(z_1 \cdot z_2^j / \tau)}

    L_F = \sum_{1 \le i < j \le M} L(V_i, V_j) \qquad L_C = \sum_{j=2}^M L(V_1, V_j)

The views of a scene are its modalities: the channels of an image, brightness (L) and colour (ab), or images from
several sensors, such as colour and depth (NYU-Depth in the paper), combined by ``--data rgb=DIR,depth=DIR``. Each view
has its own encoder f_i, z_i = f_i(v_i) on the unit sphere, and is looked up in a memory bank among earlier features of
another view, one per image: information shared by all views is worth keeping. Pairs are summed over the full graph of M
views, or over those with the first view as the core (Sec. 3.3); for two views these coincide. All encoders are kept,
and their features concatenated.

As published, the look-up is noise-contrastive estimation with K draws and a constant Z for each pair (Sec. 3.4; see
:mod:`contrastkit.methods.instdisc`); ``--loss softmax`` is the equation above over the draws, which the official README
reports as better. Both directions and all pairs share the draws.

Where we depart from the official code: the bank is written after the step instead of before backward, NCE's ratios are
exact (no 1e-7 in their denominators), draws are a function of the seed, the step and the image, images are
converted to Lab in float32 from augmented pixels that were never rounded to bytes, batch norm sees the images of all
processes instead of each GPU's, residual branches are initialised as in torchvision, and the stem for small images is
ours.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal, final

import torch
from torch import Tensor

from contrastkit import dist, ops
from contrastkit.augment import VIEWS
from contrastkit.bounds import COUNT, POSITIVE, SHARE, WIDTH
from contrastkit.errors import UserError
from contrastkit.methods.base import Method, Recipe
from contrastkit.methods.context import BuildContext
from contrastkit.methods.small import small
from contrastkit.parts.dictionary import MemoryBank
from contrastkit.parts.encoder import SplitEncoder
from contrastkit.parts.heads import Tower, ViewHeads
from contrastkit.parts.norm import sync_batch_norm
from contrastkit.types import Batch, Step


@dataclass(frozen=True, kw_only=True)
class CMCRecipe(Recipe):
    """CMC's hyper-parameters, with the names of InstDisc's, whose memory bank it shares."""

    n_views: ClassVar[tuple[int, int | None]] = (1, 1)
    takes_module: ClassVar[bool] = False

    colour: Annotated[
        Literal["lab", "ycbcr", "lab-full"],
        "views of RGB images: L and ab; Y and CbCr, reported as better in the README; or L, a and b",
    ] = "lab"
    width: Annotated[float, "width of each view's encoder: 0.5 (resnet50v1 in the code), 1 (v2) or 2 (v3)", WIDTH] = 0.5
    objective: Annotated[Literal["full", "core"], "pairs of views: all, or those with the first (Sec. 3.3)"] = "full"
    loss: Annotated[Literal["nce", "softmax"], "NCE (Sec. 3.4), or softmax over the drawn rows (--softmax)"] = "nce"
    K: Annotated[int, "noise rows drawn from the bank (README --nce_k)", COUNT] = 4096
    tau: Annotated[float, "temperature (README --nce_t: 0.07 on ImageNet, 0.1 on STL-10)", POSITIVE] = 0.07
    m: Annotated[float, "momentum of the bank's rows (README --nce_m)", SHARE] = 0.5
    m_z: Annotated[float, "momentum of Z; 1 keeps the first batch's (official), 0.99 averages (issue 23)", SHARE] = 1.0
    dim: Annotated[int, "dimensions of a feature (train_CMC.py --feat_dim)", COUNT] = 128
    centre: Annotated[bool, "end the heads with a batch norm without scale and shift (ours, for small sets)"] = False
    bank_dtype: Annotated[Literal["float32", "bfloat16"], "data type of the bank; bfloat16 halves memory"] = "float32"

    def encoder_options(self, context: BuildContext) -> dict[str, Any]:
        views = {"modalities": context.modalities} if context.modalities else {"colour": self.colour}
        return super().encoder_options(context) | views | {"width": self.width}

    def build(self, context: BuildContext) -> "CMC":
        if context.modalities and self.colour != "lab":
            raise UserError(
                f"--colour {self.colour} splits RGB images, these data have several modalities: drop --colour"
            )
        MemoryBank.check(context.images, self.K)
        if self.centre:
            self.require_two_images("--centre, a batch norm,")
        return CMC(self, context)


@final
class CMC(Method[tuple[Tensor, Tensor | None]]):
    """Contrast of an image's channels over a memory bank; see the module docstring."""

    pairs: Tensor

    def __init__(self, recipe: CMCRecipe, context: BuildContext) -> None:
        super().__init__()
        self.recipe, self.seed = recipe, context.seed
        encoder = recipe.build_encoder(context)
        assert isinstance(encoder, SplitEncoder)
        self.V = V = len(encoder.dims)
        self.online = Tower(encoder, ViewHeads(encoder.dims, recipe.dim, centre=recipe.centre))
        self.bank = MemoryBank(
            context.images,
            V,
            recipe.dim,
            generator=torch.Generator().manual_seed(context.seed),
            dtype=getattr(torch, recipe.bank_dtype),
            look_ups=V - 1,
        )
        # Row s - 1: whether slot i of the bank and view i - s are a pair of the objective.
        pairs = [[recipe.objective == "full" or 0 in (i, (i - s) % V) for i in range(V)] for s in range(1, V)]
        self.register_buffer("pairs", torch.tensor(pairs, dtype=torch.float32), persistent=False)
        self.terms = sum(map(sum, pairs))
        sync_batch_norm(self, context.world)

    def forward(self, batch: Batch, progress: float) -> Step[tuple[Tensor, Tensor | None]]:
        r, V = self.recipe, self.V
        (x,) = batch.views
        z = self.online(x).unflatten(1, (V, r.dim))  # [n, V, C]
        drawn = self.bank.draw(batch.index, r.K, seed=self.seed, progress=progress)  # [n, 1 + K]
        losses, hits, constants = [], [], []
        for s in range(1, V):
            query = z.roll(s, dims=1)  # slot i of the bank (view i) is compared with view i - s
            if r.loss == "nce":
                loss, top1, Z = self.bank.nce(query, drawn, tau=r.tau, m_z=r.m_z, look_up=s - 1)
                constants.append(Z)
            else:
                loss, _, top1 = ops.bank_loss(query, self.bank.rows, drawn, tau=r.tau)
            losses.append(loss.mean(0))
            hits.append(top1.float().mean(0))
        loss = (torch.stack(losses) * self.pairs).sum()
        top1 = (torch.stack(hits) * self.pairs).sum() / self.pairs.sum()
        stored = torch.stack(constants) if constants else None  # [V - 1, V]
        return Step(loss=loss, memory=(dist.gather(z.detach()), stored), logs={"top1": top1})

    @torch.no_grad()
    def after_step(self, batch: Batch, step: Step[tuple[Tensor, Tensor | None]], progress: float) -> None:
        z, Z = step.memory
        self.bank.update(dist.gather(batch.index), z, m=self.recipe.m, Z=Z)

    @property
    def directions(self) -> int:
        return self.terms

    @property
    def chance_loss(self) -> float:
        return self.terms * MemoryBank.chance_loss(self.recipe.K, nce=self.recipe.loss == "nce")


# train_CMC.py's defaults and the README's resnet50v1: L and ab, two ResNet-50s of half the width, NCE with the 4,096
# draws of the published weights (the code's default is 16,384); the rate drops at epochs 120, 160 and 200 of 240.
IMAGENET = CMCRecipe(
    encoder="resnet50",
    epochs=240,
    batch=128,
    lr=0.03,
    weight_decay=1e-4,
    schedule="step",
    milestones=(120 / 240, 160 / 240, 200 / 240),
    lr_per_epoch=True,
    views=VIEWS["cmc"],
)

# No published code runs CMC on small images: the ImageNet recipe with ResNet-18, STL-10's temperature, and the softmax,
# which the README reports as better.
SMALL = replace(IMAGENET, encoder="resnet18", loss="softmax", tau=0.1, views=VIEWS["cmc-32"])

# For two CPU cores. Centred like InstDisc.
TINY = replace(
    SMALL,
    encoder="tiny",
    epochs=24,
    lr=0.06,
    weight_decay=5e-4,
    schedule="cosine",
    warmup_epochs=1.0,
    lr_per_epoch=False,
    K=1024,
    centre=True,
    views=tuple(replace(view, size=24) for view in VIEWS["cmc-32"]),
)

RECIPES: dict[str, Recipe] = {"cmc/imagenet": IMAGENET, "cmc/32": SMALL, "cmc/small": small(TINY), "cmc/tiny": TINY}
