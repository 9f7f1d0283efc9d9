"""The state of a training: saving it to a checkpoint, and restoring it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from contrastkit import dist, schema
from contrastkit.checkpoint import save_tensors
from contrastkit.errors import UserError
from contrastkit.export.description import Description
from contrastkit.methods import Method
from contrastkit.optim import LARS
from contrastkit.record import OptimizerState, RankState
from contrastkit.run import ENCODER, TEXT, Run
from contrastkit.training.progress import Meter

# What each optimizer of build_optimizer keeps for a parameter.
STATE: dict[type, set[str]] = {
    torch.optim.SGD: {"momentum_buffer"},
    LARS: {"momentum_buffer"},
    torch.optim.AdamW: {"step", "exp_avg", "exp_avg_sq"},
}
_MISSING = object()


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
        "meter": vars(meter.state()),
        "method": method.state_dict(),
        "optimizer": optimizer.state_dict(),
        "own": dist.gather_objects(vars(rank)),
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
    if state.name != name:
        raise UserError(f"{run.path} has a checkpoint of {state.name}, not of {name}")
    with schema.reading(run.last):
        _require_alike(state.optimizer, optimizer)
    with run.restoring():
        method.load_state_dict(state.method)
        optimizer.load_state_dict(vars(state.optimizer))
        if len(state.own) == dist.world_size():  # otherwise use the mean statistics and fresh generators
            restore_rank_state(state.own[dist.rank()], method, device)
    meter.restore(state.meter)
    return state.step


def _require_alike(saved: OptimizerState, optimizer: torch.optim.Optimizer) -> None:
    """Check that a state is of an optimizer like this new one; torch would only notice in the next step.

    Raises:
        UserError: it is not.
    """
    groups = optimizer.state_dict()["param_groups"]
    if len(saved.param_groups) != len(groups):
        raise UserError(f"optimizer.param_groups has {len(saved.param_groups)} groups, its recipe has {len(groups)}")
    for i, (found, group) in enumerate(zip(saved.param_groups, groups, strict=True)):
        for name, value in group.items():
            known = (_kind(value), float, Tensor) if value is None else (_kind(value),)
            if _kind(found.get(name, _MISSING)) not in known or (name == "params" and found[name] != value):
                raise UserError(f"optimizer.param_groups[{i}].{name} is missing, or not like {value!r:.40}")
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    names = STATE.get(type(optimizer))
    for index, values in saved.state.items():
        shapes = (parameters[index].shape, ()) if 0 <= index < len(parameters) else ()
        tensors = [value for value in values.values() if isinstance(value, Tensor) and value.shape in shapes]
        if names is not None and (values.keys() != names or len(tensors) != len(names)):
            raise UserError(f"optimizer.state[{index}] is not that of the parameter {index}")


def _kind(value: Any) -> Any:
    """What values of an optimizer's option have in common."""
    if isinstance(value, list | tuple):
        return tuple(map(_kind, value))
    is_number = isinstance(value, float) or (type(value) is int and abs(value) < 2**63)
    return float if is_number else type(value)


def rank_state(method: Method, device: torch.device) -> RankState:
    """State of this process alone."""
    return RankState(
        rng=torch.get_rng_state(),
        cuda_rng=torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        batch_norm=[s.cpu().clone() for s in dist.batch_norm_statistics(method)] if dist.world_size() > 1 else [],
    )


def restore_rank_state(state: RankState, method: Method, device: torch.device) -> None:
    torch.set_rng_state(state.rng)
    if device.type == "cuda" and state.cuda_rng is not None:
        torch.cuda.set_rng_state(state.cuda_rng, device)
    if state.batch_norm:
        for statistic, saved in zip(dist.batch_norm_statistics(method), state.batch_norm, strict=True):
            statistic.copy_(saved)


def write_encoder(method: Method, run: Run, *, step: int) -> None:
    """Write encoder.safetensors, the result of training for ``step`` steps, with its description in the metadata.
    What the method has for text.safetensors comes before it.

    A file with the same weights stays as it is: what was evaluated since then is not older than the encoder.
    """
    encoder, file = method.online.encoder, run.path / ENCODER
    if method.companions and not _holds(run.path / TEXT, method.companions):
        save_tensors(run.path / TEXT, method.companions, {"step": str(step)})
    if not _holds(file, encoder.state_dict()):
        save_tensors(file, encoder.state_dict(), Description.of(encoder, run.record, step=step).metadata())


def _holds(file: Path, state: Mapping[str, Tensor]) -> bool:
    try:
        written = load_file(file)
    except (OSError, SafetensorError):  # absent, or damaged
        return False
    return written.keys() == state.keys() and all(written[name].equal(state[name].cpu()) for name in state)
