"""MoCo's enqueue, compared with its official code."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F

from contrastkit import ops
from contrastkit.bench.case import Case, reference
from contrastkit.bench.measure import Way


def cases(device: str, dtype: torch.dtype, preset: str) -> Iterator[Case]:
    """Enqueue a batch of float32 features: normalise, cast, write, advance."""
    N, K, C = (256, 4096, 128) if preset == "quick" else (256, 65536, 128)
    x = torch.randn(N, C, device=device)
    keys, pointer = torch.zeros(K, C, dtype=dtype, device=device), torch.tensor(0, device=device)

    def eager() -> None:
        """moco/builder.py, on rows instead of columns; it reads the pointer on the host."""
        start = int(pointer)
        keys[start : start + N] = F.normalize(x, dim=1)
        pointer[...] = (start + N) % K

    ways: dict[str, Way] = {
        "eager": eager,
        "reference": lambda: reference("queue_push_")(keys, pointer, x, None, True),
        "ours": lambda: ops.queue_push_(keys, pointer, x, normalize=True),
    }
    notes = {"eager": "normalize, int(pointer), slice"}
    yield Case(f"N={N} K={K} C={C}", "forward", ways, notes, bytes=N * C * (x.element_size() + keys.element_size()))
