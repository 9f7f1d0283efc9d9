"""Optimizers and schedules.

:func:`build_optimizer` makes an optimizer from a method's :class:`ParamGroup` rows, :func:`learning_rate` is a function
of progress alone, and :func:`apply_schedule` writes it into the optimizer, so a resumed run needs no scheduler state.
One step is::

    loss.backward()
    apply_schedule(optimizer, progress, recipe.schedule_at(progress))
    optimizer.step()
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from contrastkit.compat import foreach_add, foreach_add_, foreach_mul_, foreach_norm
from contrastkit.errors import UserError, check_choice

OptimizerName = Literal["sgd", "lars", "adamw"]
Schedule = Literal["cosine", "step", "constant"]


@dataclass(frozen=True, kw_only=True)
class SchedulePoint:
    """The values of all schedules at one step."""

    lr: float
    weight_decay: float | None = None  # for groups with decay; None leaves it unchanged
    clip_norm: float = 0.0  # global gradient norm; 0 disables clipping


@dataclass(frozen=True, kw_only=True)
class ParamGroup:
    """Parameters that are trained in the same way."""

    params: list[nn.Parameter]
    lr_scale: float = 1.0  # factor on the schedule's learning rate
    fixed_lr: float | None = None  # replaces the schedule's: SimSiam's predictor (Table 1, last row)
    decay: bool = True  # weight decay
    adapt: bool = True  # LARS's layer-wise rate
    frozen_until: float = 0.0  # progress up to which the gradient is dropped: SwAV's prototypes, DINO's last layer
    clip: float | None = None  # maximum gradient norm per tensor (DINO clips tensor by tensor)


def decay_groups(params: Iterable[nn.Parameter]) -> list[ParamGroup]:
    """Two groups: matrices and kernels; biases and norms (at most one dimension), neither decayed nor adapted.

    SimCLR, BYOL, MoCo v3's LARS and DINO exclude these. MoCo v1/v2, SimSiam and SwAV decay everything.
    """
    trained = [p for p in params if p.requires_grad]
    return [
        ParamGroup(params=[p for p in trained if p.ndim > 1]),
        ParamGroup(params=[p for p in trained if p.ndim <= 1], decay=False, adapt=False),
    ]


def build_optimizer(
    groups: Sequence[ParamGroup],
    name: OptimizerName,
    *,
    lr: float,
    weight_decay: float,
    momentum: float = 0.9,
    nesterov: bool = False,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    trust: float = 0.001,
    trust_clip: bool = False,
    lr_inside_momentum: bool = False,
) -> torch.optim.Optimizer:
    """Build the optimizer for ``groups``, without parameters that need no gradient.

    Args:
        name: "sgd" (torch's), "lars" (:class:`LARS`) or "adamw" (torch's, decoupled decay times the learning rate).
        lr: initial learning rate, later set by :func:`apply_schedule`.
        weight_decay: weight decay of the groups with ``decay``.
        momentum: momentum of sgd and lars.
        nesterov: Nesterov's momentum, of sgd alone.
        betas, eps: those of adamw.
        trust: LARS's trust coefficient eta.
        trust_clip, lr_inside_momentum: see :class:`LARS`.

    Raises:
        UserError: unknown name, or no trainable parameter.
    """
    check_choice("optimizer", name, get_args(OptimizerName))
    rows: list[dict[str, Any]] = [
        {
            "params": params,
            "lr": lr if group.fixed_lr is None else group.fixed_lr,
            "weight_decay": weight_decay if group.decay else 0.0,
            "decay": group.decay,
            "lr_scale": group.lr_scale,
            "fixed_lr": group.fixed_lr,
            "adapt": group.adapt,
            "frozen_until": group.frozen_until,
            "clip": group.clip,
        }
        for group in groups
        if (params := [p for p in group.params if p.requires_grad])
    ]
    if not rows:
        raise UserError("there is nothing to train: no parameter needs a gradient")
    if name == "sgd":
        return torch.optim.SGD(rows, lr=lr, momentum=momentum, nesterov=nesterov)
    if name == "lars":
        return LARS(
            rows, lr=lr, momentum=momentum, trust=trust, trust_clip=trust_clip, lr_inside_momentum=lr_inside_momentum
        )
    return torch.optim.AdamW(rows, lr=lr, betas=betas, eps=eps)


class LARS(torch.optim.Optimizer):
    """Layer-wise adaptive rates: SGD whose steps are scaled to each tensor (You et al. 2017, arXiv:1708.03888, Alg. 1).

    With u = g + wd w and the local rate q = trust ||w|| / ||u|| (1 where either norm is 0, or the group has
    ``adapt=False``), the two published codes differ in where the learning rate enters::

        lr_inside_momentum=True    v <- momentum v + lr q u;   w <- w - v       (SimCLR's, after Alg. 1)
        lr_inside_momentum=False   v <- momentum v + q u;      w <- w - lr v    (MoCo v3's, as torch's SGD)

    The two coincide only while lr is constant. ``trust_clip`` replaces q by min(q, lr) / lr: no step is longer
    than SGD's at this rate (solo-learn's ``clip_lr``; LARC in apex). timm's ``Lars`` differs from both: its q divides
    by ||g|| + wd ||w||, and only decayed parameters are adapted.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]] | Iterable[nn.Parameter],
        *,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 0.001,
        trust_clip: bool = False,
        adapt: bool = True,
        lr_inside_momentum: bool = False,
    ) -> None:
        self.trust_clip = trust_clip
        self.lr_inside_momentum = lr_inside_momentum
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust, "adapt": adapt}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if w := [p for p in group["params"] if p.grad is not None]:
                self._update(w, group)
        return loss

    def _update(self, w: list[Tensor], group: dict[str, Any]) -> None:
        for p in w:
            if not self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        v = [self.state[p]["momentum_buffer"] for p in w]
        u = foreach_add([p.grad for p in w if p.grad is not None], w, alpha=group["weight_decay"])
        if group["adapt"]:
            w_norm, u_norm = torch.stack(foreach_norm(w)), torch.stack(foreach_norm(u))
            q = group["trust"] * w_norm / u_norm
            if self.trust_clip:
                q = (q / group["lr"]).clamp(max=1.0)
            q = torch.where((w_norm > 0) & (u_norm > 0), q, 1.0)
            foreach_mul_(u, list(q.unbind()))
        inside, outside = (group["lr"], 1.0) if self.lr_inside_momentum else (1.0, group["lr"])
        foreach_mul_(v, group["momentum"])
        foreach_add_(v, u, alpha=inside)
        foreach_add_(w, v, alpha=-outside)


