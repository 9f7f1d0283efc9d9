"""One piece of work to measure, and helpers of the ops' cases."""

import functools
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastkit import compat
from contrastkit.bench.measure import Missing, Way, fastest

Loss = Callable[..., Tensor]


@dataclass(frozen=True)
class Case:
    """One piece of work: its implementations, and the minimum of bytes and FLOP."""

    shape: str
    direction: str
    ways: dict[str, Way]
    notes: dict[str, str]
    bytes: float = 0.0
    flop: float = 0.0


@dataclass
class Losses:
    """Differentiable implementations of the mean loss of tensors, and whole ones that return loss and gradients at
    once."""

    inputs: tuple[Tensor, ...]
    losses: dict[str, Loss]
    whole: dict[str, Way] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def cases(self, shape: str, forward: dict[str, float], backward: dict[str, float]) -> Iterator[Case]:
        """Forward alone, then forward and backward together, with the bytes and FLOP of each."""
        losses: dict[str, Way] = {name: functools.partial(loss, *self.inputs) for name, loss in self.losses.items()}
        yield Case(shape, "forward", losses, self.notes, **forward)
        ways: dict[str, Way] = {
            name: functools.partial(gradients, loss, self.inputs) for name, loss in self.losses.items()
        }
        yield Case(shape, "forward+backward", ways | self.whole, self.notes, **backward)


def gradients(loss: Loss, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    leaves = [x.detach().requires_grad_() for x in inputs]
    return torch.autograd.grad(loss(*leaves), leaves)


def compiled(eager: Callable) -> Callable:
    """``eager`` under torch.compile, compiled at the first call."""
    cache: dict[str, Callable] = {}

    def way(*args: Tensor) -> object:
        if not cache:
            compat.reset_compiler()
            logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns when there is no GPU
            cache["way"] = torch.compile(eager, dynamic=False)
            try:
                return cache["way"](*args)
            except Exception as error:
                reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                cache["way"] = unavailable(f"torch.compile: {reason}")
        return cache["way"](*args)

    return way


def unavailable(reason: str) -> Callable:
    def way(*args: object) -> None:
        raise Missing(reason)

    return way


def reference(op: str) -> Callable:
    """The reference of an op, whether or not it has a kernel."""
    return compat.reference_kernel(getattr(torch.ops.contrastkit, op).default)


def unit(*shape: int, device: str, dtype: torch.dtype = torch.float32) -> Tensor:
    return F.normalize(torch.randn(*shape, device=device), dim=-1).to(dtype)


def pairs(N: int, C: int, *, device: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Unit vectors x and y, [N, C] each, of which partners are alike."""
    x = unit(N, C, device=device)
    return x.to(dtype), F.normalize(x + unit(N, C, device=device), dim=1).to(dtype)


def linear_cross_entropy(
    inputs: tuple[Tensor, ...], operands: Callable[..., list[tuple[Tensor, Tensor]]], target: Tensor, scale: float
) -> Loss:
    """torch's loss, the mean over the rows and classes that operands(*inputs) lists, with the options that are fastest
    on this machine."""
    if not hasattr(F, "linear_cross_entropy"):
        return unavailable("F.linear_cross_entropy came with torch 2.13")
    options = torch.nn.LinearCrossEntropyOptions
    choices: dict[str, Any] = {
        "none": None,
        "auto": options(),
        "256": options(batch_chunk_size=256),
        "1024": options(batch_chunk_size=1024),
    }
    chosen: list[Any] = []

    def loss(options: Any, *inputs: Tensor) -> Tensor:
        terms = [F.linear_cross_entropy(x * scale, k, target, options=options) for x, k in operands(*inputs)]
        return sum(terms[1:], terms[0]) / len(terms)

    def way(*inputs: Tensor) -> Tensor:
        if not chosen:
            trials: dict[str, Way] = {
                name: functools.partial(gradients, functools.partial(loss, choice), inputs)
                for name, choice in choices.items()
            }
            chosen.append(choices[fastest(trials, inputs[0].device.type)])
        return loss(chosen[0], *inputs)

    return way
