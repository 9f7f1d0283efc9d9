"""The operator library `torch.ops.contrastkit`, and helpers shared by its operators."""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

LIBRARY = torch.library.Library("contrastkit", "DEF")

# Dtypes of arguments; the kernels know no others (csrc/check.h).
FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
WIDE = (torch.float32, torch.float64)
INT64 = (torch.int64,)

# References work on blocks of rows, so that the logits of a block stay in the caches.
_BLOCK = {"cpu": 2**22, "cuda": 2**26}


def accumulator(*tensors: Tensor) -> torch.dtype:
    """The dtype of arithmetic and results: float64 if any input is, else float32."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def check(
    op: str,
    name: str,
    t: Tensor | None,
    dtypes: tuple[torch.dtype, ...],
    shape: Sequence[int | str],
    device: torch.device,
) -> None:
    """Refuse a tensor of another dtype, shape or device; a letter in the shape stands for any size."""
    if t is None:
        return
    fits = t.ndim == len(shape) and all(isinstance(n, str) or n == size for n, size in zip(shape, t.shape, strict=True))
    if not fits or t.dtype not in dtypes:
        wanted = "floating" if dtypes is FLOATING else " or ".join(map(dtype_name, dtypes))
        shape_ = ", ".join(map(str, shape))
        raise ValueError(f"{op}: {name} must be {wanted} [{shape_}], got {dtype_name(t.dtype)}{list(t.shape)}")
    if t.device != device:
        raise ValueError(f"{op}: {name} is on {t.device} and the other inputs on {device}")


def check_momentum(op: str, m: float) -> None:
    if not 0.0 <= m <= 1.0:
        raise ValueError(f"{op}: momentum m must lie in [0, 1], got {m}")


def blocks(N: int, K: int, device: torch.device) -> list[slice]:
    """Slices of N rows, small enough for K numbers per row of a slice."""
    n = max(1, _BLOCK["cpu" if device.type == "cpu" else "cuda"] // max(K, 1))
    return [slice(i, min(i + n, N)) for i in range(0, N, n)]


def temperature(op: str, tau: float | Tensor, device: torch.device, *, name: str = "tau") -> Tensor:
    """Check a temperature for use on `device`; a float becomes a 0-dim tensor on the CPU."""
    if not isinstance(tau, Tensor) and (not isinstance(tau, (int, float)) or not tau > 0):
        raise ValueError(f"{op}: {name} must be a number above 0, got {tau!r}")
    return number(op, name, tau, device)


def number(op: str, name: str, x: float | Tensor, device: torch.device) -> Tensor:
    """Check a number for use on `device`; a float becomes a 0-dim tensor on the CPU."""
    if not isinstance(x, Tensor):
        if not isinstance(x, (int, float)) or not math.isfinite(x):
            raise ValueError(f"{op}: {name} must be a finite number, got {x!r}")
        return torch.tensor(x, dtype=torch.float64, device="cpu")
    if x.ndim or x.dtype not in FLOATING:
        raise ValueError(f"{op}: {name} must be a float or a 0-dim floating tensor, got {x.dtype}{list(x.shape)}")
    if x.device.type != "cpu" and x.device != device:
        raise ValueError(f"{op}: {name} is on {x.device} and the other inputs on {device}")
    return x


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread: for kernels of about ten microseconds, of which more threads would wait for one another
    as soon as the cores are shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)); torch's softplus returns x from 20 upwards, which is inexact in float64."""
    return torch.logaddexp(x, x.new_zeros(()))


def refuse_forward_mode(op: str, *inputs: Tensor) -> None:
    """Refuse forward-mode differentiation: without a rule it would silently take the derivative for zero."""
    if any(unpack_dual(t).tangent is not None for t in inputs):
        raise NotImplementedError(f"{op}: forward-mode differentiation is not supported; use backward()")


Gradients = tuple[Tensor | None, ...]


def once_differentiable(backward: Callable[[Any, Gradients, Tensor], Gradients]) -> Callable[..., Gradients]:
    """Wrap a backward(ctx, saved tensors, gradient of the loss) so that differentiating its results is an error.

    All inputs that may require a gradient must be among the saved tensors. torch's own decorator refuses only if the
    gradient of the loss requires a gradient: a penalty on the gradient of a mean would silently have no effect.
    """

    @functools.wraps(backward)
    def once(ctx: Any, g: Tensor, *_: Any) -> Gradients:
        saved = ctx.saved_tensors
        with torch.no_grad():
            gradients = backward(ctx, saved, g)
        if not torch.is_grad_enabled():
            return gradients
        return _Once.apply(gradients, g, *(t for t in saved if t is not None and t.requires_grad))

    return once


class _Once(torch.autograd.Function):
    """The identity on gradients, connected to everything they depend on."""

    @staticmethod
    def forward(ctx: Any, gradients: Gradients, *causes: Tensor) -> Gradients:
        return gradients

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Gradients:
        raise RuntimeError("contrastkit: the losses have no second derivative (create_graph=True reached one)")
