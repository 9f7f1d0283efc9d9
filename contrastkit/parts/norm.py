"""Batch norm over parts of a batch or over all processes, and its replacements: layer norm and group norm."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contrastkit import dist
from contrastkit.compat import BatchNorm
from contrastkit.errors import UserError


class SplitBatchNorm2d(nn.BatchNorm2d):
    """Batch norm whose statistics come from ``groups`` equal, contiguous parts of the batch.

    One process then behaves like ``groups`` GPUs: a shuffled key and its query are normalised among different images,
    so the batch statistics cannot reveal which key belongs to which query (MoCo, Sec. 3.3, shuffling BN; the split on
    one device is the official CIFAR-10 demo's). The demo's groups are interleaved; ours are contiguous, so that W
    processes with groups / W each form the same ones. Running statistics are the mean of the groups', as in the demo.
    """

    def __init__(self, num_features: int, *, groups: int, eps: float, momentum: float | None, affine: bool) -> None:
        super().__init__(num_features, eps=eps, momentum=momentum, affine=affine)
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        if x.shape[0] % self.groups:
            raise UserError(
                f"a batch of {x.shape[0]} images does not split into {self.groups} batch-norm groups: "
                "change --bn-groups or --batch"
            )
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        assert self.num_batches_tracked is not None
        means = self.running_mean.repeat(self.groups, 1)
        variances = self.running_var.repeat(self.groups, 1)
        y = torch.cat(
            [
                F.batch_norm(part, means[g], variances[g], self.weight, self.bias, True, self.momentum, self.eps)
                for g, part in enumerate(x.chunk(self.groups))
            ]
        )
        with torch.no_grad():
            self.running_mean.copy_(means.mean(0))
            self.running_var.copy_(variances.mean(0))
            self.num_batches_tracked.add_(1)
        return y


def split_batch_norm(module: nn.Module, groups: int) -> nn.Module:
    """Replace every BatchNorm2d inside ``module`` by its split form, in place; 1 group changes nothing.

    Raises:
        UserError: it contains another kind of batch norm, which would still see the whole batch.
    """
    if groups == 1:
        return module

    def make(child: nn.Module) -> nn.Module | None:
        if type(child) is nn.BatchNorm2d and child.track_running_stats:
            split = SplitBatchNorm2d(
                child.num_features, groups=groups, eps=child.eps, momentum=child.momentum, affine=child.affine
            )
            split.load_state_dict(child.state_dict())
            return split
        if isinstance(child, BatchNorm):
            raise UserError(f"a {type(child).__name__} cannot be split into batch-norm groups: use --bn-groups 1")
        return None

    return _replace(module, make)


class _SyncBatchNorm(BatchNorm):
    """Batch norm over equal batches of all processes, on any device (torch's requires a GPU)."""

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or dist.world_size() == 1:
            return super().forward(x)
        dims = [d for d in range(x.ndim) if d != 1]
        shape = [1, -1] + [1] * (x.ndim - 2)
        wide = x.float()
        # Two passes: E[x^2] - E[x]^2 would cancel in float32.
        mean = _MeanOfRanks.apply(wide.mean(dims))
        centred = wide - mean.view(shape)
        variance = _MeanOfRanks.apply(centred.square().mean(dims))
        if self.track_running_stats:
            assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
            assert self.num_batches_tracked is not None
            n = x.numel() // x.shape[1] * dist.world_size()
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(variance * (n / max(n - 1, 1)), self.momentum)
                self.num_batches_tracked.add_(1)
        y = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        return y.to(x.dtype)


class _MeanOfRanks(torch.autograd.Function):
    """The mean over the ranks of x, and of its gradient: every rank's loss depends on every rank's x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return dist.all_reduce_mean(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return dist.all_reduce_mean(g)


def sync_batch_norm(module: nn.Module, world: int) -> nn.Module:
    """Make every batch norm inside ``module`` see the batches of all ``world`` processes, in place, as in SimCLR, BYOL,
    SimSiam, SwAV and MoCo v3, so that training does not depend on their number. One process changes nothing."""
    if world == 1:
        return module

    def make(child: nn.Module) -> nn.Module | None:
        if type(child) in (nn.BatchNorm1d, nn.BatchNorm2d):
            assert isinstance(child, BatchNorm)
            synced = _SyncBatchNorm(
                child.num_features, eps=child.eps, momentum=child.momentum, affine=child.affine,
                track_running_stats=child.track_running_stats,
            )  # fmt: skip
            synced.load_state_dict(child.state_dict())
            if child.affine:
                synced.weight.requires_grad_(child.weight.requires_grad)  # those of a target are not trained
                synced.bias.requires_grad_(child.bias.requires_grad)
            return synced
        if isinstance(child, BatchNorm):
            raise UserError(f"a {type(child).__name__} cannot see the batches of other processes: use one process")
        return None

    return _replace(module, make)


class WSConv2d(nn.Conv2d):
    """A convolution whose kernels are standardised each time they are used (weight standardization: Qiao et al. 2019,
    arXiv:1903.10520): each output channel's weights have mean 0 and variance 1 over inputs and positions.
    """

    @classmethod
    def sharing(cls, conv: nn.Conv2d) -> "WSConv2d":
        """A convolution like ``conv`` that shares its parameters; consumes no random numbers."""
        geometry: dict[str, Any] = {
            name: getattr(conv, name) for name in ("kernel_size", "stride", "padding", "dilation", "padding_mode")
        }
        bias = conv.bias is not None
        made = cls(conv.in_channels, conv.out_channels, groups=conv.groups, bias=bias, device="meta", **geometry)
        made.weight, made.bias = conv.weight, conv.bias
        return made.train(conv.training)

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, _standardised(self.weight), self.bias)


class WSLinear(nn.Linear):
    """A linear layer whose weights are standardised as those of :class:`WSConv2d`, over the inputs of each output."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, _standardised(self.weight), self.bias)


def _standardised(weight: Tensor) -> Tensor:
    """Weights [outputs, ...] with mean 0 and variance 1 for each output."""
    variance, mean = torch.var_mean(weight, dim=tuple(range(1, weight.ndim)), correction=0, keepdim=True)
    return (weight - mean) * (variance + 1e-5).rsqrt()


def groups_of(channels: int, groups: int = 16) -> nn.GroupNorm:
    """Group norm of ``channels``; if ``groups`` do not divide them, of the greatest common divisor instead."""
    return nn.GroupNorm(math.gcd(groups, channels), channels)


def layer_norm(module: nn.Module) -> nn.Module:
    """Replace every BatchNorm2d inside ``module`` by layer norm (Ba et al. 2016, arXiv:1607.06450) over an image's
    channels and places, in place, so that no image depends on the rest of its batch (CPC v2, Sec. 3.1)."""

    def make(child: nn.Module) -> nn.Module | None:
        return nn.GroupNorm(1, child.num_features) if type(child) is nn.BatchNorm2d else None

    return _replace(module, make)


def group_norm(module: nn.Module, groups: int = 16) -> nn.Module:
    """Replace every BatchNorm2d inside ``module`` by group norm and every convolution by a weight-standardised one, in
    place, so that nothing depends on the batch (BYOL without batch statistics: Richemond et al. 2020, arXiv:2010.10241;
    the number of groups is our choice).

    Args:
        groups: groups of each norm; if they do not divide the channels, the greatest common divisor instead.
    """

    def make(child: nn.Module) -> nn.Module | None:
        if type(child) is nn.BatchNorm2d:
            return groups_of(child.num_features, groups)
        return WSConv2d.sharing(child) if type(child) is nn.Conv2d else None

    return _replace(module, make)


def _replace(module: nn.Module, make: Callable[[nn.Module], nn.Module | None]) -> nn.Module:
    """Replace every module inside ``module`` for which ``make`` returns another one, in place, and look into those for
    which it returns None."""
    for name, child in module.named_children():
        if (made := make(child)) is None:
            _replace(child, make)
        else:
            setattr(module, name, made)
    return module
