"""Depths of parameters: vision transformers against BEiT's and MAE's formula, residual networks by their stages."""

import re

import pytest
from torch import nn

from contrastkit.errors import UserError
from contrastkit.parts.build import build_encoder
from contrastkit.parts.depth import depths, layer_rates
from contrastkit.parts.encoder import Encoder


def maes_rate(name: str, blocks: int, decay: float) -> float:
    """By the paper's rule (BEiT, App. H; MAE's table of fine-tuning): the embedding is layer 0, block i of L is layer
    i, counted from 1, and the classifier with the last norm layer L + 1; layer l has decay^(L + 1 - l)."""
    if match := re.match(r"trunk\.blocks\.(\d+)\.", name):
        layer = int(match[1]) + 1
    else:
        layer = blocks + 1 if name.startswith("trunk.norm.") else 0
    rate = 1.0
    for _ in range(blocks + 1 - layer):
        rate *= decay
    return rate


def test_a_transformers_rates_are_those_of_the_paper() -> None:
    encoder = build_encoder("timm:vit_tiny_patch16_224", channels=3, size=32)
    depth, n = depths(encoder)
    rates = layer_rates(n, 0.65)
    assert n == 12 and len(rates) == 14
    assert rates[0] == pytest.approx(0.65**13) and rates[12] == pytest.approx(0.65) and rates[13] == 1
    names = [name for name, _ in encoder.named_parameters()]
    assert set(depth) == set(names)
    for name in names:
        assert rates[depth[name]] == pytest.approx(maes_rate(name, 12, 0.65)), name
    for name in ("trunk.cls_token", "trunk.pos_embed", "trunk.patch_embed.proj.weight"):
        assert depth[name] == 0
    assert depth["trunk.blocks.0.attn.qkv.weight"] == 1 and depth["trunk.norm.bias"] == 13


@pytest.mark.parametrize(("name", "stages", "last"), [("resnet18", 4, "layer4"), ("resnet18", 3, "layer3")])
def test_a_resnets_layers_are_its_stages(name: str, stages: int, last: str) -> None:
    depth, n = depths(build_encoder(name, channels=3, size=32, stages=stages))
    assert n == stages
    assert depth["trunk.conv1.weight"] == depth["trunk.bn1.bias"] == 0
    for stage in range(1, stages + 1):
        assert {d for key, d in depth.items() if f".layer{stage}." in key} == {stage}
    assert max(depth, key=depth.__getitem__).startswith(f"trunk.{last}")


def test_tiny_and_kept_projector_layers() -> None:
    depth, n = depths(build_encoder("tiny", channels=3, size=16))
    assert n == 3 and depth["trunk.conv1.weight"] == 0 and depth["trunk.blocks.2.conv2.weight"] == 3
    depth, n = depths(build_encoder("tiny", channels=3, size=16, projector_layers=2))
    assert n == 5
    assert depth["trunk.0.0.conv1.weight"] == 0 and depth["trunk.0.0.blocks.2.bn1.weight"] == 3
    assert depth["trunk.0.1.weight"] == 4 and depth["trunk.1.weight"] == depth["trunk.2.bias"] == 5
    vit = build_encoder("timm:vit_tiny_patch16_224", channels=3, size=32, projector_layers=1)
    depth, n = depths(vit)
    assert n == 13 and depth["trunk.0.norm.weight"] == depth["trunk.1.weight"] == 13 and depth["trunk.0.cls_token"] == 0


def test_the_trunks_of_several_views_go_together() -> None:
    depth, n = depths(build_encoder("tiny", channels=3, size=16, colour="lab"))
    assert n == 3 and depth["trunk.0.blocks.1.conv1.weight"] == depth["trunk.1.blocks.1.conv1.weight"] == 2


def test_timms_convolutional_models() -> None:
    depth, _ = depths(build_encoder("timm:convnext_atto", channels=3, size=32))
    assert depth["trunk.stem.0.weight"] == 0
    assert [depth[f"trunk.stages.{i}.blocks.0.conv_dw.weight"] for i in range(4)] == [1, 2, 3, 4]


def test_an_unknown_trunk_is_refused() -> None:
    with pytest.raises(UserError, match="the layers of Linear are not known: leave out --layers"):
        depths(Encoder(nn.Linear(3, 4), dim=4, channels=3, stem="own"))
