r"""ERM: empirical risk minimisation (Vapnik 1998), the baseline of methods for several environments in the comparison
of Gulrajani & Lopez-Paz 2020 (arXiv:2007.01434): cross-entropy over all images, whatever their environment.

.. math::
    L = \frac{1}{n} \sum_i H(y_i, f(x_i))

The comparison draws as many images of every environment for a batch; ours has them as they come.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, final

from contrastkit.augment import VIEWS
from contrastkit.methods.base import Recipe
from contrastkit.methods.context import BuildContext
from contrastkit.methods.small import small
from contrastkit.methods.supervised import Supervised, SupervisedRecipe
from contrastkit.types import Batch, Step


@dataclass(frozen=True, kw_only=True)
class ERMRecipe(SupervisedRecipe):
    """ERM's hyper-parameters: those of any training."""

    needs_environments: ClassVar[bool] = False

    def build(self, context: BuildContext) -> "ERM":
        return ERM(self, context)


@final
class ERM(Supervised[None]):
    """Cross-entropy; see the module docstring."""

    def forward(self, batch: Batch, progress: float) -> Step[None]:
        out = self.outputs(batch)
        return Step(loss=out.losses.mean(), memory=None, logs={"top1": out.top1})


# DomainBed's defaults (hparams_registry.py): Adam, 5,000 steps of 32 images of each environment, which for PACS, with
# three of four environments in a batch, are 60 epochs.
IMAGENET = ERMRecipe(
    encoder="resnet50",
    epochs=60,
    batch=96,
    optimizer="adamw",
    lr=5e-5,
    weight_decay=0.0,
    schedule="constant",
    views=VIEWS["domainbed"],
)
# Its defaults for small images, 64 of each of two environments; a ResNet-18 instead of its small network, and flips.
CIFAR = replace(
    IMAGENET,
    encoder="resnet18",
    batch=128,
    lr=1e-3,
    views=tuple(replace(view, size=32, jitter_p=0.0, gray_p=0.0) for view in VIEWS["domainbed"]),
)

# For two CPU cores: the numbers of the supervised rows of crd.
TINY = replace(
    CIFAR,
    encoder="tiny",
    epochs=24,
    batch=64,
    optimizer="sgd",
    lr=0.05,
    weight_decay=5e-4,
    schedule="cosine",
    warmup_epochs=1.0,
    views=tuple(replace(view, size=24) for view in CIFAR.views),
)
DIGITS = replace(TINY, views=VIEWS["digits"][:1])

RECIPES: dict[str, Recipe] = {
    "erm/imagenet": IMAGENET,
    "erm/32": CIFAR,
    "erm/small": small(TINY),
    "erm/tiny": TINY,
    "erm/digits": DIGITS,
}
