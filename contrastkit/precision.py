"""The arithmetic that encoders run in."""

import contextlib
from collections.abc import Callable

import torch

Autocast = Callable[[], contextlib.AbstractContextManager[object]]  # makes the context that a network runs under


def resolve(precision: str, device: torch.device) -> str:
    """What "auto" stands for: bfloat16 where it helps (a GPU since Ampere, a CPU with bfloat16 instructions)."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = torch.cpu._is_avx512_bf16_supported()
    return "bfloat16" if fast else "float32"


def autocast(precision: str, device: torch.device) -> Autocast:
    """The context of a forward pass: autocast to bfloat16, or nothing for float32."""
    if precision == "float32":
        return contextlib.nullcontext
    return lambda: torch.autocast(device.type, torch.bfloat16)
