"""A momentum encoder's update, compared with DINO's official code and torch's own foreach functions."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from contrastkit import compat, ops
from contrastkit.bench.case import Case, unavailable
from contrastkit.bench.measure import Way

M = 0.999


def cases(device: str, dtype: torch.dtype, preset: str) -> Iterator[Case]:
    """float32 averages of a network's tensors, which are of `dtype`: its parameters, and its whole state."""
    import torchvision

    names = (
        [("resnet18", False)] if preset == "quick" else [("resnet50", False), ("resnet50", True), ("vit_b_16", False)]
    )
    for name, whole in names:
        with torch.device("meta"):
            model = torchvision.models.get_model(name)
        tensors = list(model.state_dict().values() if whole else model.parameters())
        shapes = [t.shape for t in tensors if t.is_floating_point()]
        averages = [torch.randn(s, device=device) for s in shapes]
        params = [torch.randn(s, device=device).to(dtype) for s in shapes]
        counters = len(tensors) - len(shapes)  # of batch norm; they are copied, as in timm's ModelEma
        counts, new_counts = ([torch.tensor(7, device=device) for _ in range(counters)] for _ in range(2))

        def way(
            update: Callable[[list[Tensor], list[Tensor]], object],
            copy: Callable[[list[Tensor], list[Tensor]], object] = compat.foreach_copy_,
            averages: list[Tensor] = averages,
            params: list[Tensor] = params,
            counts: list[Tensor] = counts,
            new_counts: list[Tensor] = new_counts,
        ) -> Way:
            def run() -> None:
                update(averages, params)
                if counts:
                    copy(counts, new_counts)

            return run

        foreach = way(lambda a, p: compat.foreach_lerp_(a, p, 1 - M))
        ways: dict[str, Way] = {
            "eager": way(official, copy_each),
            "ours": way(lambda a, p: ops.ema_(a, p, M)),
            "foreach": foreach if dtype == torch.float32 else unavailable("_foreach_lerp_ requires a single dtype"),
        }
        numel = sum(p.numel() for p in params)
        yield Case(
            f"{name} {'state' if whole else 'parameters'} {numel / 1e6:.1f}M",
            "forward",
            ways,
            {"eager": "loop of mul_, mul, add_", "foreach": "_foreach_lerp_"},
            bytes=numel * (8 + params[0].element_size()),
        )


def official(averages: list[Tensor], params: list[Tensor]) -> None:
    """main_dino.py."""
    for a, p in zip(averages, params, strict=True):
        a.mul_(M).add_((1 - M) * p)


def copy_each(counts: list[Tensor], new_counts: list[Tensor]) -> None:
    for a, p in zip(counts, new_counts, strict=True):
        a.copy_(p)
