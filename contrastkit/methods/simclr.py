r"""SimCLR (Chen et al. 2020, arXiv:2002.05709; v2: Chen et al. 2020, arXiv:2006.10029).

.. math::
    \ell_{i,j} = -\log \frac{\exp(\mathrm{sim}(z_i, z_j) / \tau)}
    {\sum_{k=1}^{2N} 1_{[k \neq i]} \exp(\mathrm{sim}(z_i, z_k) / \tau)}
    \qquad z = g(f(x)) \qquad \mathrm{sim}(u, v) = u \cdot v / (\|u\| \|v\|)

Both views of N images go through one encoder f and a projector g; each row z_i looks up its other view z_j among all
other rows of the batch, the dictionary. The projector absorbs the invariances of the loss and is discarded (v1); the
first layer of a deeper one is worth keeping, so v2 keeps f and that layer.

The loss is the official code's loss_a + loss_b, each a mean over N images: twice the mean over 2N rows of the paper's
Algorithm 1. Published learning rates and weight decays refer to it. The factor matters to LARS only relative to weight
decay, and for biases and norms, which it does not adapt.

More than two views are SwAV's multi-crop (arXiv:2006.09882, Sec. 4.2; the loss of SimCLR with it is our reading). The
first two views, the full-size crops, are the dictionary, and every other crop z_v looks each of them up,

.. math::
    L = \frac{1}{(V - 1) N} \sum_{t = 1}^{2} \sum_{v \neq t} \sum_{i = 1}^{N} \ell(z_{v, i}, z_{t, i})

with the full-size crops of the other images as negatives, never those of its own. With two views it is the loss above.

Where we depart from the official code: images are normalised with ImageNet's statistics (the code feeds [0, 1]),
resizing is bilinear instead of bicubic, a wider encoder's stem keeps its 64 channels, linear layers have torch's
default initialisation, and arithmetic is bfloat16 where the device supports it. v2's memory (``memory``) follows the
paper's brief description, because its code was not published: the keys of both views under a momentum average, as in
MoCo, are negatives of later batches. Selective kernels: ``--encoder timm:skresnet50d``, with ResNet-D's stem as in v2,
in one width only.
"""

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contrastkit import dist, losses, ops
from contrastkit.augment import VIEWS
from contrastkit.bounds import COUNT, COUNT_OR_0, LAYERS, NOT_NEGATIVE, POSITIVE, SHARE, WIDTH
from contrastkit.errors import UserError
from contrastkit.methods.base import Method, Recipe
from contrastkit.methods.context import BuildContext
from contrastkit.methods.small import small
from contrastkit.optim import ParamGroup, decay_groups
from contrastkit.parts.dictionary import Queue
from contrastkit.parts.heads import Tower, mlp
from contrastkit.parts.norm import sync_batch_norm
from contrastkit.parts.target import Target
from contrastkit.types import Batch, Step

SMALLEST = 256  # the smallest batch of Fig. 9


