"""Unit vectors for tests of ops."""

import torch
import torch.nn.functional as F
from torch import Tensor


def unit(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return F.normalize(torch.randn(*shape, dtype=dtype), dim=-1)
