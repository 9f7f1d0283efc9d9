"""Heads and towers: what `mlp` builds, layer by layer, and views in their order."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from contrastkit.parts.encoder import Encoder
from contrastkit.parts.heads import Tower, ViewHeads, mlp

# The head, its arguments, its layers: of a linear one (in, out, has a bias), of a norm (kind, width, what it learns).
HEADS: list[tuple[str, tuple[int, ...], dict[str, Any], list[object]]] = [
    ("MoCo v1", (8, 3), {}, [(8, 3, True)]),
    ("MoCo v2", (8, 8, 3), {}, [(8, 8, True), "relu", (8, 3, True)]),
    (
        "SimCLR v1", (8, 6, 3), {"norm": "batch", "bias": False, "last_norm": "scale", "last_bias": False},
        [(8, 6, False), ("batch", 6, "scale and shift"), "relu", (6, 3, False), ("batch", 3, "scale")],
    ),
    (
        "SimCLR v2", (8, 6, 6, 3), {"norm": "batch", "bias": False, "last_norm": "scale", "last_bias": False},
        [(8, 6, False), ("batch", 6, "scale and shift"), "relu", (6, 6, False), ("batch", 6, "scale and shift"), "relu",
         (6, 3, False), ("batch", 3, "scale")],
    ),
    (
        "SimCLR linear", (8, 3), {"norm": "batch", "bias": False, "last_norm": "scale", "last_bias": False},
        [(8, 3, False), ("batch", 3, "scale")],
    ),
    (
        "SimSiam", (8, 6, 3), {"norm": "batch", "bias": False, "last_norm": "plain"},
        [(8, 6, False), ("batch", 6, "scale and shift"), "relu", (6, 3, True), ("batch", 3, "nothing")],
    ),
    (
        "layer norm", (8, 6, 3), {"norm": "layer", "last_norm": "affine"},
        [(8, 6, True), ("layer", 6, "scale and shift"), "relu", (6, 3, True), ("batch", 3, "scale and shift")],
    ),
]  # fmt: skip


def describe(layer: nn.Module) -> object:
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features, layer.bias is not None
    if isinstance(layer, nn.ReLU):
        return "relu"
    assert isinstance(layer, nn.BatchNorm1d | nn.LayerNorm)
    learned = [part for part in (layer.weight, layer.bias) if part is not None and part.requires_grad]
    what = ("nothing", "scale", "scale and shift")[len(learned)]
    if isinstance(layer, nn.BatchNorm1d):
        return "batch", layer.num_features, what
    return "layer", *layer.normalized_shape, what


@pytest.mark.parametrize(("name", "widths", "how", "expected"), HEADS, ids=[row[0] for row in HEADS])
def test_a_head_is_built_layer_by_layer(
    name: str, widths: tuple[int, ...], how: dict[str, Any], expected: list[object]
) -> None:
    assert [describe(layer) for layer in mlp(*widths, **how)] == expected


def test_a_norm_without_shift_gives_a_mean_of_zero() -> None:
    head = mlp(8, 3, last_norm="scale")
    assert head(torch.randn(16, 8) + 5).mean(0).abs().max() < 1e-5
    assert not head[-1].bias.any()


def test_the_activation_is_the_one_asked_for() -> None:
    assert isinstance(mlp(8, 6, 3, activation=nn.GELU)[1], nn.GELU)


class Mean(nn.Module):
    """Images [N, C, H, W] -> [N, C], and the sizes of what came in."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(tuple(x.shape))
        return x.mean(dim=(2, 3))


def test_a_tower_gives_the_rows_of_its_views_view_by_view() -> None:
    """Neighbours of one size in one pass, all rows through the head at once."""
    trunk, heads = Mean(), Mean()
    heads.forward = lambda x: (heads.seen.append(tuple(x.shape)), 2 * x)[1]  # type: ignore[func-returns-value, method-assign]
    tower = Tower(Encoder(trunk, dim=3, channels=3, stem="own"), heads)
    g = torch.Generator().manual_seed(0)
    views = [torch.rand(4, 3, size, size, generator=g) for size in (8, 8, 5, 5, 5, 8)]
    rows = tower(views)
    assert rows.shape == (24, 3)
    assert trunk.seen == [(8, 3, 8, 8), (12, 3, 5, 5), (4, 3, 8, 8)] and heads.seen == [(24, 3)]
    for v, view in enumerate(views):
        torch.testing.assert_close(rows[4 * v : 4 * v + 4], tower(view))


@pytest.mark.parametrize("centre", [False, True])
def test_each_view_has_a_head_of_its_own_onto_the_sphere(centre: bool) -> None:
    torch.manual_seed(0)
    heads, x = ViewHeads([3, 5], 4, centre=centre), torch.randn(6, 8)
    expected = []
    for head, part in zip(heads.heads, (x[:, :3], x[:, 3:]), strict=True):
        assert (head[0].bias is None) == centre
        z = head[0](part)
        if centre:
            z = (z - z.mean(0)) / (z.var(0, correction=0) + 1e-5).sqrt()
        expected.append(z / z.norm(dim=1, keepdim=True))
    torch.testing.assert_close(heads(x), torch.cat(expected, dim=1), atol=1e-5, rtol=1e-4)
    assert not centre or sum(p.numel() for p in heads.parameters()) == 8 * 4
