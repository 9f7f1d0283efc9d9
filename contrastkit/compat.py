"""The only module that uses private names of torch, or handles differences between its versions.

tests/test_house.py restricts all other modules to public names, so that a change in torch is handled here.
"""

import inspect
import multiprocessing
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.utils.data._utils.signal_handling as signal_handling
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm  # base class of all batch norms
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

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
    "kill_workers",
    "op_names",
    "reference_kernel",
    "reset_compiler",
    "without_buffer_broadcast",
]

END = 5.0  # seconds that killed processes have to end, all together; those that wait for a disk or a network do not

# One call over many tensors, as in torch's own optimizers.
foreach_add = torch._foreach_add
foreach_add_ = torch._foreach_add_
foreach_copy_ = torch._foreach_copy_
foreach_lerp_ = torch._foreach_lerp_
foreach_mul_ = torch._foreach_mul_
foreach_norm = torch._foreach_norm


def cpu_has_fast_bfloat16() -> bool:
    """Whether this CPU has instructions for bfloat16 products."""
    return torch.cpu._is_avx512_bf16_supported()


def has_kernel(op: str, device: str) -> bool:
    """Whether a kernel of ``op`` ("namespace::name") is registered for "CPU" or "CUDA", apart from the reference."""
    return torch._C._dispatch_has_kernel_for_dispatch_key(op, device)


def worker_processes(loader: DataLoader[Any]) -> list[multiprocessing.process.BaseProcess]:
    """The processes of a loader that is being iterated."""
    iterator: Any = loader._iterator
    return [] if iterator is None else list(iterator._workers)


def kill_workers(loader: DataLoader[Any]) -> None:
    """Kill the processes of a loader. Its own way of ending them sets events and waits, in vain if one is stuck or was
    killed while it held a lock."""
    iterator: Any = loader._iterator
    loader._iterator = None
    if iterator is None or iterator._shutdown:
        return
    iterator._shutdown = True  # nothing is left for its own way
    signal_handling._remove_worker_pids(id(iterator))  # or torch would take their end for an accident
    for process in iterator._workers:
        process.kill()
    deadline = time.monotonic() + END
    for process in iterator._workers:
        process.join(max(0.0, deadline - time.monotonic()))
        multiprocessing.process._children.discard(process)  # type: ignore[attr-defined] # or the program's end waits
    for queue in iterator._index_queues:
        queue.cancel_join_thread()
        queue.close()
    if hasattr(iterator, "_pin_memory_thread"):
        iterator._pin_memory_thread_done_event.set()  # it looks every few seconds


def reference_kernel(overload: torch._ops.OpOverload) -> Callable[..., Any]:
    """An operator's reference, even if the tensors' device has a faster kernel."""

    def call(*args: Any) -> Any:
        return overload._op_dk(torch._C.DispatchKey.CompositeExplicitAutograd, *args)

    return call


def without_buffer_broadcast() -> dict[str, bool]:
    """The argument that makes DistributedDataParallel keep each rank's buffers, as this torch names it."""
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
