"""The state of a training: saving it to a checkpoint, and restoring it."""

from typing import Any

import torch

from contrastkit import dist
from contrastkit.checkpoint import write_with
from contrastkit.errors import UserError
from contrastkit.methods import Method
from contrastkit.run import ENCODER, Run
from contrastkit.training.progress import Meter


def save(
    run: Run,
    name: str,
    step: int,
    method: Method,
    optimizer: torch.optim.Optimizer,
    meter: Meter,
    device: torch.device,
    *,
    keep: str | None = None,
) -> None:
    """Write the state after ``step`` steps; to be called on all ranks together.

    The checkpoint stores the mean of the ranks' batch-norm statistics; the method keeps this rank's own.

    Args:
        keep: name of a copy beside the last checkpoint that is never overwritten.

    Raises:
        UserError: a weight is not finite; nothing is written.
    """
    rank = rank_state(method, device)
    dist.average_batch_norm(method)
    if not all(bool(p.isfinite().all()) for p in method.parameters()):
        raise UserError(f"a weight is not finite after step {step}: lower --lr; {run.last_good}")
    state = {
        "name": name,
        "step": step,
        "meter": meter.state_dict(),
        "method": method.state_dict(),
        "optimizer": optimizer.state_dict(),
        "own": dist.gather_objects(rank),
    }
    run.save(state, keep=keep)
    restore_rank_state(rank, method, device)


def restore(
    run: Run, name: str, method: Method, optimizer: torch.optim.Optimizer, meter: Meter, device: torch.device
) -> int:
    """Restore the last checkpoint; return its step.

    Raises:
        UserError: the checkpoint cannot be read, or belongs to another run.
    """
    state = run.load()
    if state["name"] != name:
        raise UserError(f"{run.path} has a checkpoint of {state['name']}, not of {name}")
    with run.restoring():
        method.load_state_dict(state["method"])
        optimizer.load_state_dict(state["optimizer"])
    if len(state["own"]) == dist.world_size():  # otherwise use the mean statistics and fresh generators
        restore_rank_state(state["own"][dist.rank()], method, device)
    meter.load_state_dict(state["meter"])
    return state["step"]


def rank_state(method: Method, device: torch.device) -> dict[str, Any]:
    """State of this process alone: its generators, and its batch-norm statistics before averaging."""
    return {
        "rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "batch_norm": ([s.cpu().clone() for s in dist.batch_norm_statistics(method)] if dist.world_size() > 1 else []),
    }


def restore_rank_state(state: dict[str, Any], method: Method, device: torch.device) -> None:
    torch.set_rng_state(state["rng"])
    if device.type == "cuda" and state["cuda_rng"] is not None:
        torch.cuda.set_rng_state(state["cuda_rng"], device)
    if state["batch_norm"]:
        for statistic, saved in zip(dist.batch_norm_statistics(method), state["batch_norm"], strict=True):
            statistic.copy_(saved)


def write_encoder(method: Method, run: Run) -> None:
    """Write encoder.safetensors, the result of training."""
    from safetensors.torch import save_file

    tensors = {k: v.detach().cpu().contiguous() for k, v in method.online.encoder.state_dict().items()}
    write_with(run.path / ENCODER, lambda file: save_file(tensors, file))
