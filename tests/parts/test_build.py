"""Encoders by name: channels, stems, widths, norms, and the errors that say what cannot be built."""

from typing import Literal

import pytest
import timm
import torch
from torch import nn

from contrastkit.errors import UserError
from contrastkit.parts.build import build_encoder, wrap_encoder
from contrastkit.parts.encoder import IMAGENET_MEAN, SplitEncoder
from contrastkit.parts.norm import WSConv2d


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("name", ["tiny", "resnet18", "cifar-resnet8", "timm:resnet10t", "timm:mobilenetv3_small_050"])
def test_any_number_of_channels(name: str, channels: int) -> None:
    encoder = build_encoder(name, channels=channels, size=32).eval()
    features = encoder(torch.rand(2, channels, 32, 32))
    assert features.shape == (2, encoder.dim) and features.isfinite().all()


@pytest.mark.parametrize(("size", "stem", "stride"), [(32, "3x3", 1), (64, "3x3", 1), (65, "7x7", 2), (224, "7x7", 2)])
def test_small_images_get_the_small_stem(size: int, stem: str, stride: int) -> None:
    with torch.device("meta"):
        encoder = build_encoder("resnet50", channels=3, size=size)
    assert encoder.stem == stem and encoder.dim == 2048
    assert encoder.trunk.conv1.stride == (stride, stride)
    assert isinstance(encoder.trunk.maxpool, nn.Identity) == (stem == "3x3")


def test_a_vit_takes_the_size_of_the_images() -> None:
    encoder = build_encoder("timm:vit_tiny_patch16_224", channels=3, size=64).eval()
    assert encoder(torch.rand(1, 3, 64, 64)).shape == (1, 192)


def test_published_weights_get_the_statistics_they_were_trained_with(monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda *a, **how: create(*a, **how | {"pretrained": False}))
    name = "timm:vit_tiny_patch16_384"  # trained by Google with a mean and a deviation of one half
    encoder = build_encoder(name, channels=3, size=64, pretrained=True)
    assert encoder.mean.flatten().tolist() == encoder.std.flatten().tolist() == [0.5] * 3
    untrained = build_encoder(name, channels=3, size=64)
    torch.testing.assert_close(untrained.mean.flatten(), torch.tensor(IMAGENET_MEAN))


