"""The one place for names that torch keeps private, and for what differs between its versions.

tests/test_house.py holds the rest of the package to torch's public names: a torch that moves one is met here.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm  # the base of every kind of batch norm
from torch.nn.parallel import DistributedDataParallel

__all__ = [
    "BatchNorm",
    "cpu_has_fast_bfloat16",
    "foreach_add",
    "foreach_add_",
    "foreach_copy_",
    "foreach_lerp_",
    "foreach_mul_",
    "foreach_norm",
    "has_kernel",
    "op_names",
    "reference_kernel",
    "reset_compiler",
    "without_buffer_broadcast",
]

# One call over many tensors, as torch's own optimizers use them.
foreach_add = torch._foreach_add
foreach_add_ = torch._foreach_add_
foreach_copy_ = torch._foreach_copy_
foreach_lerp_ = torch._foreach_lerp_
foreach_mul_ = torch._foreach_mul_
foreach_norm = torch._foreach_norm


def cpu_has_fast_bfloat16() -> bool:
    """Whether this CPU has instructions for products of bfloat16."""
    return torch.cpu._is_avx512_bf16_supported()


def has_kernel(op: str, device: str) -> bool:
    """Whether a kernel of ``op`` ("namespace::name") is registered for "CPU" or "CUDA" itself, not a reference."""
    return torch._C._dispatch_has_kernel_for_dispatch_key(op, device)


def reference_kernel(overload: torch._ops.OpOverload) -> Callable[..., Any]:
    """An operator's reference, whatever kernel overtakes it on the tensors' device."""

    def call(*args: Any) -> Any:
        return overload._op_dk(torch._C.DispatchKey.CompositeExplicitAutograd, *args)

    return call


def without_buffer_broadcast() -> dict[str, bool]:
    """The argument with which DistributedDataParallel leaves every rank its own buffers, as this torch names it."""
    parameters = inspect.signature(DistributedDataParallel).parameters
    return {"forward_sync_buffers" if "forward_sync_buffers" in parameters else "broadcast_buffers": False}


def op_names(namespace: str) -> list[str]:
    """Every operator that the dispatcher has in a namespace, sorted, without the namespace."""
    prefix = f"{namespace}::"
    return sorted(
        name.removeprefix(prefix) for name in torch._C._dispatch_get_all_op_names() if name.startswith(prefix)
    )


def reset_compiler() -> None:
    """Forget everything that torch.compile has compiled in this process."""
    torch._dynamo.reset()
