r"""DINO: Emerging Properties in Self-Supervised Vision Transformers (Caron et al. 2021, arXiv:2104.14294).

.. math::
    \min_{\theta_s} \sum_{x \in \{x_1^g, x_2^g\}} \; \sum_{x' \in V,\, x' \neq x} H(P_t(x), P_s(x')) \qquad
    P_s(x)^{(i)} = \frac{\exp(g_{\theta_s}(x)^{(i)} / \tau_s)}{\sum_{k=1}^K \exp(g_{\theta_s}(x)^{(k)} / \tau_s)}
    \qquad P_t(x) = \mathrm{softmax}((g_{\theta_t}(x) - c) / \tau_t)

    \theta_t \leftarrow \lambda \theta_t + (1 - \lambda) \theta_s \qquad
    c \leftarrow m c + (1 - m) \frac{1}{B} \sum_{i=1}^B g_{\theta_t}(x_i)

The student sees all views of an image; the teacher, its momentum average, only the two global ones. The output of the
student for any view should match the teacher's for another. There are no negatives: a low temperature (sharpening)
keeps the teacher from a uniform output, and the centre c from always favouring one dimension (Sec. 3.1, 5.3).

Where we depart from the official code: the last layer's scores are float32 even if the encoder runs in bfloat16,
resizing is bilinear instead of bicubic, positions are interpolated for local crops with antialiasing (timm's), and drop
path is a function of (seed, progress, process), so that one process and two differ.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contrastkit import dist, losses, rng
from contrastkit.augment import VIEWS
from contrastkit.bounds import AT_LEAST_2, BELOW_1, COUNT, LAYERS, NOT_NEGATIVE, PERIOD, POSITIVE, SHARE
from contrastkit.methods.base import Method, Recipe
from contrastkit.methods.context import BuildContext
from contrastkit.methods.small import small
from contrastkit.optim import ParamGroup, decay_groups
from contrastkit.parts.build import check_patches
from contrastkit.parts.heads import Norm, Tower, mlp
from contrastkit.parts.norm import sync_batch_norm
from contrastkit.parts.target import Target, momentum
from contrastkit.types import Batch, Step


@dataclass(frozen=True, kw_only=True)
class DINORecipe(Recipe):
    """DINO's hyper-parameters."""

    n_views: ClassVar[tuple[int, int | None]] = (2, None)

    out_dim: Annotated[int, "dimensions K of the output (Sec. 3.1; --out_dim)", AT_LEAST_2] = 65536
    hidden: Annotated[int, "width of the head's hidden layers (Sec. 3.1)", COUNT] = 2048
    layers: Annotated[int, "linear layers of the head before the last one (Sec. 3.1)", LAYERS] = 3
    bottleneck: Annotated[int, "dimensions of the head's normalised bottleneck (vision_transformer.py)", COUNT] = 256
    head_bn: Annotated[bool, "batch norm in the head (--use_bn_in_head)"] = False
    norm_last_layer: Annotated[bool, "keep the last layer's rows at unit length (--norm_last_layer)"] = True
    freeze_epochs: Annotated[float, "epochs in which the last layer is frozen (--freeze_last_layer)", PERIOD] = 1.0
    tau_s: Annotated[float, "temperature of the student (Sec. 3.1)", POSITIVE] = 0.1
    tau_t: Annotated[float, "temperature of the teacher; unstable above 0.07 (--teacher_temp)", POSITIVE] = 0.04
    warmup_tau_t: Annotated[float, "initial temperature of the teacher (--warmup_teacher_temp)", POSITIVE] = 0.04
    warmup_teacher_epochs: Annotated[
        int, "epochs over which the teacher's temperature rises, once per epoch (--warmup_teacher_temp_epochs)", PERIOD
    ] = 0
    m: Annotated[float, "initial momentum lambda of the teacher; 0.9995 for batch 256 (--momentum_teacher)", SHARE] = (
        0.996
    )
    m_cos: Annotated[bool, "raise m to 1 along a cosine, at every step (Sec. 3.1)"] = True
    centre_m: Annotated[float, "momentum of the centre (Eq. 4)", SHARE] = 0.9
    clip: Annotated[float, "clip each tensor's gradient to this norm; 0 disables it (--clip_grad)", NOT_NEGATIVE] = 3.0
    drop_path: Annotated[float, "fraction of a ViT's residual branches dropped, in the student only", BELOW_1] = 0.0

    def build(self, context: BuildContext) -> "DINO":
        if self.head_bn:
            self.require_two_images("--head-bn, batch norm in the head,")
        return DINO(self, context)

    def encoder_options(self, context: BuildContext) -> dict[str, Any]:
        # Positions are interpolated to the size of each crop.
        vit = {"dynamic_img_size": True, "drop_path_rate": self.drop_path}
        return super().encoder_options(context) | {"vit": vit}

    def teacher_temperature(self, progress: float) -> float:
        epoch, last = math.floor(progress * self.epochs + 1e-6), self.warmup_teacher_epochs - 1
        if epoch > last:
            return self.tau_t
        return self.warmup_tau_t + (self.tau_t - self.warmup_tau_t) * epoch / max(last, 1)


