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

Loss = Callable[[Tensor], Tensor]


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
    """Differentiable implementations of the mean loss of x, and whole ones that return loss and gradient at once."""

    x: Tensor
    losses: dict[str, Loss]
    whole: dict[str, Way] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def cases(self, shape: str, forward: dict[str, float], backward: dict[str, float]) -> Iterator[Case]:
        """Forward alone, then forward and backward together, with the bytes and FLOP of each."""
        losses: dict[str, Way] = {name: functools.partial(loss, self.x) for name, loss in self.losses.items()}
        yield Case(shape, "forward", losses, self.notes, **forward)
        gradients: dict[str, Way] = {name: functools.partial(self.gradient, loss) for name, loss in self.losses.items()}
        yield Case(shape, "forward+backward", gradients | self.whole, self.notes, **backward)

    def gradient(self, loss: Loss) -> tuple[Tensor, ...]:
        leaf = self.x.detach().requires_grad_()
        return torch.autograd.grad(loss(leaf), leaf)


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


def linear_cross_entropy(x: Tensor, weight: Callable[[Tensor], Tensor], target: Tensor, scale: float) -> Loss:
    """torch's loss of x over the rows of weight(x), with the options that are fastest on this machine."""
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

    def loss(x: Tensor, options: Any) -> Tensor:
        return F.linear_cross_entropy(x * scale, weight(x), target, options=options)

    def trial(options: Any) -> tuple[Tensor, ...]:
        leaf = x.detach().requires_grad_()
        return torch.autograd.grad(loss(leaf, options), leaf)

    def way(x: Tensor) -> Tensor:
        if not chosen:
            trials: dict[str, Way] = {name: functools.partial(trial, choice) for name, choice in choices.items()}
            chosen.append(choices[fastest(trials, x.device.type)])
        return loss(x, chosen[0])

    return way
