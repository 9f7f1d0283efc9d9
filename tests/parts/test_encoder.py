"""What an encoder promises: normalisation inside, and maps that are what it pools."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from contrastkit.errors import UserError
from contrastkit.parts.build import build_encoder
from contrastkit.parts.encoder import IMAGENET_MEAN, IMAGENET_STD, Encoder, PatchEncoder, WaveEncoder


def test_images_are_normalised_inside() -> None:
    encoder = build_encoder("tiny", channels=3, size=32).eval()
    seen: list[torch.Tensor] = []
    encoder.trunk.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    images = torch.rand(2, 3, 8, 8)
    encoder(images)
    for c in range(3):
        expected = (images[:, c].double() - IMAGENET_MEAN[c]) / IMAGENET_STD[c]
        torch.testing.assert_close(seen[0][:, c].double(), expected, atol=1e-5, rtol=1e-5)


# ------------------------------------------------------------------------------------------------------ feature maps


def output_of(module: nn.Module, encoder: Encoder, images: Tensor) -> Tensor:
    """What a part of the encoder puts out on the way to the features."""
    seen: list[Tensor] = []
    handle = module.register_forward_hook(lambda _, args, y: seen.append(y))
    encoder(images)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize(
    ("name", "size", "options", "shape"),
    [
        ("tiny", 32, {}, (128, 4, 4)),
        ("tiny", 24, {"width": 0.5, "norm": "group"}, (64, 3, 3)),
        ("tiny", 32, {"norm": "layer", "zero_init": True}, (128, 4, 4)),
        ("resnet18", 32, {}, (512, 4, 4)),  # a stem of stride 1
        ("resnet18", 96, {}, (512, 3, 3)),
        ("resnet18", 32, {"norm": "group", "zero_init": True}, (512, 4, 4)),
        ("resnet18", 32, {"stages": 3}, (256, 8, 8)),
        ("resnet18", 32, {"width": 0.25}, (128, 4, 4)),  # timm's
        ("resnet18", 96, {"width": 0.25, "stages": 3}, (64, 6, 6)),
        ("resnet50", 32, {"width": 0.25, "zero_init": True}, (512, 4, 4)),
        ("timm:test_resnet", 64, {}, (96, 2, 2)),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_a_resnets_maps_are_what_it_pools(
    name: str, size: int, options: dict[str, Any], shape: tuple[int, ...], training: bool
) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(name, channels=3, size=size, **options).train(training)
    images = torch.rand(2, 3, size, size)
    maps = encoder.maps(images)
    assert maps.shape == (2, *shape) and maps.shape[1] == encoder.dim and maps.std() > 0
    assert torch.equal(
        maps, output_of(encoder.trunk.blocks if name == "tiny" else encoder.trunk.layer4, encoder, images)
    )
    torch.testing.assert_close(maps.mean(dim=(2, 3)), encoder(images))


def test_other_convolutional_networks_of_timm() -> None:
    """Not all of them pool what they put out: some have a norm or a convolution in the head."""
    encoder = build_encoder("timm:test_convnext", channels=3, size=64).eval()
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(encoder.maps(images), output_of(encoder.trunk.stages, encoder, images))
    encoder = build_encoder("timm:mobilenetv3_small_050", channels=3, size=64).eval()
    assert encoder.maps(images).shape == (2, encoder.trunk.num_features, 2, 2)
    assert encoder.trunk.num_features != encoder.dim


def test_maps_of_a_network_with_channels_last() -> None:
    encoder = build_encoder("timm:mambaout_femto", channels=3, size=64).eval()
    images = torch.rand(1, 3, 64, 96)
    maps, seen = encoder.maps(images), output_of(encoder.trunk.stages, encoder, images)
    assert seen.shape == (1, 2, 3, 288) and maps.shape == (1, 288, 2, 3)
    for row in range(2):
        for column in range(3):
            assert torch.equal(maps[:, :, row, column], seen[:, row, column])


@pytest.mark.parametrize(
    ("name", "vit", "prefix"),
    [
        ("test_vit", {}, 1),  # a class token
        ("test_vit", {"reg_tokens": 2}, 3),  # and two registers
        ("test_vit", {"class_token": False, "global_pool": "avg"}, 0),
    ],
)
@pytest.mark.parametrize("view", [(64, 64), (32, 48)])
def test_a_transformers_maps_are_its_patch_tokens_row_by_row(
    name: str, vit: dict[str, Any], prefix: int, view: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    vit = vit | {"dynamic_img_size": True}
    encoder = build_encoder(f"timm:{name}", channels=3, size=64, vit=vit).eval()
    images = torch.rand(2, 3, *view)
    maps = encoder.maps(images)
    rows, columns = view[0] // 16, view[1] // 16
    assert maps.shape == (2, 64, rows, columns)
    tokens = output_of(encoder.trunk.norm, encoder, images)  # the last layer's
    assert tokens.shape == (2, prefix + rows * columns, 64)
    for row in range(rows):
        for column in range(columns):
            assert torch.equal(maps[:, :, row, column], tokens[:, prefix + row * columns + column])


def test_a_projector_changes_nothing_of_the_maps() -> None:
    encoder = build_encoder("tiny", channels=3, size=32, projector_layers=2, projector_width=40).eval()
    images = torch.rand(2, 3, 32, 32)
    assert encoder(images).shape == (2, 40)
    before = output_of(encoder.trunk[0][0], encoder, images)  # the features that the projector gets
    assert encoder.maps(images).shape == (2, 128, 4, 4)
    torch.testing.assert_close(encoder.maps(images).mean(dim=(2, 3)), before)


def test_maps_of_split_views_lie_side_by_side() -> None:
    encoder = build_encoder("tiny", channels=3, size=32, colour="lab").eval()
    images = torch.rand(2, 3, 32, 32)
    maps = encoder.maps(images)
    assert maps.shape == (2, 256, 4, 4)
    torch.testing.assert_close(maps.mean(dim=(2, 3)), encoder(images))


def test_maps_of_patches_are_the_features_of_each() -> None:
    encoder = build_encoder("tiny", channels=3, size=32, patch=16, stride=8).eval()
    assert isinstance(encoder, PatchEncoder)
    images = torch.rand(2, 3, 32, 40)
    maps = encoder.maps(images)
    assert maps.shape == (2, 128, 3, 4)
    torch.testing.assert_close(maps.mean(dim=(2, 3)), encoder(images))
    whole = Encoder(encoder.trunk, dim=128, channels=3, stem="4x4")
    for row in range(3):
        for column in range(4):
            patch = images[:, :, 8 * row : 8 * row + 16, 8 * column : 8 * column + 16]
            torch.testing.assert_close(maps[:, :, row, column], whole(patch))


@pytest.mark.parametrize(
    ("encoder", "size", "says"),
    [
        (WaveEncoder("wave-tiny"), 0, "no feature maps"),
        (Encoder(nn.Flatten(), dim=48, channels=3, stem="own"), 4, "Flatten has no feature maps"),
    ],
)
def test_what_has_no_maps_is_an_error(encoder: Encoder, size: int, says: str) -> None:
    images = torch.rand(1, 3, size, size) if size else torch.rand(1, 1, 1, 800)
    with pytest.raises(UserError, match=says):
        encoder.maps(images)


def test_a_transformer_whose_tokens_are_not_a_grid_is_an_error() -> None:
    encoder = build_encoder("timm:pit_ti_224", channels=3, size=64).eval()  # hands on its class token alone
    with pytest.raises(UserError, match="feature maps of timm's .* are not known"):
        encoder.maps(torch.rand(1, 3, 64, 64))