def learning_rate(
    progress: float,
    *,
    schedule: Schedule,
    base_lr: float,
    warmup: float = 0.0,
    first: float = 0.0,
    milestones: Sequence[float] = (),
    gamma: float = 0.1,
    final: float = 0.0,
    epochs: int | None = None,
) -> float:
    """The learning rate at ``progress`` (completed steps / all steps) in [0, 1].

    Args:
        schedule: "cosine" from base_lr to final after the warm-up (Loshchilov & Hutter 2016, Eq. 5 without
            restarts), "step" (times gamma at each milestone) or "constant".
        warmup: fraction of the training over which the rate rises linearly from ``first``.
        milestones: fractions of the training; MoCo's epochs 120 and 160 of 200 are (0.6, 0.8).
        final: final value of the cosine.
        epochs: number of epochs, if the rate changes once per epoch as in MoCo's and SimSiam's code (the warm-up, which
            they lack, still rises at every step); None if it changes at every step.
    """
    if progress < warmup:
        return first + (base_lr - first) * progress / warmup
    if epochs:
        # The margin undoes the rounding of k / total * epochs; one step is far more than a millionth of an epoch.
        progress = max(warmup, math.floor(progress * epochs + 1e-6) / epochs)
    if schedule == "cosine":
        t = (progress - warmup) / (1 - warmup) if warmup < 1 else 1.0
        return cosine(t, base_lr, final)
    if schedule == "step":
        return base_lr * gamma ** sum(progress >= milestone for milestone in milestones)
    return base_lr


def cosine(progress: float, first: float, last: float) -> float:
    """From ``first`` at 0 to ``last`` at 1 along half a cosine: learning rates, and the momentum of targets (BYOL,
    App. J.1: tau = 1 - (1 - tau_base)(cos(pi k / K) + 1) / 2)."""
    return last + (first - last) * (1 + math.cos(math.pi * progress)) / 2


def apply_schedule(optimizer: torch.optim.Optimizer, progress: float, now: SchedulePoint) -> None:
    """Set learning rate and weight decay of every group, drop gradients of frozen groups, clip the others.

    Call it between ``backward`` and ``step``. Unlike a zero gradient, None also exempts a parameter from momentum and
    decay. Gradients of groups with ``clip`` are clipped tensor by tensor, then all together to ``now.clip_norm``.
    """
    for group in optimizer.param_groups:
        if now.weight_decay is not None and group["decay"]:
            group["weight_decay"] = now.weight_decay
        group["lr"] = now.lr * group["lr_scale"] if group["fixed_lr"] is None else group["fixed_lr"]
        if progress < group["frozen_until"]:
            for p in group["params"]:
                p.grad = None
    for group in optimizer.param_groups:
        if group["clip"] is not None:
            for p in group["params"]:
                nn.utils.clip_grad_norm_([p], group["clip"])
    if now.clip_norm:
        nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], now.clip_norm)