class DINOHead(nn.Module):
    """A projector, normalised, then a linear layer of unit rows (Sec. 3.1): [N, dim] -> cosines, float32 [N, K]."""

    def __init__(self, dim: int, recipe: DINORecipe) -> None:
        super().__init__()
        hidden = [recipe.hidden] * (recipe.layers - 1)
        norm: Norm = "batch" if recipe.head_bn else "none"
        self.mlp = mlp(dim, *hidden, recipe.bottleneck, norm=norm, bias=not recipe.head_bn, activation=nn.GELU)
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        self.last = nn.Linear(recipe.bottleneck, recipe.out_dim, bias=False)  # only the directions of its rows matter
        self.length = None if recipe.norm_last_layer else nn.Parameter(torch.ones(recipe.out_dim, 1))

    def forward(self, x: Tensor) -> Tensor:
        z = F.normalize(self.mlp(x).float(), dim=1)
        with torch.autocast("cuda" if z.is_cuda else "cpu", enabled=False):  # bfloat16 over tau_t is too coarse
            w = F.normalize(self.last.weight, dim=1)
            return F.linear(z, w if self.length is None else w * self.length)


@final
class DINO(Method[Tensor]):
    """Self-distillation with no labels; see the module docstring."""

    centre: Tensor  # [K]

    def __init__(self, recipe: DINORecipe, context: BuildContext) -> None:
        super().__init__()
        self.recipe, self.images, self.seed = recipe, context.images, context.seed
        encoder = recipe.build_encoder(context)
        for view in recipe.views:
            check_patches(encoder.trunk, view.size)
        self.online = Tower(encoder, DINOHead(encoder.dim, recipe))
        self.target = Target(self.online)
        self.drops = False
        if recipe.drop_path and recipe.encoder.startswith("timm:"):
            from contrastkit.parts.vit import drop_paths

            self.drops = bool(drop_paths(self.online))
            for path in drop_paths(self.target):
                path.drop_prob = 0.0
        self.register_buffer("centre", torch.zeros(recipe.out_dim))
        sync_batch_norm(self, context.world)

    def forward(self, batch: Batch, progress: float) -> Step[Tensor]:
        n, tau_t = len(batch.index), self.recipe.teacher_temperature(progress)
        teacher = self.target(batch.views[:2]).view(2, n, -1)  # [2, n, K]
        with self.draws(progress):
            student = self.online(batch.views).view(len(batch.views), n, -1)  # [V, n, K]
        loss = losses.dino(student, teacher, self.centre, tau_s=self.recipe.tau_s, tau_t=tau_t)  # [n]
        entropy = torch.special.entr(losses.sharpened(teacher, self.centre, tau_t)).sum(-1).mean()
        # [K], over both views and all processes: the centre is its running average.
        mean = dist.all_reduce_mean(teacher.mean((0, 1)))
        return Step(loss=loss.mean(), memory=mean, logs={"entropy": entropy})

    @contextmanager
    def draws(self, progress: float) -> Iterator[None]:
        """Make drop path's draws from torch's generator a function of (seed, progress, process)."""
        if not (self.drops and self.training):
            yield
            return
        rank = torch.tensor([dist.rank()])
        u = rng.uniform(self.seed, rng.beside_epochs(progress), rank, rng.DROP_PATH, 1)
        device = self.centre.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(int(u.item() * 2**53))
            yield

    @torch.no_grad()
    def after_step(self, batch: Batch, step: Step[Tensor], progress: float) -> None:
        self.target.update(self.online, momentum(progress, self.recipe.m, rises=self.recipe.m_cos))
        self.centre.lerp_(step.memory, 1 - self.recipe.centre_m)

    def param_groups(self) -> list[ParamGroup]:
        """Biases and norms are not decayed; gradients are clipped tensor by tensor; the last layer starts later."""
        head, clip = self.online.head, self.recipe.clip or None
        assert isinstance(head, DINOHead)
        last = [p for p in (head.last.weight, head.length) if isinstance(p, nn.Parameter)]
        rest = [p for p in self.online.parameters() if all(p is not q for q in last)]
        frozen_until = self.recipe.freeze_epochs / self.recipe.epochs
        groups = [replace(group, clip=clip) for group in decay_groups(rest)]
        return [*groups, ParamGroup(params=last, clip=clip, frozen_until=frozen_until)]

    @property
    def notices(self) -> list[str]:
        recipe, lines = self.recipe, []
        if recipe.out_dim > self.images:
            lines.append(f"more output dimensions ({recipe.out_dim}) than images ({self.images}): lower --out-dim")
        if recipe.freeze_epochs >= recipe.epochs:
            lines.append(
                f"the last layer is never trained: --freeze-epochs {recipe.freeze_epochs:g} of {recipe.epochs}"
            )
        if recipe.drop_path and not self.drops:
            lines.append(
                f"--drop-path {recipe.drop_path:g} has no effect: {recipe.encoder} is not a vision transformer"
            )
        return lines

    @property
    def chance_loss(self) -> float:
        """For a student with uniform output; one that always predicts the same dimension has a loss of 0."""
        return math.log(self.recipe.out_dim)


