"""Unit vectors for tests of ops."""

import torch
import torch.nn.functional as F
from torch import Tensor


def unit(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return F.normalize(torch.randn(*shape, dtype=dtype), dim=-1)


def pairs(n: int, C: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Unit vectors x and y, [n, C] each, of which partners are alike."""
    x = unit(n, C)
    return x.to(dtype), F.normalize(x + torch.randn(n, C, dtype=torch.float64) / 2, dim=-1).to(dtype)
