"""Exponential moving average of a list of tensors: a momentum encoder's update (MoCo, Eq. 2)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from contrastkit.compat import foreach_lerp_
from contrastkit.ops.library import FLOATING, LIBRARY, check_momentum, dtype_name

LIBRARY.define("ema_(Tensor(a!)[] averages, Tensor[] params, float m) -> ()")


def ema_(averages: Sequence[Tensor], params: Sequence[Tensor], m: float) -> None:
    """Move each average towards its parameter, in place: a <- m a + (1 - m) p (MoCo, Eq. 2).

    Computed in float32 (float64 where either is float64) as a + (1 - m)(p - a), and for m <= 1/2 as p - m (p - a):
    m = 0 copies the parameter exactly and m = 1 changes nothing. The update is not recorded by
    autograd. An average in bfloat16 loses updates smaller than its last bit, so keep averages in float32. On the CPU,
    float32 averages larger than the caches (from 32 MiB) use torch._foreach_lerp_, which reaches the memory bandwidth.

    Args:
        averages: tensors of any floating dtype and strides, written in place.
        params: equally many tensors of the same shapes, on the same device; dtypes may differ from the averages'.
        m: momentum in [0, 1].

    Raises:
        ValueError: the lists do not match, or m is outside [0, 1].

    Source: MoCo, https://arxiv.org/abs/1911.05722, Eq. 2.
    """
    if averages or params:
        with torch.no_grad():
            torch.ops.contrastkit.ema_(list(averages), list(params), m)


@torch.library.impl(LIBRARY, "ema_", "CompositeExplicitAutograd")
def _reference(averages: list[Tensor], params: list[Tensor], m: float) -> None:
    _check(averages, params, m)
    same = [(a, p) for a, p in zip(averages, params, strict=True) if a.dtype == p.dtype]
    if same:
        foreach_lerp_([a for a, _ in same], [p for _, p in same], 1.0 - m)
    for a, p in zip(averages, params, strict=True):
        if a.dtype != p.dtype:  # lerp takes a single dtype; two different ones promote to float32 or float64
            wide = torch.promote_types(a.dtype, p.dtype)
            a.copy_(torch.lerp(a.to(wide), p.to(wide), 1.0 - m))


@torch.library.register_fake("contrastkit::ema_", lib=LIBRARY)
def _fake(averages: list[Tensor], params: list[Tensor], m: float) -> None:
    _check(averages, params, m)


def _check(averages: list[Tensor], params: list[Tensor], m: float) -> None:
    """The kernels check by themselves (csrc/ema.h)."""
    check_momentum("ema_", m)
    if len(averages) != len(params):
        raise ValueError(f"ema_: {len(averages)} averages but {len(params)} params")
    for i, (a, p) in enumerate(zip(averages, params, strict=True)):
        there = a.device == p.device == averages[0].device
        if a.shape != p.shape or not there or a.dtype not in FLOATING or p.dtype not in FLOATING:
            raise ValueError(
                f"ema_: pair {i} does not match: average {dtype_name(a.dtype)}{list(a.shape)} on {a.device}, "
                f"parameter {dtype_name(p.dtype)}{list(p.shape)} on {p.device}; both must be floating"
            )