@dataclass(frozen=True, kw_only=True)
class SimCLRRecipe(Recipe):
    """SimCLR's hyper-parameters."""

    n_views: ClassVar[tuple[int, int | None]] = (2, None)

    lr: Annotated[
        float,
        "peak learning rate for this batch size: 0.3 batch / 256, or 0.075 sqrt(batch) for small ones (v1 App. B.1)",
        NOT_NEGATIVE,
    ]
    tau: Annotated[float, "temperature: 0.1 on ImageNet, 0.5 on CIFAR-10 (v1 Sec. 5.1, App. B.9; README)", POSITIVE]
    width: Annotated[
        float,
        "width multiplier of the encoder's stages: 1, 2 and 4 in v1 (Table 6), 1, 2 and 3 in v2 (Table 1)",
        WIDTH,
    ] = 1.0
    zero_init: Annotated[bool, "start every residual branch of a ResNet at zero (resnet.py)"] = True
    projector: Annotated[
        Literal["none", "linear", "nonlinear"], "head between encoder and loss (v1 Sec. 4.2, Fig. 8)"
    ] = "nonlinear"
    layers: Annotated[int, "linear layers of a non-linear projector: 2 in v1 (Sec. 2.1), 3 in v2 (Sec. 2)", LAYERS] = 2
    hidden: Annotated[
        int | None, "width of the projector's hidden layers; none is the encoder's width (code)", COUNT
    ] = None
    dim: Annotated[int, "dimensions of z (v1 Sec. 2.3)", COUNT] = 128
    finetune_from: Annotated[
        int, "layers of the projector to keep with the encoder: 0 in v1, 1 in v2 (Sec. 2; ft_proj_selector)"
    ] = 0
    memory: Annotated[
        int,
        "extra negatives: keys of a momentum encoder, kept across batches; 0 disables them, v2 uses 65536 (Sec. 2, 3)",
        COUNT_OR_0,
    ] = 0
    m: Annotated[float, "momentum of the memory's encoder (v2 Sec. 3)", SHARE] = 0.999

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layers < 2:
            raise UserError(f"--layers must be at least 2, not {self.layers}; for one layer: --projector linear")
        hidden_layers = self.layers - 1 if self.projector == "nonlinear" else 0
        if not 0 <= self.finetune_from <= hidden_layers:
            raise UserError(
                f"--finetune-from must lie in 0 to {hidden_layers}, the hidden layers of the projector, "
                f"not {self.finetune_from}"
            )
        if self.memory and len(self.views) > 2:
            raise UserError(f"--memory takes two views, not {len(self.views)}: choose other --views, or --memory 0")

    def encoder_options(self, context: BuildContext) -> dict[str, Any]:
        """Including the projector layers that are kept."""
        return super().encoder_options(context) | {
            "width": self.width,
            "zero_init": self.zero_init,
            "projector_layers": self.finetune_from,
            "projector_width": self.hidden,
        }

    def build(self, context: BuildContext) -> "SimCLR":
        if self.batch < 2:
            raise UserError("a batch of one image has no negatives: raise --batch to 2 or more")
        return SimCLR(self, context)


