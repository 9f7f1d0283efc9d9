"""The operator library `torch.ops.contrastkit`, and what its references share."""

import torch
from torch import Tensor

LIBRARY = torch.library.Library("contrastkit", "DEF")

# References work on blocks of rows, so that the logits of one block stay near the cores.
_BLOCK = {"cpu": 2**22, "cuda": 2**26}


def accumulator(*tensors: Tensor) -> torch.dtype:
    """The dtype of arithmetic and results: float64 where any input is, else float32."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def blocks(N: int, K: int, device: torch.device) -> list[slice]:
    """Slices of N rows, such that K numbers for each row of a slice are not too many."""
    n = max(1, _BLOCK["cpu" if device.type == "cpu" else "cuda"] // max(K, 1))
    return [slice(i, min(i + n, N)) for i in range(0, N, n)]


def temperature(op: str, tau: float | Tensor) -> Tensor:
    """Check a temperature; a float becomes a 0-dim tensor on the CPU."""
    if not isinstance(tau, Tensor):
        if not tau > 0:
            raise ValueError(f"{op}: tau must be above 0, got {tau}")
        return torch.tensor(tau, dtype=torch.float64)
    if tau.ndim or not tau.is_floating_point():
        raise ValueError(f"{op}: tau must be a float or a 0-dim floating tensor, got {tau.dtype}{list(tau.shape)}")
    return tau


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)); torch's own takes x for it from 20 on, which float64 sees."""
    return torch.logaddexp(x, x.new_zeros(()))
