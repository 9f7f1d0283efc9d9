"""The arithmetic of the encoders."""

import contextlib
from collections.abc import Callable
from typing import Literal

import torch

from contrastkit.compat import cpu_has_fast_bfloat16

Precision = Literal["auto", "float32", "bfloat16"]
Autocast = Callable[[], contextlib.AbstractContextManager[object]]  # makes the context in which a network runs


def resolve(precision: Precision, device: torch.device) -> Precision:
    """Resolve "auto": bfloat16 where it is fast (GPUs since Ampere, CPUs with bfloat16 instructions)."""
    if precision != "auto":
        return precision
    on_gpu = device.type == "cuda"
    fast = torch.cuda.is_bf16_supported(including_emulation=False) if on_gpu else cpu_has_fast_bfloat16()
    return "bfloat16" if fast else "float32"


def autocast(precision: Precision, device: torch.device) -> Autocast:
    """The context of a forward pass: autocast to bfloat16, or none for float32."""
    if precision == "float32":
        return contextlib.nullcontext
    return lambda: torch.autocast(device.type, torch.bfloat16)
