"""Encoders: shapes, stems, channels, and what they promise about normalisation."""

import pytest
import timm
import torch
from torch import nn

from contrastkit.errors import UserError
from contrastkit.parts.encoder import IMAGENET_MEAN, IMAGENET_STD, build_encoder, published_size


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("name", ["tiny", "resnet18", "timm:resnet10t", "timm:mobilenetv3_small_050"])
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


def test_published_weights_get_the_statistics_and_the_size_they_were_trained_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda *a, **how: create(*a, **how | {"pretrained": False}))
    name = "timm:vit_tiny_patch16_384"  # trained by Google with a mean and a deviation of one half
    encoder = build_encoder(name, channels=3, size=64, pretrained=True)
    assert encoder.mean.flatten().tolist() == encoder.std.flatten().tolist() == [0.5] * 3
    assert published_size(name) == 384
    assert published_size("resnet50") == 224
    untrained = build_encoder(name, channels=3, size=64)
    torch.testing.assert_close(untrained.mean.flatten(), torch.tensor(IMAGENET_MEAN))


def test_images_are_normalised_inside() -> None:
    encoder = build_encoder("tiny", channels=3, size=32).eval()
    seen: list[torch.Tensor] = []
    encoder.trunk.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    images = torch.rand(2, 3, 8, 8)
    encoder(images)
    for c in range(3):
        expected = (images[:, c].double() - IMAGENET_MEAN[c]) / IMAGENET_STD[c]
        torch.testing.assert_close(seen[0][:, c].double(), expected, atol=1e-5, rtol=1e-5)


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
