"""Time each op against the official code, the best alternatives in torch, and the limits of the machine.

    ours                   contrastkit's op, as methods call it
    reference              the same op's reference in plain torch
    eager                  as the method's official repository writes it
    compile                torch.compile of that
    sdpa                   torch's fused attention with keys for values, the log-sum-exp folded in
    linear_cross_entropy   torch's fused loss, with the fastest of its options
    foreach                torch._foreach_lerp_
    embedding_bag          torch's fused gather, on the half of the work it supports
    lightly                lightly's module, if installed

The implementations of a case are timed in turns, so that disturbances of the machine affect all of them. `floor_ms` is
the floor, a lower bound from the machine's ceilings, measured first in the same run: the larger of bytes over the copy
rate and FLOP over the best GEMM rate. Data that stay in the caches can beat a floor of bytes, and so can work in place:
the stores of a copy first read what they overwrite (`stream` is the rate without that).
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from contrastkit.bench import augment, bank, clip, ema, infonce, measure, ntxent, queue, siglip, sinkhorn
from contrastkit.bench.case import Case
from contrastkit.errors import UserError, check_choice

# op -> (device, dtype, preset) -> its cases
CASES: dict[str, Callable[[str, torch.dtype, str], Iterator[Case]]] = {
    "infonce": infonce.cases,
    "ntxent": ntxent.cases,
    "clip": clip.cases,
    "siglip": siglip.cases,
    "bank": bank.cases,
    "bank_update": bank.update_cases,
    "queue": queue.cases,
    "ema": ema.cases,
    "sinkhorn": sinkhorn.cases,
    "augment": augment.cases,
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
PRESETS = ("quick", "paper")
CEILINGS = ("copy", "stream", "gemm")


def run(
    op: str | None = None, device: str = "cpu", dtype: str = "float32", preset: str = "quick"
) -> Iterator[dict[str, Any]]:
    """Measure case by case; the first rows are the machine's ceilings.

    Args:
        op: infonce, ntxent, clip, siglip, bank, bank_update, queue, ema, sinkhorn or augment; None for all.
        device: cpu or cuda.
        dtype: of the inputs: float32, bfloat16 or float16.
        preset: quick (shapes of a small run) or paper (the papers').

    Yields:
        rows {op, shape, dtype, device, direction, impl, median_ms, iqr_ms, extra_mib, floor_ms, note}; direction is
        forward or forward+backward; extra_mib is the peak memory above that before the call, results included. The
        numbers of an alternative that is unavailable are None, and its note gives the reason.

    Raises:
        UserError: an unknown name or an unavailable device.
    """
    if op is not None:
        check_choice("op", op, CASES)
    check_choice("dtype", dtype, DTYPES)
    check_choice("preset", preset, PRESETS)
    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise UserError(f"device '{device}' is not available: use cpu" + (" or cuda" if device != "cuda" else ""))

    def row(op: str, shape: str, direction: str, impl: str, **numbers: Any) -> dict[str, Any]:
        fixed = {"op": op, "shape": shape, "dtype": dtype, "device": device, "direction": direction, "impl": impl}
        return {**fixed, "median_ms": None, "iqr_ms": None, "extra_mib": None, "floor_ms": None, "note": "", **numbers}

    ceilings = measure.ceilings(device, DTYPES[dtype])
    for name, ceiling in ceilings.items():
        ms = 1e3 * ceiling.seconds
        numbers = {"median_ms": ms, "iqr_ms": 0.0, "extra_mib": 0.0, "floor_ms": ms}
        yield row(
            name, ceiling.shape, "forward", "eager", **numbers, note=f"{ceiling.rate / 1e9:.4g} G{ceiling.unit}/s"
        )
    for name in CASES if op is None else [op]:
        for case in CASES[name](device, DTYPES[dtype], preset):
            floor = 1e3 * max(case.bytes / ceilings["copy"].rate, case.flop / ceilings["gemm"].rate)
            ways, missing = measure.warm(case.ways)
            for impl, (median, iqr) in measure.interleaved(ways, device).items():
                yield row(
                    name,
                    case.shape,
                    case.direction,
                    impl,
                    median_ms=1e3 * median,
                    iqr_ms=1e3 * iqr,
                    extra_mib=measure.peak_memory(ways[impl], device) / 2**20,
                    floor_ms=floor,
                    note=case.notes.get(impl, ""),
                )
            for impl, reason in missing.items():
                yield row(name, case.shape, case.direction, impl, floor_ms=floor, note=reason)


__all__ = ["CASES", "CEILINGS", "DTYPES", "PRESETS", "run"]
