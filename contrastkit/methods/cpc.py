r"""CPC: Contrastive Predictive Coding, on images (v1: van den Oord et al. 2018, arXiv:1807.03748, Sec. 3.2; v2: Henaff
et al. 2019, arXiv:1905.09272).

.. math::
    L = -\sum_{i,j,k} \log \frac{\exp(\hat z_{i+k,j} \cdot z_{i+k,j})}
    {\exp(\hat z_{i+k,j} \cdot z_{i+k,j}) + \sum_l \exp(\hat z_{i+k,j} \cdot z_l)} \qquad \hat z_{i+k,j} = W_k c_{i,j}

An image is a grid of overlapping patches, each with a feature z. Masked convolutions summarise row i and the rows above
it in a context c; from it, a matrix W_k for each distance k predicts the patch k rows below, which has to be found
among all patches of all images of the batch. The information that distant patches share describes the image's content.

v2 predicts from all four sides, augments each patch separately, and avoids batch norm, whose statistics would reveal to
a context what it has not seen (Sec. 3.1). The recipes differ in this, and in sizes.

Where we depart from the papers (there is no official code; v2's App. A.2 gives the loss as pseudo-code): v1's encoder
has no norm at all, ours has layer norm in both versions; encoders are torchvision's, a ResNet-101 up to its third stage
for v1 as in the paper, a ResNet-50 for v2 (the paper's smaller one, not ResNet-161). v1 pads 60 of a patch's 64 pixels,
we enlarge them; v2's patches are distorted by View's operations, without AutoAugment, histograms, dropped channels and
elastic deformation. Adam has its usual betas, and weights are not averaged for evaluation. The loss is a mean over
each k's predictions and then over k and sides. v2's pseudo-code runs k over range(steps_to_ignore, steps_to_predict), a
single k with its 2 and 3; like later implementations we read the second number as the number of steps. The matrices W_k
have no bias, which its convolutions may have. v1 does not specify which k its five rows are (from 2 on here, since
nearer patches overlap), and describes its context network only as similar to a PixelCNN (here v2's).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contrastkit import dist, ops, rng
from contrastkit.augment import VIEWS, named_views, random_views
from contrastkit.bounds import COUNT, COUNT_OR_0, LAYERS, POSITIVE, SIDE, Interval
from contrastkit.errors import UserError
from contrastkit.methods.base import Method, Recipe
from contrastkit.methods.context import BuildContext
from contrastkit.methods.small import small
from contrastkit.optim import ParamGroup
from contrastkit.parts.encoder import PatchEncoder
from contrastkit.parts.heads import Tower, mlp
from contrastkit.parts.norm import sync_batch_norm
from contrastkit.types import Batch, Step


@dataclass(frozen=True, kw_only=True)
class CPCRecipe(Recipe):
    """CPC's hyper-parameters, named as in v2's pseudo-code (App. A.2)."""

    n_views: ClassVar[tuple[int, int | None]] = (1, 1)
    takes_module: ClassVar[bool] = False

    patch: Annotated[int, "side of a patch in pixels: 64 in v1 (Sec. 3.2), 80 in v2 (App. A.1)", SIDE]
    stride: Annotated[int, "pixels from one patch to the next: 32 in v1 (Sec. 3.2), 36 in v2 (App. A.1)", COUNT]
    stages: Annotated[int, "stages of a ResNet; v1 stops after the third (Sec. 3.2)", Interval(3, 4)] = 4
    norm: Annotated[Literal["layer", "group", "batch"], "norm of the encoder; batch norm leaks (v2 Sec. 3.1)"] = "layer"
    patch_views: Annotated[str, "named augmentation applied to each patch separately; empty for none"] = ""
    directions: Annotated[
        int, "sides to predict from: 1 is from above (v1), 4 is all sides (v2 Sec. 3.1)", Interval(1, 4)
    ] = 1
    steps_to_ignore: Annotated[int, "nearest rows to skip because their patches overlap (v2 App. A.2)", COUNT_OR_0]
    steps_to_predict: Annotated[int, "rows to predict, each with its own matrix (v1 Sec. 3.2, v2 App. A.2)", COUNT]
    target_dim: Annotated[
        int, "dimensions of prediction and target (v2 App. A.2); 0 predicts the feature itself (v1)", COUNT_OR_0
    ]
    tau: Annotated[float, "temperature: none in v1, 1 / emb_scale in v2 (App. A.2)", POSITIVE]
    blocks: Annotated[int, "residual blocks of the context network (v2 App. A.2)", LAYERS] = 5
    hidden: Annotated[int, "channels inside a residual block (v2 App. A.2)", COUNT] = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.patch_views:
            named_views(self.patch_views)

    @property
    def rows(self) -> int:
        """Rows of patches in a view."""
        return (self.views[0].size - self.patch) // self.stride + 1

    def encoder_options(self, context: BuildContext) -> dict[str, Any]:
        own = {"norm": self.norm, "stages": self.stages, "patch": self.patch, "stride": self.stride}
        return super().encoder_options(context) | own

    def build(self, context: BuildContext) -> "CPC":
        farthest = self.steps_to_ignore + self.steps_to_predict
        if self.rows <= farthest:
            raise UserError(
                f"views of {self.views[0].size} px have {max(self.rows, 0)} rows of patches (--patch {self.patch}, "
                f"--stride {self.stride}), too few to predict {farthest} ahead: lower --steps-to-predict or --patch"
            )
        return CPC(self, context)


@final
class CPC(Method[None]):
    """Prediction of patches from the rows before them; see the module docstring."""

    def __init__(self, recipe: CPCRecipe, context: BuildContext) -> None:
        super().__init__()
        self.tau, self.seed, self.patches = recipe.tau, context.seed, recipe.batch * recipe.rows**2
        self.steps = range(recipe.steps_to_ignore + 1, recipe.steps_to_ignore + recipe.steps_to_predict + 1)
        self.patch_view = None
        if recipe.patch_views:
            self.patch_view = replace(named_views(recipe.patch_views)[0], size=recipe.patch)
        encoder = recipe.build_encoder(context)
        # No bias: a component common to all keys shifts all logits of a query equally.
        head = mlp(encoder.dim, recipe.target_dim, last_bias=False) if recipe.target_dim else nn.Identity()
        self.online = Tower(encoder, head)
        self.batch_norm = recipe.norm == "batch"
        sides, dim = range(recipe.directions), recipe.target_dim or encoder.dim
        self.context = nn.ModuleList(PixelCNN(encoder.dim, recipe.hidden, recipe.blocks) for _ in sides)
        self.W = nn.ModuleList(
            nn.ModuleList(nn.Linear(encoder.dim, dim, bias=False) for _ in self.steps) for _ in sides
        )
        sync_batch_norm(self, context.world)

    def forward(self, batch: Batch, progress: float) -> Step[None]:
        encoder = self.online.encoder
        assert isinstance(encoder, PatchEncoder)
        z = encoder.encode(self.augmented(encoder.cut(batch.views[0]), batch.index, progress))  # [n, R, R, D]
        keys = dist.gather_keys(self.online.head(z).float().flatten(0, 2))  # [N R R, T] of all processes
        place = dist.local_rows(keys).view(z.shape[:3])  # of each patch in keys
        predictions, targets = [], []
        for turns, (context, W) in enumerate(zip(self.context, self.W, strict=True)):
            c = context(z.rot90(turns, (1, 2)))
            below = place.rot90(turns, (1, 2))
            assert isinstance(W, nn.ModuleList)
            for k, W_k in zip(self.steps, W.children(), strict=True):
                predictions.append(W_k(c[:, :-k]).flatten(0, 2))
                targets.append(below[:, k:].flatten())
        loss, top1 = look_up(predictions, targets, keys, tau=self.tau)
        return Step(loss=loss, memory=None, logs={"top1": top1})

    @torch.no_grad()
    def augmented(self, patches: Tensor, index: Tensor, progress: float) -> Tensor:
        """Augment each patch of [N, R, R, channels, patch, patch] by itself (v2, App. A.1); the draws are a function of
        (seed, progress, image, patch)."""
        if self.patch_view is None:
            return patches
        each = patches.shape[1] * patches.shape[2]
        number = torch.arange(each, device=index.device).repeat(len(index))
        with torch.autocast(patches.device.type, enabled=False):
            x = random_views(
                (patches.flatten(0, 2) * 255).round().to(torch.uint8),
                self.patch_view,
                seed=self.seed,
                time=rng.at_step(progress),
                index=index.repeat_interleave(each),
                v=-1 - number,  # views of whole images are numbered from 0
            )
        return x.unflatten(0, patches.shape[:3])

    def param_groups(self) -> list[ParamGroup]:
        return [ParamGroup(params=list(self.parameters()))]

    @property
    def compiled(self) -> list[nn.Module]:
        return [self.online.encoder.trunk, *self.context]  # the tower as a whole encodes whole images

    @property
    def notices(self) -> list[str]:
        if not self.batch_norm:
            return []
        return ["batch norm lets a context see part of what it must predict (CPC v2, Sec. 3.1): use --norm layer"]

    @property
    def chance_loss(self) -> float:
        return math.log(self.patches)


def look_up(
    predictions: Sequence[Tensor], targets: Sequence[Tensor], keys: Tensor, *, tau: float
) -> tuple[Tensor, Tensor]:
    """InfoNCE of each group of predictions [m_i, T] among all keys [M, T]; ``targets`` int64 [m_i] are their positives.

    Returns:
        The mean over the groups of their mean losses, and the share of predictions that rank their target first.
    """
    target = torch.cat(list(targets))
    # A key is the target of several groups: the gradient of keys[target] would be summed in no fixed order.
    positive = F.embedding(target, keys)
    loss, _, top1 = ops.infonce(torch.cat(list(predictions)).float(), positive, keys, tau=tau, exclude=target[:, None])
    means = torch.stack([part.mean() for part in loss.split([len(part) for part in targets])])
    return means.mean(), top1.float().mean()


class PixelCNN(nn.Module):
    """The context network (v2, App. A.2): features z [N, R, S, D] -> contexts c [N, R, S, D], which depend on their own
    row and the rows above it, and on nothing below."""

    def __init__(self, dim: int, hidden: int, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(dim, hidden, 1),
                nn.ReLU(inplace=True),
                nn.Conv2d(hidden, hidden, (1, 3), padding=(0, 1)),
                nn.ZeroPad2d((0, 0, 1, 0)),  # above, so that the next layer sees a row and the one above it
                nn.Conv2d(hidden, hidden, (2, 1)),
                nn.ReLU(inplace=True),
                nn.Conv2d(hidden, dim, 1),
            )
            for _ in range(blocks)
        )

    def forward(self, z: Tensor) -> Tensor:
        c = z.permute(0, 3, 1, 2)
        for block in self.blocks:
            c = c + block(c)
        return torch.relu(c).permute(0, 2, 3, 1)


# v1, Sec. 3.2: 32 GPUs with 16 images each, Adam at 2e-4. The duration is not given: as v2.
V1 = CPCRecipe(
    encoder="resnet101",
    epochs=200,
    batch=512,
    optimizer="adamw",  # without decay it is Adam
    lr=2e-4,
    weight_decay=0.0,
    schedule="constant",
    patch=64,
    stride=32,
    stages=3,
    patch_views="cpc-v1-patches",
    steps_to_ignore=1,
    steps_to_predict=5,
    target_dim=0,
    tau=1.0,
    views=VIEWS["cpc-v1"],
)
# v2, App. A.1 (training) and A.2 (loss).
V2 = replace(
    V1,
    encoder="resnet50",
    lr=4e-4,
    clip_norm=0.01,
    patch=80,
    stride=36,
    stages=4,
    patch_views="cpc-v2-patches",
    directions=4,
    steps_to_ignore=2,
    steps_to_predict=3,
    target_dim=64,
    tau=10.0,
    views=VIEWS["cpc-v2"],
)

# Lightning-bolts' CIFAR-10 row: patches of 8 pixels every 4, Adam at 4e-5, batch 64, 1000 epochs; there a ResNet-101.
CIFAR_V1 = replace(
    V1, encoder="resnet18", epochs=1000, batch=64, lr=4e-5, patch=8, stride=4, stages=4, patch_views="",
    views=VIEWS["cpc-cifar"],
)  # fmt: skip
CIFAR_V2 = replace(
    CIFAR_V1, patch_views="cpc-cifar-patches", directions=4, steps_to_ignore=2, steps_to_predict=3, target_dim=64,
    tau=10.0, views=tuple(replace(view, jitter_p=0.0, gray_p=0.0) for view in VIEWS["cpc-cifar"]),
)  # fmt: skip

# For two CPU cores: 3 x 3 patches, whose outer rows do not overlap; without emb_scale. v1's patches shift by a pixel as
# in the paper (Sec. 3.2): measured on held-out images, this doubles what the encoder learns.
TINY_V2 = replace(
    CIFAR_V2, encoder="tiny", epochs=24, batch=64, lr=2e-3, schedule="cosine", warmup_epochs=1.0, patch=12, stride=6,
    steps_to_ignore=1, steps_to_predict=1, tau=1.0, blocks=2, hidden=64,
    views=tuple(replace(view, size=24) for view in CIFAR_V2.views),
)  # fmt: skip
TINY_V1 = replace(
    TINY_V2,
    directions=1,
    target_dim=0,
    patch_views="cpc-v1-patches",
    views=tuple(replace(view, size=24) for view in CIFAR_V1.views),
)
DIGITS_V2 = replace(TINY_V2, epochs=30, patch=16, stride=8, patch_views="", views=VIEWS["digits"][:1])

RECIPES: dict[str, Recipe] = {
    "cpc-v1/imagenet": V1,
    "cpc-v1/32": CIFAR_V1,
    "cpc-v1/small": small(TINY_V1, patch=48, stride=24),
    "cpc-v1/tiny": TINY_V1,
    "cpc-v1/digits": replace(DIGITS_V2, directions=1, target_dim=0),
    "cpc-v2/imagenet": V2,
    "cpc-v2/32": CIFAR_V2,
    "cpc-v2/small": small(TINY_V2, patch=48, stride=24),
    "cpc-v2/tiny": TINY_V2,
    "cpc-v2/digits": DIGITS_V2,
}
