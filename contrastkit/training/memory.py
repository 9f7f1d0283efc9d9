"""The memory that a step of training needs, before anything has been allocated."""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from contrastkit import dist
from contrastkit.augment import Window
from contrastkit.errors import UserError
from contrastkit.memory import available_memory
from contrastkit.methods import BuildContext, Recipe
from contrastkit.parts.norm import SplitBatchNorm2d
from contrastkit.types import Batch

TEMPORARY = 1.1  # gradients of activations and workspaces, beside what the graph keeps
IMAGES = 0.5  # share of the memory beside a step that images may take: steps are counted at their least
# GiB of a device, from which on a step of MoCo's ``imagenet`` fits: it takes 23.3 and 12.0 (:func:`step_bytes`). Cards
# have somewhat less than they are sold with, so the second is below 16.
LARGE = {"float32": 24, "bfloat16": 14}


def require_memory(recipe: Recipe, context: BuildContext, device: torch.device, *, precision: str) -> int | None:
    """Check that a step of this recipe fits into the memory that is free; return its bytes, as of :func:`step_bytes`.

    Raises:
        UserError: it does not.
    """
    needed, free = step_bytes(recipe, context, precision=precision), free_bytes(device)
    if needed is not None and needed > free:
        fitting = int(recipe.batch * free / needed)
        remedy = f"--batch (to about {fitting}), --size" if fitting else "--size or the widths of the head"
        raise UserError(
            f"a step of batch {recipe.batch} takes at least {needed / 2**30:.1f} GiB of memory, and "
            f"{free / 2**30:.1f} GiB are free: lower {remedy}, or choose a smaller --encoder"
        )
    return needed


def is_small(device: torch.device, precision: str) -> bool:
    """Whether the published recipes for photos are too large for the first process's device: a CPU, or GPUs that have
    less than ``LARGE`` together."""
    if device.type != "cuda":
        return True
    total = torch.cuda.get_device_properties(device).total_memory * dist.world_size()
    return int(dist.broadcast_str(str(total))) < LARGE[precision] * 2**30  # one choice, whatever the others have


def room_beside(needed: int | None, device: torch.device) -> int:
    """Bytes of a device's free memory that images may take beside a step of ``needed`` bytes: half of what the step
    leaves. One of unknown size counts as half of the memory."""
    free = free_bytes(device)
    return int(IMAGES * (free - (free // 2 if needed is None else needed)))


def step_bytes(recipe: Recipe, context: BuildContext, *, precision: str = "float32") -> int | None:
    """Bytes that a step takes, at least: parameters, gradients, the optimizer's state, views, and the
    activations that the graph keeps for the backward pass, counted on torch's meta device, which computes nothing.

    None for several processes, a module of the user's, and a method that cannot be built on the meta device.

    Raises:
        UserError: the recipe cannot be built.
    """
    if context.encoder is not None or context.world > 1:
        return None
    teacher = None if context.teacher is None else context.teacher.shadow()
    context = replace(context, weights=None, teacher=teacher)
    try:
        with torch.device("meta"):
            method = recipe.build(context).to("meta")  # a queue is drawn on the CPU
        for module in method.modules():
            if isinstance(module, SplitBatchNorm2d):
                module.groups = 1  # keeps the same bytes, and takes seconds less
        views = [
            torch.empty(recipe.batch, context.channels, *side, device="meta")
            for side in ((1, v.size) if isinstance(v, Window) else (v.size, v.size) for v in recipe.views)
        ]
        index = torch.zeros(recipe.batch, dtype=torch.int64, device="meta")
        own = [*method.parameters(), *method.buffers()]
        kept = _kept_for_backward(lambda: method.train()(Batch(views, index, index), 0.0).loss, [*own, *views])
    except UserError:
        raise
    except Exception:  # an operator without a meta kernel
        return None
    trained = sum(_bytes(p) for p in method.parameters() if p.requires_grad)
    states = 2 if recipe.optimizer == "adamw" else 1
    if precision == "bfloat16":
        kept //= 2
    return sum(map(_bytes, own)) + (1 + states) * trained + sum(map(_bytes, views)) + int(TEMPORARY * kept)


def _kept_for_backward(forward: Callable[[], Tensor], known: list[Any]) -> int:
    """Bytes of the tensors that autograd saves in a forward pass, besides the known ones."""
    storages = {id(tensor.untyped_storage()): tensor.untyped_storage() for tensor in known}
    kept = 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal kept
        storage = tensor.untyped_storage()
        if id(storage) not in storages:
            storages[id(storage)] = storage  # kept alive, so that its id stays its own
            kept += storage.nbytes()
        return tensor

    # A loss may depend on values, which the meta device lacks; the encoders come before it, and are nearly all.
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), contextlib.suppress(Exception):
        forward()
    return kept


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def free_bytes(device: torch.device) -> int:
    """Memory that is free for a process: of the GPU, or of the machine."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_memory()
