"""Heads between an encoder and a loss."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contrastkit.parts.encoder import Encoder
from contrastkit.parts.norm import WSLinear, groups_of

Norm = Literal["batch", "layer", "group", "none"]
NORMS: dict[Norm, Callable[[int], nn.Module] | None] = {
    "batch": nn.BatchNorm1d, "layer": nn.LayerNorm, "group": groups_of, "none": None,
}  # fmt: skip


class Tower(nn.Module):
    """An encoder, then a head: images [N, channels, H, W] in [0, 1] -> [N, C]. Only the encoder outlives training."""

    def __init__(self, encoder: Encoder, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, images: Tensor | Sequence[Tensor]) -> Tensor:
        """A sequence of views [n, channels, H_v, W_v] gives [V n, C], view by view. Adjacent views of one size share a
        pass through the encoder, and all views one through the head, as in SwAV's and DINO's multi-crop (which
        affects batch norm).
        """
        if isinstance(images, Tensor):
            return self.head(self.encoder(images))
        runs: list[list[Tensor]] = []
        for view in images:
            if runs and runs[-1][0].shape == view.shape:
                runs[-1].append(view)
            else:
                runs.append([view])
        return self.head(torch.cat([self.encoder(torch.cat(run)) for run in runs]))


class ViewHeads(nn.Module):
    """A linear head for each view's features, onto the unit sphere (CMC): [N, sum of dims] -> float32 [N, V C].

    ``centre``: end each with a batch norm without scale and shift.
    """

    def __init__(self, dims: Sequence[int], C: int, *, centre: bool = False) -> None:
        super().__init__()
        self.dims = list(dims)
        norm: Literal["plain", "none"] = "plain" if centre else "none"
        self.heads = nn.ModuleList(mlp(dim, C, last_norm=norm, last_bias=not centre) for dim in dims)

    def forward(self, x: Tensor) -> Tensor:
        parts = x.split(self.dims, dim=1)
        z = [F.normalize(head(part).float(), dim=1) for head, part in zip(self.heads, parts, strict=True)]
        return torch.cat(z, dim=1)


def mlp(
    *widths: int,
    norm: Norm = "none",
    bias: bool = True,
    last_norm: Literal["none", "affine", "scale", "plain"] = "none",
    last_bias: bool = True,
    activation: Callable[[], nn.Module] = lambda: nn.ReLU(inplace=True),
) -> nn.Sequential:
    """Linear layers between ``widths``, each but the last followed by its norm and the activation.

    Two widths are one linear layer (MoCo v1), three without norms MoCo v2's head (Chen et al. 2020, Sec. 3).

    Args:
        norm: norm after each hidden layer; "group" also standardises the weights of all layers
            (:func:`contrastkit.parts.norm.group_norm` does so in an encoder).
        bias: whether hidden linear layers have a bias.
        last_norm: batch norm after the last layer: "affine" (scale and shift), "scale" (no shift: SimCLR) or "plain"
            (neither: SimSiam, MoCo v3).
        last_bias: whether the last linear layer has a bias.
    """
    layers: list[nn.Module] = []
    linear = WSLinear if norm == "group" else nn.Linear
    for into, out in zip(widths[:-2], widths[1:-1], strict=True):
        layers.append(linear(into, out, bias=bias))
        if (make := NORMS[norm]) is not None:
            layers.append(make(out))
        layers.append(activation())
    layers.append(linear(widths[-2], widths[-1], bias=last_bias))
    if last_norm != "none":
        final = nn.BatchNorm1d(widths[-1], affine=last_norm != "plain")
        if last_norm == "scale":
            final.bias.requires_grad_(False)  # it stays 0
        layers.append(final)
    return nn.Sequential(*layers)