# main_dino.py's defaults, the README's "vanilla" run: 8 GPUs of 64 images, AdamW of rate 5e-4 x 512 / 256.
IMAGENET = DINORecipe(
    encoder="timm:vit_small_patch16_224",
    epochs=100,
    batch=512,
    optimizer="adamw",
    lr=1e-3,
    final_lr=1e-6,
    weight_decay=0.04,
    final_weight_decay=0.4,
    warmup_epochs=10.0,
    drop_path=0.1,
    views=VIEWS["dino"],
)
# The README's command for ResNet-50: rate 0.03 x 512 / 256.
R50 = replace(
    IMAGENET,
    encoder="resnet50",
    optimizer="sgd",
    lr=0.06,
    weight_decay=1e-4,
    final_weight_decay=None,
    drop_path=0.0,
    views=VIEWS["dino-r50"],
)
# lightly's cifar10_benchmark.py: ResNet-18, 3x3 stem, two crops, a head of two layers with batch norm.
CIFAR = replace(
    R50,
    encoder="resnet18",
    epochs=200,
    batch=128,
    lr=0.06,
    final_lr=0.0,
    weight_decay=5e-4,
    warmup_epochs=0.0,
    lr_per_epoch=True,
    out_dim=2048,
    layers=2,
    head_bn=True,
    freeze_epochs=0.0,
    m=0.99,
    m_cos=False,
    clip=0.0,
    views=VIEWS["dino-32"],
)

# For two CPU cores.
_GLOBAL = tuple(replace(view, size=24, crop_min=0.3) for view in VIEWS["dino-32"])
_LOCAL = replace(_GLOBAL[0], size=16, crop_min=0.1, crop_max=0.3)
TINY = replace(
    CIFAR,
    encoder="tiny",
    epochs=24,
    lr=0.1,
    warmup_epochs=1.0,
    lr_per_epoch=False,
    out_dim=1024,
    hidden=512,
    clip=3.0,
    freeze_epochs=1.0,
    views=(*_GLOBAL, _LOCAL, _LOCAL),
)
# To an untrained encoder all digits are similar: at the usual temperature the teacher is uniform, and the loss stays at
# log(out_dim); at a lower one, a single dimension wins unless the centre is fast. Chosen on held-out digits.
DIGITS = replace(
    TINY,
    epochs=24,
    batch=64,
    lr=0.04,
    out_dim=256,
    tau_t=0.01,
    warmup_tau_t=0.01,
    centre_m=0.5,
    views=VIEWS["digits-strong"],
)

RECIPES: dict[str, Recipe] = {
    "dino/imagenet": IMAGENET,
    "dino/imagenet-r50": R50,
    "dino/32": CIFAR,
    "dino/small": small(TINY),
    "dino/tiny": TINY,
    "dino/digits": DIGITS,
}
