r"""GroupDRO: distributionally robust optimisation over groups (Sagawa et al. 2019, arXiv:1911.08731), Algorithm 1.

.. math::
    q_g \leftarrow q_g \, e^{\eta \, l_g}, \quad q \leftarrow q / \sum_g q_g, \qquad L = \sum_g q_g \, l_g

l_g is the mean cross-entropy of the images of group g in the batch. q, equal at first, moves towards the groups that
do worst. Groups are the environments or, as in the paper, the pairs of an environment and a class.

As in the official code (kohpangwei/group_DRO, loss.py), all groups of a batch are updated at once, q before it weighs
the losses, and a group without images in the batch has the loss 0. Where we depart from its commands: batches have
the images as they come instead of as many of every group (--reweight_groups); the adjustment C / sqrt(n_g), 0 in
them, is left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, final

import torch
from torch import Tensor

from contrastkit.augment import VIEWS
from contrastkit.bounds import NOT_NEGATIVE
from contrastkit.methods import erm
from contrastkit.methods.base import Recipe
from contrastkit.methods.context import BuildContext
from contrastkit.methods.small import small
from contrastkit.methods.supervised import Supervised, SupervisedRecipe, group_means, rows_of
from contrastkit.types import Batch, Step


@dataclass(frozen=True, kw_only=True)
class GroupDRORecipe(SupervisedRecipe):
    """GroupDRO's hyper-parameters."""

    eta: Annotated[float, "step size of the groups' weights (Algorithm 1; loss.py, step_size)", NOT_NEGATIVE] = 0.01
    groups: Annotated[
        Literal["environment", "environment-class"], "what a group is: an environment, or one and a class (Sec. 2)"
    ] = "environment"

    def build(self, context: BuildContext) -> "GroupDRO":
        return GroupDRO(self, context)

    def known_from(self, state: Mapping[str, Tensor]) -> dict[str, Any]:
        known = super().known_from(state)
        n = rows_of(state, "q")
        return known | {"n_environments": n if self.groups == "environment" else n // known["n_classes"]}


@final
class GroupDRO(Supervised[Tensor]):
    """Groups that do worse weigh more; see the module docstring."""

    q: Tensor

    def __init__(self, recipe: GroupDRORecipe, context: BuildContext) -> None:
        super().__init__(recipe, context)
        self.recipe = recipe
        n = self.n_environments * (1 if recipe.groups == "environment" else self.n_classes)
        self.register_buffer("q", torch.full((n,), 1 / n))

    def forward(self, batch: Batch, progress: float) -> Step[Tensor]:
        out = self.outputs(batch)
        assert self.environments is not None
        group = self.environments[out.index]
        if self.recipe.groups == "environment-class":
            group = group * self.n_classes + out.y
        losses, counts = group_means(out.losses, group, len(self.q))
        q = self.q * (self.recipe.eta * losses.detach()).exp()
        q = q / q.sum()
        logs = {"top1": out.top1, "worst": losses.detach().max(), "largest_q": q.max()}
        return Step(loss=q @ losses, memory=q, logs=logs)

    @torch.no_grad()
    def after_step(self, batch: Batch, step: Step[Tensor], progress: float) -> None:
        self.q.copy_(step.memory)


# README of the official code, Waterbirds: ResNet-50, 300 epochs of SGD at a constant rate; data/cub_dataset.py's crops.
IMAGENET = replace(
    GroupDRORecipe.like(erm.IMAGENET),
    epochs=300,
    batch=128,
    optimizer="sgd",
    lr=0.001,
    weight_decay=1e-4,
    groups="environment-class",
    views=VIEWS["groupdro"],
)
CIFAR = GroupDRORecipe.like(erm.CIFAR)  # DomainBed's defaults for small images, whose groups are the environments
TINY = GroupDRORecipe.like(erm.TINY)

RECIPES: dict[str, Recipe] = {
    "groupdro/imagenet": IMAGENET,
    "groupdro/32": CIFAR,
    "groupdro/small": small(TINY),
    "groupdro/tiny": TINY,
}
