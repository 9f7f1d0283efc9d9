"""Time each op beside the official code's way and the best alternative in torch, and beside what the machine allows.

The ways of one case are timed in turns, so that a disturbance of the machine meets all of them. `floor_ms` is what the
copy rate and the GEMM rate, measured in the same run, leave at the least: bytes / rate or FLOP / rate, the larger one.
A case whose data stay in the caches may beat a floor of bytes.
"""

import functools
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # read when torch is loaded: its profiler would talk on stderr

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastkit import kernels, ops
from contrastkit.errors import UserError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
PRESETS = ("quick", "paper")
BUDGET = 2.0  # seconds of measuring for one case
Way = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """One piece of work: the ways to do it, and how much there is to do at the least."""

    shape: str
    direction: str
    ways: dict[str, Way]
    bytes: float = 0.0
    flop: float = 0.0


def run(
    op: str | None = None, device: str = "cpu", dtype: str = "float32", preset: str = "quick"
) -> Iterator[dict[str, Any]]:
    """Measure, case by case.

    Args:
        op: infonce, queue or ema; None for all.
        device: cpu or cuda.
        dtype: of the inputs: float32, bfloat16 or float16.
        preset: quick (shapes of a small run) or paper (MoCo's on ImageNet).

    Yields:
        rows {op, shape, dtype, device, direction, impl, median_ms, iqr_ms, extra_mib, floor_ms}; extra_mib is the
        memory held at the peak beyond what stood before, results included.

    Raises:
        UserError: an unknown name, or no such device.
    """
    for name, value, known in (("op", op, CASES), ("dtype", dtype, DTYPES), ("preset", preset, PRESETS)):
        if value is not None and value not in known:
            raise UserError(f"no {name} '{value}' to measure; there are {', '.join(known)}")
    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise UserError(f"device '{device}' is not here; measure on cpu" + (" or cuda" if device != "cuda" else ""))
    bandwidth, gemm = ceilings(device, DTYPES[dtype])
    for name in CASES if op is None else [op]:
        for case in CASES[name](device, DTYPES[dtype], preset):
            floor = 1e3 * max(case.bytes / bandwidth, case.flop / gemm)
            for impl, (median, iqr) in interleaved(case.ways, device).items():
                yield {
                    "op": name,
                    "shape": case.shape,
                    "dtype": dtype,
                    "device": device,
                    "direction": case.direction,
                    "impl": impl,
                    "median_ms": 1e3 * median,
                    "iqr_ms": 1e3 * iqr,
                    "extra_mib": peak_memory(case.ways[impl], device) / 2**20,
                    "floor_ms": floor,
                }


# Measuring


def seconds(way: Way, device: str, repeat: int) -> float:
    """One sample: the mean of `repeat` calls, waiting for the device at both ends."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(repeat):
        way()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / repeat


def interleaved(ways: dict[str, Way], device: str) -> dict[str, tuple[float, float]]:
    """Median and interquartile range in seconds of each way, timed in turns."""
    # A sample of a millisecond or more is far above the clock's grain.
    repeats = {}
    for name, way in ways.items():
        seconds(way, device, 2)  # warm up
        repeats[name] = max(1, round(1e-3 / seconds(way, device, 1)))
    samples: dict[str, list[float]] = {name: [] for name in ways}
    end = time.perf_counter() + BUDGET
    while time.perf_counter() < end or len(next(iter(samples.values()))) < 7:
        for name, way in ways.items():
            samples[name].append(seconds(way, device, repeats[name]))
    quartiles = {name: statistics.quantiles(times, n=4) for name, times in samples.items()}
    return {name: (q[1], q[2] - q[0]) for name, q in quartiles.items()}


def peak_memory(way: Way, device: str) -> float:
    """Bytes that one call holds at its peak, beyond what stood before it."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        way()
        return torch.cuda.max_memory_allocated() - before
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True, acc_events=True) as profile:
        way()
    held = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def ceilings(device: str, dtype: torch.dtype) -> tuple[float, float]:
    """Bytes a second of a copy (read and write counted), FLOP a second of a square GEMM in dtype."""
    n = 2**26 if device == "cuda" else 2**25
    a, b = torch.ones(n, device=device), torch.empty(n, device=device)
    side = 8192 if device == "cuda" else 1024
    x = torch.randn(side, side, device=device).to(dtype)
    best = {
        name: min(seconds(way, device, 1) for _ in range(7))
        for name, way in {"copy": lambda: b.copy_(a), "gemm": lambda: x @ x}.items()
    }
    return 2 * 4 * n / best["copy"], 2 * side**3 / best["gemm"]


def ours(op: str, device: str) -> str:
    return f"contrastkit: {kernels.info()['ops'][op][device]}"


# Cases


