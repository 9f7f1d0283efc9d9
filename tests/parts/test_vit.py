"""Vision transformers as MoCo v3 and DINO want them: positions, first weights, patches that tile, paths that drop."""

import math
from typing import Any

import pytest
import torch
from timm.models import VisionTransformer
from torch import Tensor, nn

from contrastkit.errors import UserError
from contrastkit.parts.build import build_encoder, check_patches
from contrastkit.parts.vit import drop_paths, moco_v3_start_, sincos_positions


@pytest.mark.parametrize("column_first", [False, True])
def test_positions_are_sines_and_cosines_of_row_and_column(column_first: bool) -> None:
    height, width, dim = 3, 5, 16
    actual = sincos_positions(height, width, dim, column_first=column_first)
    assert actual.shape == (height * width, dim)
    for row in range(height):
        for column in range(width):
            expected = []
            for place in (column, row) if column_first else (row, column):
                angles = [place / 10000 ** (i / (dim // 4)) for i in range(dim // 4)]
                expected += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
            assert actual[row * width + column].tolist() == pytest.approx(expected, abs=1e-6)


def transformer(**how: Any) -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(img_size=64, patch_size=16, embed_dim=32, depth=2, num_heads=4, num_classes=0, **how)


def test_moco_v3_begins_with_fixed_positions_and_frozen_patches() -> None:
    vit = transformer()
    moco_v3_start_(vit, stop_grad_conv1=True)
    assert torch.equal(vit.pos_embed[0, 0], torch.zeros(32)), "the class token has no position"
    assert torch.equal(vit.pos_embed[0, 1:], sincos_positions(4, 4, 32))
    frozen = {name for name, p in vit.named_parameters() if not p.requires_grad}
    assert frozen == {"pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"}
    assert vit.cls_token.abs().max() < 1e-5
    free = transformer()
    moco_v3_start_(free, stop_grad_conv1=False)
    assert {name for name, p in free.named_parameters() if not p.requires_grad} == {"pos_embed"}


def test_moco_v3_draws_query_key_and_value_as_three_matrices() -> None:
    vit = transformer()
    moco_v3_start_(vit, stop_grad_conv1=True)
    bounds = {
        "patch_embed.proj": 6 / (3 * 16 * 16 + 32),
        "blocks.0.attn.qkv": 6 / (32 + 32),  # not 6 / (32 + 96)
        "blocks.1.attn.proj": 6 / (32 + 32),
        "blocks.0.mlp.fc1": 6 / (32 + 128),
        "blocks.1.mlp.fc2": 6 / (128 + 32),
    }
    for name, square in bounds.items():
        layer = vit.get_submodule(name)
        largest = layer.weight.abs().max().item()
        assert 0.98 * math.sqrt(square) < largest <= math.sqrt(square), name
        assert layer.weight.std().item() == pytest.approx(math.sqrt(square / 3), rel=0.05), name
        assert not layer.bias.any(), name


@pytest.mark.parametrize(("size", "fits"), [(32, True), (96, True), (224, True), (30, False), (8, False), (40, False)])
def test_a_size_that_patches_do_not_tile_is_refused(size: int, fits: bool) -> None:
    if fits:
        build_encoder("timm:test_vit", channels=3, size=size)
        check_patches(transformer(), size)
        return
    says = f"a view of {size} pixels does not divide into this transformer's patches of 16: --size must be a multiple"
    with pytest.raises(UserError, match=says):
        build_encoder("timm:test_vit", channels=3, size=size)
    with pytest.raises(UserError, match=says):
        check_patches(transformer(), size)
    check_patches(nn.Conv2d(3, 8, 3), size)  # nothing else has patches
    build_encoder("timm:resnet10t", channels=3, size=max(size, 16), vit={"num_heads": 4})


def test_a_transformer_takes_further_arguments() -> None:
    encoder = build_encoder("timm:test_vit", channels=3, size=32, vit={"num_heads": 8, "drop_path_rate": 0.3})
    assert all(block.attn.num_heads == 8 for block in encoder.trunk.blocks)
    rates = [round(path.drop_prob, 4) for path in drop_paths(encoder)]
    assert rates == [0.06] * 2 + [0.12] * 2 + [0.18] * 2 + [0.24] * 2 + [0.3] * 2  # 6 blocks of two, the first without


@torch.no_grad()
def positions(vit: VisionTransformer, grid: int) -> Tensor:
    """What a view of ``grid`` x ``grid`` patches has added to its tokens: [1 + grid^2, dim]."""
    vit.cls_token.zero_()
    return vit._pos_embed(torch.zeros(1, grid, grid, vit.embed_dim))[0]


def test_positions_of_a_small_crop_are_interpolated_over_the_whole_image() -> None:
    """DINO's local crops: 96 pixels are 6 x 6 patches, whose positions lie spread over those of 14 x 14."""
    torch.manual_seed(0)
    vit = VisionTransformer(
        img_size=224, patch_size=16, embed_dim=8, depth=1, num_heads=2, num_classes=0, dynamic_img_size=True
    )
    row, column = (x.flatten().float() for x in torch.meshgrid(torch.arange(14), torch.arange(14), indexing="ij"))
    with torch.no_grad():
        vit.pos_embed.zero_()
        vit.pos_embed[0, 1:, 0], vit.pos_embed[0, 1:, 1], vit.pos_embed[0, :, 2] = row, column, 5.0
        vit.pos_embed[0, 0, 3] = 7.0
    assert torch.equal(positions(vit, 14), vit.pos_embed[0])
    actual = positions(vit, 6)
    assert actual.shape == (37, 8)
    torch.testing.assert_close(actual[0], vit.pos_embed[0, 0])  # the class token keeps its own
    torch.testing.assert_close(actual[1:, 2], torch.full((36,), 5.0))  # weights sum to 1
    assert not actual[1:, 3:].any()
    centres = [(i + 0.5) * 14 / 6 - 0.5 for i in range(6)]  # of the crop's patches, in patches of the large view
    grid = actual[1:, :2].view(6, 6, 2)
    for i in range(6):
        for j in range(6):
            edge = min(i, j, 5 - i, 5 - j) < 2  # there the kernel is cut off and leans inwards
            tolerance = 0.6 if edge else 0.01  # the sampled kernel is not quite symmetric
            assert grid[i, j].tolist() == pytest.approx([centres[i], centres[j]], abs=tolerance)
    tokens = vit._pos_embed(torch.zeros(1, 6, 6, 8))
    tokens.sum().backward()
    assert (vit.pos_embed.grad[0, 1:] > 0).all(), "every position learns from local crops too"
