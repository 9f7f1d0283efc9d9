"""The operator library `torch.ops.contrastkit`."""

import torch

LIBRARY = torch.library.Library("contrastkit", "DEF")
