"""The target of a look-up: a slowly moving copy of the online tower (MoCo, Eq. 2)."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from contrastkit import ops
from contrastkit.optim import cosine


class Target(nn.Module):
    """The momentum average of a tower: theta_k <- m theta_k + (1 - m) theta_q.

    Only parameters are averaged, as in the official code; batch-norm statistics are its own. It runs in the mode (train
    or eval) of its method, without gradient.
    """

    def __init__(self, online: nn.Module) -> None:
        super().__init__()
        self.tower = copy.deepcopy(online).requires_grad_(False)

    @torch.no_grad()
    def forward(self, images: Tensor | Sequence[Tensor]) -> Tensor:
        return self.tower(images)

    @torch.no_grad()
    def update(self, online: nn.Module, m: float) -> None:
        ops.ema_(list(self.tower.parameters()), list(online.parameters()), m)


def momentum(progress: float, m: float, *, rises: bool = True) -> float:
    """The momentum of a target at ``progress`` in [0, 1]: raised from m to 1 along a cosine (BYOL, App. J.1), or m."""
    return cosine(progress, m, 1.0) if rises else m
