r"""IRM: Invariant Risk Minimization (Arjovsky et al. 2019, arXiv:1907.02893), the practical version IRMv1 (Eq. 4).

.. math::
    L = \frac{1}{|E|} \sum_{e} R^e(f) + \lambda \left( \nabla_{w | w = 1} R^e(w \cdot f) \right)^2

R^e is the mean cross-entropy in environment e. The penalty asks that one classifier, the logits as they are (w = 1),
is the best of its multiples in every environment. Its gradient is written out: d/dw H(y, w z) at w = 1 is sum_c p_c
z_c - z_y with p = softmax(z).

lambda is 1 until a share ``penalty_anneal`` of the training is over, then ``penalty_weight``, by which the loss is
divided if it is above 1, as in the official code (facebookresearch/InvariantRiskMinimization, code/colored_mnist).

Where we depart from that: means are over the images of a batch, whose square overestimates that of the mean over an
environment, instead of over whole environments; the optimizer goes on when lambda changes, as there (DomainBed
restarts it); and the L2 term is the optimizer's weight decay.
"""

from dataclasses import dataclass, replace
from typing import Annotated, final

import torch.nn.functional as F
from torch import Tensor

from contrastkit.bounds import PENALTY, SHARE
from contrastkit.methods import erm
from contrastkit.methods.base import Recipe
from contrastkit.methods.context import BuildContext
from contrastkit.methods.small import small
from contrastkit.methods.supervised import Supervised, SupervisedRecipe, group_means
from contrastkit.types import Batch, Step


@dataclass(frozen=True, kw_only=True)
class IRMRecipe(SupervisedRecipe):
    """IRM's hyper-parameters, with the names of the official code."""

    penalty_weight: Annotated[float, "weight lambda of the penalty (Eq. 4; --penalty_weight)", PENALTY] = 1e2
    penalty_anneal: Annotated[
        float, "share of the training in which that weight is 1 (--penalty_anneal_iters)", SHARE
    ] = 0.1

    def build(self, context: BuildContext) -> "IRM":
        return IRM(self, context)


@final
class IRM(Supervised[None]):
    """Risks and penalties of the environments; see the module docstring."""

    def __init__(self, recipe: IRMRecipe, context: BuildContext) -> None:
        super().__init__(recipe, context)
        self.recipe = recipe

    def forward(self, batch: Batch, progress: float) -> Step[None]:
        r, out = self.recipe, self.outputs(batch)
        assert self.environments is not None
        environment, E = self.environments[out.index], self.n_environments
        risks, counts = group_means(out.losses, environment, E)
        slopes, _ = group_means(slope(out.logits, out.y), environment, E)
        n = (counts > 0).sum()  # an environment without images in the batch has a risk and a slope of 0
        risk, penalty = risks.sum() / n, slopes.square().sum() / n
        weight = r.penalty_weight if progress >= r.penalty_anneal else 1.0
        loss = (risk + weight * penalty) / max(1.0, weight)
        logs = {"top1": out.top1, "risk": risk.detach(), "penalty": penalty.detach()}
        return Step(loss=loss, memory=None, logs=logs)

    @property
    def chance_loss(self) -> float | None:
        """None: it is divided by a weight that changes."""
        return None


def slope(logits: Tensor, y: Tensor) -> Tensor:
    """The derivative of the cross-entropy H(y, w z) with respect to w at w = 1: logits z [N, C], y int64 [N] -> [N]."""
    return ((logits.softmax(1) - F.one_hot(y, logits.shape[1])) * logits).sum(1)


# DomainBed's defaults (hparams_registry.py): lambda 100 after 500 of 5,000 steps.
IMAGENET = IRMRecipe.like(erm.IMAGENET)
# The official code's for coloured digits: lambda 10,000 after 100 of 501 steps of all images; learning rate 0.001.
CIFAR = IRMRecipe.like(replace(erm.CIFAR, batch=512), penalty_weight=1e4, penalty_anneal=100 / 501)
TINY = IRMRecipe.like(
    erm.TINY, penalty_anneal=0.25
)  # nobody's: on a small budget, a larger share to learn something first

RECIPES: dict[str, Recipe] = {
    "irm/imagenet": IMAGENET,
    "irm/32": CIFAR,
    "irm/small": small(TINY),
    "irm/tiny": TINY,
}
