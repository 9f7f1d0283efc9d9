"""Timing, peak memory, and the machine's ceilings."""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # silences torch's profiler, which reads it when it first runs

BUDGET = 2.0  # seconds of measuring per case
MIN_SAMPLES = 9  # of each implementation

Way = Callable[[], Any]


class Missing(Exception):
    """Raised by an implementation that is not available here, with the reason."""


@dataclass(frozen=True)
class Ceiling:
    """The best rate of the machine: `rate` units per second, in a call of `seconds` on `shape`."""

    rate: float
    unit: str
    shape: str
    seconds: float


def seconds(way: Way, device: str, repeat: int = 1) -> float:
    """One sample: the mean of `repeat` calls, waiting for the device at both ends."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(repeat):
        way()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / repeat


def warm(ways: dict[str, Way]) -> tuple[dict[str, Way], dict[str, str]]:
    """The available implementations, each called twice, and why the others are not available."""
    available, missing = {}, {}
    for name, way in ways.items():
        try:
            way()
            way()
            available[name] = way
        except Missing as error:
            missing[name] = str(error)
    return available, missing


def interleaved(ways: dict[str, Way], device: str) -> dict[str, tuple[float, float]]:
    """Median and interquartile range in seconds of each implementation, timed in turns."""
    # Samples of at least a millisecond, far above the resolution of the clock.
    repeats = {name: max(1, round(1e-3 / seconds(way, device))) for name, way in ways.items()}
    samples: dict[str, list[float]] = {name: [] for name in ways}
    end = time.perf_counter() + BUDGET
    while ways and (time.perf_counter() < end or len(next(iter(samples.values()))) < MIN_SAMPLES):
        for name, way in ways.items():
            samples[name].append(seconds(way, device, repeats[name]))
    quartiles = {name: statistics.quantiles(times, n=4) for name, times in samples.items()}
    return {name: (q[1], q[2] - q[0]) for name, q in quartiles.items()}


def fastest(ways: dict[str, Way], device: str) -> str:
    """The name of the fastest implementation in three calls after a warm-up."""
    return min(ways, key=lambda name: (ways[name](), min(seconds(ways[name], device) for _ in range(3)))[1])


def peak_memory(way: Way, device: str) -> float:
    """Peak memory of one call in bytes, above that before it."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        way()
        return torch.cuda.max_memory_allocated() - before
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True, acc_events=True) as profile:
        way()
    allocated = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            allocated += event.nbytes()
            peak = max(peak, allocated)
    return peak


# Rows, columns and depth: large products, and tiles that fit in the caches.
GEMMS = [(256, 512, 128), (256, 4096, 128), (512, 512, 512), (1024, 1024, 1024), (4096, 4096, 4096)]


def ceilings(device: str, dtype: torch.dtype) -> dict[str, Ceiling]:
    """Bytes per second of a copy (reads and writes counted), and of the better of two streams without extra reads, an
    average in place and a sum; FLOP per second of the best GEMM in ``dtype``."""
    n = 2**26 if device == "cuda" else 2**25
    a, b = torch.ones(n, device=device), torch.ones(n, device=device)

    def stream(name: str, way: Way, size: int) -> Ceiling:
        time_ = min(seconds(way, device) for _ in range(9))
        return Ceiling(size / time_, "B", f"{name} {4 * n >> 20} MiB".lstrip(), time_)

    copy = stream("", lambda: b.copy_(a), 8 * n)
    streams = [stream("average in place,", lambda: b.lerp_(a, 0.01), 12 * n), stream("sum,", lambda: a.sum(), 4 * n)]
    best = Ceiling(0.0, "FLOP", "", 1.0)
    for shape in GEMMS if device == "cpu" else [*GEMMS, (8192, 8192, 8192)]:
        rows, columns, depth = shape
        x, y = (torch.randn(k, depth, device=device).to(dtype) for k in (rows, columns))
        for way in _products(x, y):
            way()
            time_ = min(seconds(way, device) for _ in range(9))
            rate = 2 * rows * columns * depth / time_
            if rate > best.rate:
                best = Ceiling(rate, "FLOP", " x ".join(map(str, shape)), time_)
    return {"copy": copy, "stream": max(streams, key=lambda ceiling: ceiling.rate), "gemm": best}


def _products(x: Tensor, y: Tensor) -> list[Way]:
    """x y^T by each library that torch offers."""
    ways: list[Way] = [lambda: x @ y.T]
    if x.device.type == "cpu" and torch.backends.mkldnn.is_available() and x.dtype != torch.float16:
        left, right = x.to_mkldnn(), y.to_mkldnn()  # oneDNN or MKL: which is faster depends on the CPU
        ways.append(lambda: torch.ops.aten.mkldnn_linear(left, right, None))
    return ways