@pytest.mark.parametrize(("name", "full"), [("resnet18", 512), ("resnet50", 2048), ("wide_resnet50_2", 2048)])
def test_a_width_scales_every_stage_and_leaves_the_stem(name: str, full: int) -> None:
    with torch.device("meta"):
        plain, half, twice = (build_encoder(name, channels=3, size=32, width=width) for width in (1, 0.5, 2))
        again = build_encoder(name, channels=2, size=224, width=0.5)
    assert (half.dim, plain.dim, twice.dim) == (full // 2, full, full * 2)
    for encoder in (half, plain, twice):
        assert encoder.stem == "3x3" and encoder.trunk.conv1.weight.shape == (64, 3, 3, 3)
        assert isinstance(encoder.trunk.maxpool, nn.Identity)
    assert again.stem == "7x7" and again.trunk.conv1.weight.shape == (64, 2, 7, 7)
    assert isinstance(again.trunk.maxpool, nn.MaxPool2d)
    # Of the weights behind the stem all but the first layer's inputs are scaled at both ends: a quarter, or four times.
    counts = [sum(p.numel() for p in e.parameters()) for e in (half, plain, twice)]
    assert counts[0] / counts[1] == pytest.approx(1 / 4, rel=0.03)
    assert counts[2] / counts[1] == pytest.approx(4, rel=0.03)


def test_tiny_has_a_width_too() -> None:
    encoder = build_encoder("tiny", channels=3, size=32, width=0.5).eval()
    assert encoder.dim == 64 and encoder(torch.rand(2, 3, 32, 32)).shape == (2, 64)
    with pytest.raises(UserError, match="use --width 1"):
        build_encoder("timm:resnet10t", channels=3, size=32, width=0.5)


@pytest.mark.parametrize(("colour", "dims"), [("lab", [128, 128]), ("lab-full", [128] * 3), ("ycbcr", [128, 128])])
def test_views_of_colour_have_an_encoder_each(colour: str, dims: list[int]) -> None:
    encoder = build_encoder("tiny", channels=3, size=32, colour=colour).eval()
    assert isinstance(encoder, SplitEncoder) and encoder.dims == dims
    assert (encoder.dim, encoder.channels, encoder.stem) == (sum(dims), 3, "4x4")
    assert encoder(torch.rand(2, 3, 16, 16)).shape == (2, encoder.dim)
    with pytest.raises(UserError, match="made of RGB images"):
        build_encoder("tiny", channels=1, size=32, colour=colour)


@pytest.mark.parametrize(
    ("name", "says"),
    [("resnet19", "did you mean 'resnet1"), ("tinny", "did you mean 'tiny'"), ("timm:resnet5O", "timm has no model")],
)
def test_an_unknown_encoder_suggests_the_nearest(name: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        build_encoder(name, channels=3, size=32)


def test_tiny_has_no_published_weights() -> None:
    with pytest.raises(UserError, match="no published weights"):
        build_encoder("tiny", channels=3, size=32, pretrained=True)


def test_a_transformers_options_are_its_own_or_refused() -> None:
    """A convolutional model has neither size nor heads, and is built without; a mixer has a size, and no heads."""
    plain, heads = (build_encoder("timm:resnet10t", channels=3, size=32, vit=vit) for vit in ({}, {"num_heads": 4}))
    assert [p.shape for p in plain.parameters()] == [p.shape for p in heads.parameters()]
    with torch.device("meta"), pytest.raises(UserError, match="timm:mixer_s32_224 does not take num_heads: "):
        build_encoder("timm:mixer_s32_224", channels=3, size=32, vit={"num_heads": 4})


# ------------------------------------------------------------------------------------------------ a module of one's own


def own(frozen: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), frozen, nn.AdaptiveAvgPool2d(1), nn.Flatten()).train()


def test_a_module_keeps_its_modes_and_statistics() -> None:
    module = own(nn.BatchNorm2d(4))
    module[1].eval()  # frozen: its running statistics are used
    for size, fits in ((16, True), (2, False)):  # smaller than the kernel
        if fits:
            assert wrap_encoder(module, channels=3, size=size).dim == 4
        else:
            with pytest.raises(UserError, match=r"cannot take images \[N, 3, 2, 2\]"):
                wrap_encoder(module, channels=3, size=size)
        assert module.training and module[0].training and not module[1].training
        assert module[1].num_batches_tracked == 0


def test_a_module_is_tried_where_it_lies() -> None:
    encoder = wrap_encoder(own(nn.Identity()).to("meta"), channels=3, size=16)
    assert encoder.dim == 4 and encoder.mean.device.type == "meta"
    assert wrap_encoder(nn.Flatten(), channels=3, size=16).dim == 3 * 16 * 16  # without parameters: on the CPU


# ------------------------------------------------------------------------------------------ group norm, zero branches


@pytest.mark.parametrize("name", ["tiny", "resnet18", "resnet50"])
def test_group_norm_leaves_no_batch_norm_and_no_plain_convolution(name: str) -> None:
    with torch.device("meta"):
        encoder = build_encoder(name, channels=3, size=32, norm="group")
        plain = build_encoder(name, channels=3, size=32)
    kinds = {type(m) for m in encoder.modules()}
    assert nn.GroupNorm in kinds and WSConv2d in kinds and not kinds & {nn.BatchNorm2d, nn.Conv2d}
    assert all(m.num_groups == 16 for m in encoder.modules() if isinstance(m, nn.GroupNorm))
    assert [n for n, _ in encoder.named_parameters()] == [n for n, _ in plain.named_parameters()]


def test_with_group_norm_features_do_not_depend_on_the_batch() -> None:
    images = torch.rand(4, 3, 16, 16)
    torch.manual_seed(0)
    encoder = build_encoder("tiny", channels=3, size=16, norm="group").train()
    whole = encoder(images)
    torch.testing.assert_close(whole, torch.cat([encoder(image[None]) for image in images]), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(whole, encoder.eval()(images), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("name", "pretrained"), [("timm:resnet10t", False), ("resnet18", True)])
def test_group_norm_is_not_for_timm_nor_for_published_weights(name: str, pretrained: bool) -> None:
    with pytest.raises(UserError, match="only tiny and untrained torchvision ResNets support group norm"):
        build_encoder(name, channels=3, size=32, norm="group", pretrained=pretrained)


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize(("name", "last"), [("tiny", "bn2"), ("resnet18", "bn2"), ("resnet50", "bn3")])
def test_residual_branches_can_start_at_zero(name: str, last: str, norm: Literal["batch", "group"]) -> None:
    """Each block is then its shortcut and the ReLU; no other norm's scale is touched."""
    encoder = build_encoder(name, channels=3, size=32, norm=norm, zero_init=True)
    scales = {n: p for n, p in encoder.named_parameters() if p.ndim == 1 and n.endswith("weight")}
    zero = {n for n, p in scales.items() if p.eq(0).all()}
    assert zero == {n for n in scales if n.endswith(f"{last}.weight")} and zero
    assert all(scales[n].eq(1).all() for n in scales.keys() - zero)
    block = encoder.trunk.blocks[0] if name == "tiny" else encoder.trunk.layer1[-1]
    x = torch.rand(2, block.conv1.in_channels, 4, 4)
    torch.testing.assert_close(block(x), x)


@pytest.mark.parametrize(
    ("name", "parameters"), [("cifar-resnet20", 0.27), ("cifar-resnet32", 0.46), ("cifar-resnet56", 0.85)]
)
def test_the_ResNets_for_CIFAR_have_the_papers_size(name: str, parameters: float) -> None:
    """He et al. 2015, Table 6, in millions, with the last layer of ten classes; and the depth in the name."""
    with torch.device("meta"):
        encoder = build_encoder(name, channels=3, size=32)
    weights = [m for m in encoder.modules() if isinstance(m, nn.Conv2d)]
    assert round((sum(p.numel() for p in encoder.parameters()) + 650) / 1e6, 2) == parameters
    assert len(weights) + 1 == int(name.removeprefix("cifar-resnet")) and encoder.dim == 64


def test_a_shortcut_of_a_ResNet_for_CIFAR_skips_pixels_and_pads_channels() -> None:
    block = build_encoder("cifar-resnet8", channels=3, size=32).eval().trunk.layer2[0]
    nn.init.zeros_(block.bn2.weight)
    x = torch.rand(2, 16, 8, 8)
    y = block(x)
    assert y.shape == (2, 32, 4, 4) and torch.equal(y[:, 8:24], x[:, :, ::2, ::2])
    assert not y[:, :8].any() and not y[:, 24:].any()
