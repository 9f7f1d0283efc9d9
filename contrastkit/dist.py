"""Processes: this one's rank, and the few collectives that methods and the loop need; all are free with one process.

Ranks have contiguous slices of the global batch, in rank order; gathers preserve that order.
"""

import contextlib
import os
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as torch_dist
from torch import Tensor, nn

from contrastkit.compat import BatchNorm, without_buffer_broadcast
from contrastkit.errors import UserError


def device(name: str) -> torch.device:
    """This process's device, by the name that a user gives: cpu, cuda, cuda:1 or auto. A GPU becomes the current one.

    Raises:
        UserError: there is none of this name.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"--device {name}: torch sees no CUDA device here; use --device cpu")
    chosen = None
    with contextlib.suppress(RuntimeError):
        chosen = torch.device(name)
    if chosen is None or chosen.type not in ("cpu", "cuda"):  # the kernels know no others
        raise UserError(f"--device {name}: unknown device; use cpu, cuda, cuda:1 or auto")
    if chosen.type == "cpu":
        return torch.device("cpu")
    index, count = chosen.index or 0, torch.cuda.device_count()
    if index >= count:
        raise UserError(f"--device {name}: there are {count} CUDA devices here, counted from 0")
    if _distributed():
        if chosen.index is not None:
            raise UserError(f"--device {name}: each process uses its own GPU: use --device cuda")
        index = int(os.environ.get("LOCAL_RANK", "0"))
        if index >= count:
            raise UserError(f"process {index} of this machine has no GPU, there are {count}: lower --nproc-per-node")
    chosen = torch.device("cuda", index)
    torch.cuda.set_device(chosen)
    return chosen


def init(name: str) -> torch.device:
    """Join the process group that torchrun describes in the environment, if any; return :func:`device` of this name.

    NCCL carries CUDA tensors, gloo the CPU's.

    Raises:
        UserError: as :func:`device`, or WORLD_SIZE asks for several processes without the rest of torchrun's variables.
    """
    chosen = device(name)
    if _distributed() and not torch_dist.is_initialized():
        try:
            torch_dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
        except ValueError as error:
            raise UserError(
                "WORLD_SIZE asks for several processes, without torchrun's other variables: start with torchrun, or "
                "unset it"
            ) from error
    return chosen


def _distributed() -> bool:
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def rank() -> int:
    return torch_dist.get_rank() if torch_dist.is_initialized() else 0


def world_size() -> int:
    return torch_dist.get_world_size() if torch_dist.is_initialized() else 1


def gather(x: Tensor) -> Tensor:
    """[n, ...] of every rank -> [world * n, ...] in rank order; without gradient."""
    if world_size() == 1:
        return x
    out = x.new_empty((world_size() * x.shape[0], *x.shape[1:]))
    torch_dist.all_gather(list(out.chunk(world_size())), x.contiguous())
    return out


def gather_keys(x: Tensor) -> Tensor:
    """:func:`gather` with a gradient: x receives the sum of the gradients of all ranks' losses, which DDP's mean over
    the ranks turns into the gradient of the mean loss."""
    return _GatherKeys.apply(x) if world_size() > 1 else x


class _GatherKeys(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return gather(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        g = g.clone(memory_format=torch.contiguous_format)
        torch_dist.all_reduce(g)
        return local_shard(g)


def local_shard(x: Tensor) -> Tensor:
    """The inverse of :func:`gather`: this rank's slice of a global batch."""
    n = x.shape[0] // world_size()
    return x[rank() * n : (rank() + 1) * n]


def local_rows(keys: Tensor) -> Tensor:
    """The positions of this rank's rows among gathered keys [world * n, ...]: int64 [n]."""
    return local_shard(torch.arange(len(keys), device=keys.device))


def all_reduce_mean(x: Tensor) -> Tensor:
    """The mean of ``x`` over the ranks."""
    if world_size() == 1:
        return x
    x = x.clone()
    torch_dist.all_reduce(x)
    return x / world_size()


def all_reduce_max(x: Tensor) -> Tensor:
    """The elementwise maximum of ``x`` over the ranks."""
    if world_size() == 1:
        return x
    x = x.clone()
    torch_dist.all_reduce(x, op=torch_dist.ReduceOp.MAX)
    return x


def any_of(flags: Sequence[bool], device: torch.device) -> list[bool]:
    """For each flag, whether it is set on any rank: all ranks must save or leave the loop at the same step."""
    if world_size() == 1:
        return list(flags)
    return all_reduce_max(torch.tensor(flags, dtype=torch.float32, device=device)).bool().tolist()


def data_parallel(module: nn.Module) -> nn.Module:
    """DDP without its broadcasts, if there are several processes: every rank updates its own queue identically, and all
    start equal, from the seed or from the checkpoint, which stores the batch-norm statistics of each rank."""
    if world_size() == 1:
        return module
    options: dict[str, Any] = {"init_sync": False} | without_buffer_broadcast()
    return nn.parallel.DistributedDataParallel(module, **options)


def barrier() -> None:
    if world_size() > 1:
        torch_dist.barrier()


@torch.no_grad()
def average_batch_norm(module: nn.Module) -> None:
    """Set the running batch-norm statistics of all ranks to their mean.

    The statistics are linear in the batches, so the mean equals those of one process with all groups, however often
    this is called. Needed only before they are read: for evaluating or saving.
    """
    if world_size() == 1:
        return
    for statistic in batch_norm_statistics(module):
        statistic.copy_(all_reduce_mean(statistic))


def batch_norm_statistics(module: nn.Module) -> list[Tensor]:
    """Every running mean and variance in ``module``, in a fixed order."""
    norms = [child for child in module.modules() if isinstance(child, BatchNorm)]
    return [s for norm in norms for s in (norm.running_mean, norm.running_var) if s is not None]


def gather_objects(x: Any) -> list[Any]:
    """One plain Python value per rank, in rank order."""
    if world_size() == 1:
        return [x]
    out = [None] * world_size()
    torch_dist.all_gather_object(out, x)
    return out


def broadcast_str(text: str) -> str:
    """The first process's ``text``."""
    if world_size() == 1:
        return text
    texts = [text]
    torch_dist.broadcast_object_list(texts)
    return texts[0]
