r"""SimCLR v2's last step: a fine-tuned network teaches a student on unlabelled images (Chen et al. 2020,
arXiv:2006.10029, Sec. 2).

.. math::
    L = - \alpha \sum_{x} T^2 \sum_y P^T(y | x; T) \log P^S(y | x; T) - (1 - \alpha) \sum_{(x, y)} \log P^S(y | x)
    \qquad P(y | x; T) \propto e^{f(x)[y] / T}

The second sum is over the labelled images among the training images (Eq. 3); alpha = 1, the paper's default, needs none
(Eq. 2). The student is as large as the teacher, self-distillation, or smaller; a large teacher is best distilled into
its own size first. Both see the same random crop and flip, without distortion of colours (Sec. 3).

By default the student is built like the teacher, with the projector layer that v2 keeps. It starts at random, as a
smaller one must; the paper does not say otherwise of one of the same size. ``--init-from`` starts it at other weights,
such as those of the pre-training.

Where we depart from the official code (tf2/colabs/distillation_self_training.ipynb): images are normalised with
ImageNet's statistics. The factor T^2, which keeps the size of gradients, is the code's, the paper has none.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Any, Self, final

import torch.nn.functional as F
from torch import Tensor

from contrastkit.augment import VIEWS
from contrastkit.bounds import COUNT, COUNT_OR_0, POSITIVE, SHARE, WIDTH
from contrastkit.data.source import Source
from contrastkit.errors import UserError
from contrastkit.losses import soft_cross_entropy
from contrastkit.methods.base import Recipe
from contrastkit.methods.context import BuildContext
from contrastkit.methods.distillation import Distillation, DistillationRecipe
from contrastkit.methods.small import small
from contrastkit.optim import ParamGroup, decay_groups
from contrastkit.parts.teacher import Teacher
from contrastkit.types import Batch, Step


@dataclass(frozen=True, kw_only=True)
class SimCLRDistillRecipe(DistillationRecipe):
    """Hyper-parameters of SimCLR v2's distillation, with the names of SimCLR's."""

    weighted = {"alpha": ("T",)}

    T: Annotated[
        float,
        "temperature of both networks' outputs: 0.1 for self-distillation, 1 for a larger teacher (Sec. 3)",
        POSITIVE,
    ]
    alpha: Annotated[float, "weight of the teacher, 1 - alpha is that of the labels there are (Eq. 3)", SHARE] = 1.0
    width: Annotated[float, "width multiplier of the encoder's stages; by default the teacher's", WIDTH] = 1.0
    finetune_from: Annotated[
        int, "projector layers kept with the encoder (Sec. 2); by default as many as the teacher has", COUNT_OR_0
    ] = 1
    hidden: Annotated[int | None, "width of these layers; none is the encoder's width", COUNT] = None

    @classmethod
    def student(cls, teacher: Teacher) -> str | None:
        return teacher.name

    def for_teacher(self, teacher: Teacher, source: Source, encoder: str | None) -> Self:
        """Also with the teacher's architecture, unless the user asks for another encoder."""
        recipe = super().for_teacher(teacher, source, encoder)
        if encoder is not None:
            return recipe
        kind = teacher.kind
        return replace(
            recipe,
            encoder=teacher.name,
            width=kind.get("width", 1.0),
            finetune_from=kind.get("projector_layers", 0),
            hidden=kind.get("projector_width"),
        )

    def encoder_options(self, context: BuildContext) -> dict[str, Any]:
        """Including the projector layers that are kept."""
        kept = {"projector_layers": self.finetune_from, "projector_width": self.hidden}
        return super().encoder_options(context) | {"width": self.width} | kept

    @property
    def uses_labels(self) -> bool:
        return self.alpha < 1

    def check(self, source: Source) -> None:
        """Also that there are labels where they have a weight."""
        super().check(source)
        if self.uses_labels and (source.labels is None or not bool((source.labels >= 0).any())):
            raise UserError(
                f"--alpha {self.alpha:g} weighs labels, and no training image of {source.name} has one: use --alpha 1"
            )

    def build(self, context: BuildContext) -> "SimCLRDistill":
        if self.finetune_from:
            self.require_two_images("a projector layer, which has a batch norm,")
        return SimCLRDistill(self, context)


@final
class SimCLRDistill(Distillation[None]):
    """The teacher's outputs as targets; see the module docstring."""

    labels: Tensor | None

    def __init__(self, recipe: SimCLRDistillRecipe, context: BuildContext) -> None:
        super().__init__(recipe, context)
        self.recipe, self.T, self.alpha = recipe, recipe.T, recipe.alpha
        self.register_buffer("labels", context.labels if recipe.alpha < 1 else None, persistent=False)

    def forward(self, batch: Batch, progress: float) -> Step[None]:
        (x,) = batch.views
        s = self.online(x).float()
        _, t = self.teacher(x)
        loss = self.alpha * soft_cross_entropy(s, t, T=self.T).mean()
        logs = {"agreement": (s.argmax(1) == t.argmax(1)).float().mean()}
        if self.labels is not None:
            # Labelled images count as often as they come, as in the sums of Eq. 3: the mean is over all images.
            y = self.labels[batch.index]
            loss = loss + (1 - self.alpha) * F.cross_entropy(s, y, ignore_index=-1, reduction="sum") / len(y)
        return Step(loss=loss, memory=None, logs=logs)

    @property
    def notices(self) -> list[str]:
        own, kind = self.recipe, self.teacher.kind
        if own.T == 1 or own.alpha == 0 or (own.encoder, own.width) == (kind["name"], kind.get("width", 1.0)):
            return []
        return [
            f"T is {own.T:g}: the paper has 0.1 for a student built like its teacher, which this one is not, and 1 for "
            "a smaller one (--T 1)"
        ]

    def param_groups(self) -> list[ParamGroup]:
        return decay_groups(self.online.parameters())


# Sec. 3: 400 epochs with pre-training's batch and schedule, LARS of rate 0.1 sqrt(4096) after 5 % of warm-up.
IMAGENET = SimCLRDistillRecipe(
    encoder="resnet50",
    epochs=400,
    batch=4096,
    optimizer="lars",
    lr=6.4,
    lr_inside_momentum=True,
    weight_decay=1e-4,
    warmup_epochs=20.0,
    T=0.1,
    views=VIEWS["simclr-distill"],
)
# The paper has no small images: the rate and the batch of SimCLR on CIFAR-10.
CIFAR = replace(
    IMAGENET,
    encoder="resnet18",
    batch=512,
    lr=2.0,
    epochs=400,
    views=VIEWS["simclr-distill-32"],
)

# For two CPU cores. Without LARS, which undoes it, a temperature of 0.1 would make gradients a tenth as large.
TINY = replace(
    CIFAR,
    encoder="tiny",
    epochs=24,
    batch=128,
    optimizer="sgd",
    lr=0.1,
    lr_inside_momentum=False,
    weight_decay=5e-4,
    warmup_epochs=1.0,
    T=1.0,
)

RECIPES: dict[str, Recipe] = {
    "simclr-v2-distill/imagenet": IMAGENET,
    "simclr-v2-distill/imagenet-smaller": replace(IMAGENET, T=1.0),
    "simclr-v2-distill/32": CIFAR,
    "simclr-v2-distill/small": small(TINY, views=tuple(replace(v, size=96) for v in VIEWS["simclr-distill"])),
    "simclr-v2-distill/tiny": TINY,
}
