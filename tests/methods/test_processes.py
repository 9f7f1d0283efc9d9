"""One process and two train equally, every method with its whole state: the first ten steps in float32."""

import contextlib
import multiprocessing
import traceback
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor

from contrastkit import dist
from contrastkit.optim import SchedulePoint, apply_schedule
from contrastkit.types import Batch, Modality, Step
from tests.methods.test_contract import ROWS, N, context
from tests.rows import fast_if
from tests.same import assert_alike

STEPS = 10
WARM = 0.01  # of the peak rate, as in a warm-up
# A process normalises its own images: fewer groups than processes are another training, which says so (notices).
NAMES = [name for name, recipe in ROWS.items() if getattr(recipe, "bn_groups", 2) > 1]


def images(name: str, step: int) -> Batch:
    """Views of sixteen pixels (small crops have fewer) that fit the row. Each image has its own colours under the
    noise: batch norm over hardly different ones would magnify the last bits of every sum."""
    g, largest = torch.Generator().manual_seed(step), max(view.size for view in ROWS[name].views)
    if ROWS[name].modality is Modality.SOUND:
        return Batch([torch.randn(N, 1, 1, largest, generator=g) / 10], torch.arange(N), torch.full((N,), -1))
    colours = torch.rand(N, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    views = []
    for view in ROWS[name].views:
        side = 16 * view.size // largest
        noise = torch.rand(N, 3, side, side, generator=g)
        views.append(0.8 * F.interpolate(colours, (side, side), mode="bilinear") + 0.2 * noise)
    return Batch(views, torch.arange(N), torch.full((N,), -1))


@contextlib.contextmanager
def smooth() -> Iterator[None]:
    """GELU for ReLU: the two sum in another order, and a gate whose input is within that of 0 opens in one alone."""

    def gelu(x: Tensor, inplace: bool = False) -> Tensor:
        return F.gelu(x)

    with mock.patch.object(torch, "relu_", gelu), mock.patch.object(F, "relu", gelu):
        yield


@smooth()
def train(name: str) -> dict[str, Any]:
    """The losses and the state after ten steps, whose progress goes through the whole schedule of the method."""
    recipe = ROWS[name]
    torch.manual_seed(0)
    method = recipe.build(context(recipe, world=dist.world_size())).train()
    model = dist.data_parallel(method)
    optimizer = recipe.build_optimizer(method)
    losses = []
    for step in range(STEPS):
        progress = step / STEPS
        whole = images(name, step)
        b = Batch(
            [dist.local_shard(view) for view in whole.views],
            dist.local_shard(whole.index),
            dist.local_shard(whole.label),
        )
        out: Step = model(b, progress)
        out.loss.backward()
        apply_schedule(optimizer, progress, SchedulePoint(lr=recipe.lr * WARM, clip_norm=recipe.clip_norm))
        optimizer.step()
        optimizer.zero_grad()
        method.after_step(b, out, progress)
        losses.append(dist.all_reduce_mean(out.loss.detach()).item())
    dist.average_batch_norm(method)
    return {"losses": losses, "state": method.state_dict()}


def determined(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the biases of attention's keys, to which a softmax is blind: their gradient is rounding, from which Adam
    makes whole steps."""
    state = dict(state)
    for name in [name for name in state if name.endswith("qkv.bias")]:
        q, _, v = state[name].chunk(3)
        state[name] = torch.cat([q, v])
    return state


def child(rank: int, folder: Path, name: str) -> None:
    torch.set_num_threads(1)
    group = f"file://{folder}/group"
    torch.distributed.init_process_group("gloo", group, timedelta(seconds=120), world_size=2, rank=rank)
    try:
        results: Any = train(name)
    except Exception:
        results = traceback.format_exc()
    torch.save(results, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def together(name: str, folder: Path) -> list[Any]:
    """What each of two processes has found: losses and state, or the traceback of an error."""
    # Where there is a GPU, autograd has threads that a fork would miss.
    context: Any = multiprocessing.get_context("spawn" if torch.cuda.is_available() else "fork")
    children = [context.Process(target=child, args=(rank, folder, name)) for rank in range(2)]
    for process in children:
        process.start()
    for process in children:
        process.join(150)
        if process.exitcode is None:
            process.kill()
    files = [folder / f"{rank}.pt" for rank in range(2)]
    return [torch.load(file) if file.exists() else "the process has died or hangs" for file in files]


# A queue behind a shuffle, a memory of gathered views, and a teacher beside two banks; the others are slow.
QUICK = ("moco-v2/tiny in groups", "simclr-v2/tiny with memory", "crd/tiny-crd+kd")


@pytest.mark.parametrize("name", fast_if(QUICK.__contains__, NAMES))
def test_two_processes_train_as_one_does(name: str, tmp_path: Path) -> None:
    first, second = together(name, tmp_path)
    assert not isinstance(first, str), first
    assert not isinstance(second, str), second
    one = train(name)
    assert first["losses"] == pytest.approx(one["losses"], abs=1e-4)
    for key, value in first["state"].items():
        assert torch.equal(value, second["state"][key]), f"{key} is not the same on both processes"
    assert_alike(determined(one["state"]), determined(first["state"]))