@final
class SimCLR(Method[Tensor | None]):
    """Contrast within the batch; see the module docstring."""

    def __init__(self, recipe: SimCLRRecipe, context: BuildContext) -> None:
        super().__init__()
        self.tau, self.m, self.batch, self.memory = recipe.tau, recipe.m, recipe.batch, recipe.memory
        self.images = context.images
        encoder = recipe.build_encoder(context)
        dim = encoder.dim if recipe.projector == "none" else recipe.dim
        head: nn.Module = nn.Identity()
        if recipe.projector != "none":  # batch norm after every linear layer, without shift after the last
            hidden = recipe.hidden or encoder.dim
            layers = recipe.layers - recipe.finetune_from if recipe.projector == "nonlinear" else 1
            widths = [encoder.dim, *[hidden] * (layers - 1), dim]
            head = mlp(*widths, norm="batch", bias=False, last_norm="scale", last_bias=False)
        self.online = Tower(encoder, head)
        if self.memory:
            self.target = Target(self.online)
            self.queue = Queue(recipe.memory, dim, torch.Generator().manual_seed(context.seed))
        sync_batch_norm(self, context.world)

    def forward(self, batch: Batch, progress: float) -> Step[Tensor | None]:
        full = 2 * len(batch.index)  # first views, then second views
        z = F.normalize(self.online(batch.views).float(), dim=1)  # [V n, C]
        z, small = z[:full], z[full:]
        loss, _, top1 = ops.ntxent(z, tau=self.tau, across_ranks=True)  # [2n]
        if len(small):
            of_small, hits = self.look_up(small, z)
            loss, top1 = torch.cat([loss, of_small]), torch.cat([top1, hits])
        k = None
        if self.memory:
            k = self.keys(batch)
            other = z.roll(len(z) // 2, dims=0)  # [2n, C]
            among_keys, _, hits = ops.infonce(z, other, self.queue.keys, tau=self.tau)
            loss, top1 = losses.infonce_of_union(loss, among_keys), top1 & hits
        return Step(loss=2 * loss.mean(), memory=k, logs={"top1": top1.float().mean()})

    def look_up(self, small: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """The small crops [S n, C] look up each of their image's full-size crops z [2n, C] among those of the other
        images, of all processes: loss and hits [2 S n]."""
        n = len(z) // 2
        keys = dist.gather_keys(z)  # [2N, C]
        image = torch.arange(n, device=z.device) + dist.rank() * n
        positive = torch.cat([view.repeat(len(small) // n, 1) for view in z.chunk(2)])
        ids = image.repeat(len(positive) // n), dist.gather(image.repeat(2))
        loss, _, top1 = ops.infonce(small.repeat(2, 1), positive, keys, tau=self.tau, ids=ids)
        return loss, top1

    @torch.no_grad()
    def keys(self, batch: Batch) -> Tensor:
        """Keys of this batch for the memory: [2N, C] of all processes, all first views, then all second views."""
        k = F.normalize(self.target(batch.views).float(), dim=1)
        return torch.cat([dist.gather(view) for view in k.chunk(2)])

    @torch.no_grad()
    def after_step(self, batch: Batch, step: Step[Tensor | None], progress: float) -> None:
        if step.memory is not None:
            self.target.update(self.online, self.m)
            self.queue.push(step.memory)

    def param_groups(self) -> list[ParamGroup]:
        return decay_groups(self.online.parameters())

    @property
    def notices(self) -> list[str]:
        lines = []
        if self.batch < SMALLEST:
            lines.append(
                f"a batch of {self.batch} gives each view {2 * self.batch - 2 + self.memory} negatives; the paper's "
                f"smallest batch is {SMALLEST}, and larger ones do better (Fig. 9)"
            )
        if self.memory >= 2 * self.images:
            lines.append(
                f"--memory {self.memory} holds both views of all {self.images} images, so each image is among its own "
                "negatives: lower --memory"
            )
        return lines

    @property
    def directions(self) -> int:
        return 2

    @property
    def chance_loss(self) -> float:
        return 2 * math.log(2 * self.batch - 1 + self.memory)


# Sec. 2.3, the setting of all ablations: LARS of rate 0.3 x 4096 / 256, 10 of 100 epochs of warm-up, cosine per step.
V1 = SimCLRRecipe(
    encoder="resnet50",
    epochs=100,
    batch=4096,
    optimizer="lars",
    lr=4.8,
    lr_inside_momentum=True,
    weight_decay=1e-6,
    warmup_epochs=10.0,
    tau=0.1,
    views=VIEWS["simclr"],
)
# The official README at the time of v2; its rate of 0.075 sqrt(4096) is again 4.8. The paper's table is for 800 epochs.
V2 = replace(V1, weight_decay=1e-4, layers=3, finetune_from=1)

# The official README's CIFAR-10 command (rate 1.0 x 512 / 256), "around 91%" by its account; no other published code
# reports more.
CIFAR = replace(
    V1,
    encoder="resnet18",
    epochs=1000,
    batch=512,
    lr=2.0,
    tau=0.5,
    views=VIEWS["simclr-cifar"],
)

# For two CPU cores. LARS is for batches of thousands (Sec. 2.2); on digits, SGD was ahead after two epochs.
TINY = replace(
    CIFAR,
    encoder="tiny",
    epochs=24,
    batch=128,
    optimizer="sgd",
    lr=0.12,
    weight_decay=1e-4,
    warmup_epochs=1.0,
    tau=0.2,
    hidden=512,
    zero_init=False,
    views=tuple(replace(view, size=24, crop_min=0.2) for view in VIEWS["simclr-cifar"]),
)
DIGITS = replace(TINY, epochs=30, views=VIEWS["digits"])

RECIPES: dict[str, Recipe] = {
    "simclr-v1/imagenet": V1,
    "simclr-v2/imagenet": V2,
    "simclr-v1/32": CIFAR,
    "simclr-v2/32": replace(CIFAR, weight_decay=1e-4, layers=3, finetune_from=1),
    "simclr-v1/small": small(TINY),
    "simclr-v2/small": small(TINY, layers=3, finetune_from=1),
    "simclr-v1/tiny": TINY,
    "simclr-v2/tiny": replace(TINY, layers=3, finetune_from=1),
    "simclr-v1/digits": DIGITS,
    "simclr-v2/digits": replace(DIGITS, layers=3, finetune_from=1),
}