def infonce_cases(device: str, dtype: torch.dtype, preset: str) -> Iterator[Case]:
    """MoCo's loss against its queue, and the gradient of the query."""
    tau = 0.2
    shapes = [(256, 4096, 128)] if preset == "quick" else [(256, 65536, 128), (1024, 65536, 128)]
    for N, K, C in shapes:
        q, p, keys = (F.normalize(torch.randn(n, C, device=device), dim=1).to(dtype) for n in (N, N, K))
        queue = keys.T.contiguous()  # the official code keeps [C, K]
        labels = torch.zeros(N, dtype=torch.int64, device=device)

        def official(q: Tensor, p: Tensor = p, queue: Tensor = queue, labels: Tensor = labels) -> Tensor:
            """moco/builder.py and main_moco.py."""
            positive = torch.einsum("nc,nc->n", [q, p]).unsqueeze(-1)
            negative = torch.einsum("nc,ck->nk", [q, queue.clone().detach()])
            return F.cross_entropy(torch.cat([positive, negative], dim=1) / tau, labels)

        def fused(q: Tensor, p: Tensor = p, keys: Tensor = keys) -> Tensor:
            return ops.infonce(q, p, keys, tau=tau)[0].mean()

        def attention(q: Tensor = q, p: Tensor = p, keys: Tensor = keys) -> tuple[Tensor, Tensor]:
            """Loss and gradient from one call of torch's attention with keys for values: the best that torch has."""
            O, L = _attention(q, keys, 1 / tau)  # noqa: E741
            s = (q.float() * p.float()).sum(1) / tau
            w = torch.sigmoid(L - s)
            return F.softplus(L - s).mean(), (w / (tau * len(q)))[:, None] * (O.float() - p.float())

        def gradient(loss: Callable[[Tensor], Tensor], q: Tensor = q) -> tuple[Tensor, ...]:
            leaf = q.detach().requires_grad_()
            return torch.autograd.grad(loss(leaf), leaf)

        official_, ours_ = "official: einsum, clone, cat, cross_entropy", ours("infonce", device)
        # Each key is read once; scores and the weighted sum of keys are 2NKC each.
        yield Case(
            f"N={N} K={K} C={C}",
            "forward",
            {official_: functools.partial(official, q), ours_: functools.partial(fused, q)},
            bytes=(K + 2 * N) * C * q.element_size(),
            flop=2 * N * K * C,
        )
        yield Case(
            f"N={N} K={K} C={C}",
            "forward+backward",
            {
                official_: functools.partial(gradient, official),
                "torch: attention with values = keys": attention,
                ours_: functools.partial(gradient, fused),
            },
            bytes=(K + 3 * N) * C * q.element_size(),
            flop=4 * N * K * C,
        )


def _attention(q: Tensor, keys: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """softmax(scale q keys^T) keys and the log-sum-exp, by torch's fused attention."""
    Q, K = q[None, None], keys[None, None]
    aten = torch.ops.aten
    if q.device.type == "cpu":
        O, L, *_ = aten._scaled_dot_product_flash_attention_for_cpu(Q, K, K, scale=scale)  # noqa: E741
    elif q.dtype == torch.float32:
        O, L, *_ = aten._scaled_dot_product_efficient_attention(Q, K, K, None, True, scale=scale)  # noqa: E741
    else:
        O, L, *_ = aten._scaled_dot_product_flash_attention(Q, K, K, scale=scale)  # noqa: E741
    return O[0, 0], L[0, 0, : len(q)]


def queue_cases(device: str, dtype: torch.dtype, preset: str) -> Iterator[Case]:
    """A batch of float32 features becomes keys of the queue: normalise, cast, write, move on."""
    N, K, C = (256, 4096, 128) if preset == "quick" else (256, 65536, 128)
    x = torch.randn(N, C, device=device)
    keys, pointer = torch.zeros(K, C, dtype=dtype, device=device), torch.tensor(0, device=device)

    def official() -> None:
        """moco/builder.py, on rows instead of columns; it reads the pointer on the host."""
        at = int(pointer)
        keys[at : at + N] = F.normalize(x, dim=1)
        pointer[...] = (at + N) % K

    yield Case(
        f"N={N} K={K} C={C}",
        "push",
        {
            "official: normalize, int(pointer), slice": official,
            ours("queue_push_", device): lambda: ops.queue_push_(keys, pointer, x, normalize=True),
        },
        bytes=N * C * (x.element_size() + keys.element_size()),
    )


def ema_cases(device: str, dtype: torch.dtype, preset: str) -> Iterator[Case]:
    """float32 averages of a network's parameters, which are of `dtype`."""
    import torchvision

    m = 0.999

    def official(averages: list[Tensor], params: list[Tensor]) -> None:
        """main_dino.py."""
        for a, p in zip(averages, params, strict=True):
            a.mul_(m).add_((1 - m) * p)

    for name in ["resnet18"] if preset == "quick" else ["resnet50", "vit_b_16"]:
        with torch.device("meta"):
            shapes = [p.shape for p in torchvision.models.get_model(name).parameters()]
        averages = [torch.randn(s, device=device) for s in shapes]
        params = [torch.randn(s, device=device).to(dtype) for s in shapes]
        ways: dict[str, Way] = {"official: loop of mul_, mul, add_": functools.partial(official, averages, params)}
        if dtype == torch.float32:  # it wants one dtype
            ways["torch: _foreach_lerp_"] = functools.partial(torch._foreach_lerp_, averages, params, 1 - m)
        ways[ours("ema_", device)] = functools.partial(ops.ema_, averages, params, m)
        numel = sum(p.numel() for p in params)
        yield Case(f"{name} {numel / 1e6:.1f}M", "update", ways, bytes=numel * (8 + params[0].element_size()))


CASES: dict[str, Callable[[str, torch.dtype, str], Iterator[Case]]] = {
    "infonce": infonce_cases,
    "queue": queue_cases,
    "ema": ema_cases,
}
