"""What an encoder promises: normalisation inside, and maps that are what it pools."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from contrastkit.colour import COLOURS
from contrastkit.errors import UserError
from contrastkit.parts.build import build_encoder
from contrastkit.parts.encoder import IMAGENET_MEAN, IMAGENET_STD, Encoder, PatchEncoder, SplitEncoder, WaveEncoder


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


def output_of(part: str, encoder: Encoder, images: Tensor) -> Tensor:
    """The output of a part of the trunk on the way to the features."""
    seen: list[Tensor] = []
    handle = encoder.trunk.get_submodule(part).register_forward_hook(lambda _, args, y: seen.append(y))
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
    assert torch.equal(maps, output_of("blocks" if name == "tiny" else "layer4", encoder, images))
    torch.testing.assert_close(maps.mean(dim=(2, 3)), encoder(images))


def test_other_convolutional_networks_of_timm() -> None:
    """Not all of them pool what they put out: some have a norm or a convolution in the head."""
    encoder = build_encoder("timm:test_convnext", channels=3, size=64).eval()
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(encoder.maps(images), output_of("stages", encoder, images))
    encoder = build_encoder("timm:mobilenetv3_small_050", channels=3, size=64).eval()
    assert encoder.maps(images).shape == (2, encoder.trunk.num_features, 2, 2)
    assert encoder.trunk.num_features != encoder.dim


def test_maps_of_a_network_with_channels_last() -> None:
    encoder = build_encoder("timm:mambaout_femto", channels=3, size=64).eval()
    images = torch.rand(1, 3, 64, 96)
    maps, seen = encoder.maps(images), output_of("stages", encoder, images)
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
    tokens = output_of("norm", encoder, images)  # the last layer's
    assert tokens.shape == (2, prefix + rows * columns, 64)
    for row in range(rows):
        for column in range(columns):
            assert torch.equal(maps[:, :, row, column], tokens[:, prefix + row * columns + column])


def test_a_projector_changes_nothing_of_the_maps() -> None:
    encoder = build_encoder("tiny", channels=3, size=32, projector_layers=2, projector_width=40).eval()
    images = torch.rand(2, 3, 32, 32)
    assert encoder(images).shape == (2, 40)
    before = output_of("0.0", encoder, images)  # the features that the projector gets
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


def test_patches_are_cut_row_by_row_and_the_rest_is_dropped() -> None:
    encoder = build_encoder("tiny", channels=2, size=16, patch=6, stride=4).eval()
    assert isinstance(encoder, PatchEncoder)
    images = torch.rand(3, 2, 15, 20)  # 3 rows and 4 columns of patches
    patches = encoder.cut(images)
    assert patches.shape == (3, 3, 4, 2, 6, 6)
    for row in range(3):
        for column in range(4):
            part = images[:, :, 4 * row : 4 * row + 6, 4 * column : 4 * column + 6]
            assert torch.equal(patches[:, row, column], part)
    features = encoder.patches(images)
    assert features.shape == (3, 3, 4, encoder.dim)
    alone = encoder.trunk((patches[1, 2, 3][None] - encoder.mean) / encoder.std)[0]
    torch.testing.assert_close(features[1, 2, 3], alone, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(encoder(images), features.flatten(1, 2).mean(1))
    with pytest.raises(UserError, match="images of 5 px are smaller than a patch of 6"):
        encoder.cut(images[..., :5])


def test_each_view_of_colour_goes_through_its_own_encoder_normalised() -> None:
    encoder = build_encoder("tiny", channels=3, size=16, colour="lab").eval()
    images = torch.rand(2, 3, 8, 8)
    space = COLOURS["lab"]
    x = (space.convert(images) - torch.tensor(space.mean)[:, None, None]) / torch.tensor(space.std)[:, None, None]
    L, ab = encoder.trunk.children()
    torch.testing.assert_close(encoder(images), torch.cat([L(x[:, :1]), ab(x[:, 1:])], dim=1))


def test_modalities_are_views_of_their_own_channels() -> None:
    encoder = build_encoder("tiny", channels=5, size=16, modalities=(3, 2)).eval()
    assert isinstance(encoder, SplitEncoder) and encoder.channels == 5
    images = torch.rand(2, 5, 8, 8)
    first, second = encoder.trunk.children()
    x = (images - 0.5) / 0.25
    torch.testing.assert_close(encoder(images), torch.cat([first(x[:, :3]), second(x[:, 3:])], dim=1))


@pytest.mark.parametrize(("width", "expected"), [(None, [(512, 512), (512, 512)]), (96, [(512, 96), (96, 96)])])
def test_layers_of_a_projector_stay_behind_the_trunk(width: int | None, expected: list[tuple[int, int]]) -> None:
    encoder = build_encoder("resnet18", channels=3, size=32, projector_layers=2, projector_width=width)
    layers = [m for m in encoder.trunk.modules() if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in layers] == expected and not any(m.bias is not None for m in layers)
    assert encoder.dim == expected[-1][1]
    features = encoder(torch.rand(4, 3, 32, 32))
    assert features.shape == (4, encoder.dim) and features.min() == 0 < features.max()


def test_three_stages_leave_the_last_one_out() -> None:
    whole, three = (build_encoder("resnet18", channels=3, size=32, stages=n).eval() for n in (4, 3))
    assert (whole.dim, three.dim) == (512, 256) and isinstance(three.trunk.layer4, nn.Identity)
    assert three(torch.rand(2, 3, 32, 32)).shape == (2, 256)


def test_channels_without_published_statistics_are_centred_at_one_half() -> None:
    for channels in (1, 2):
        encoder = build_encoder("tiny", channels=channels, size=16)
        assert encoder.mean.flatten().tolist() == [0.5] * channels
        assert encoder.std.flatten().tolist() == [0.25] * channels


def test_tiny_halves_its_maps_three_times_from_the_second_block_on() -> None:
    encoder = build_encoder("tiny", channels=3, size=32)
    shapes: list[tuple[int, ...]] = []
    for block in encoder.trunk.blocks:
        block.register_forward_hook(lambda _, args, out: shapes.append(tuple(out.shape[1:])))
    features = encoder(torch.rand(2, 3, 32, 32))
    assert shapes == [(32, 16, 16), (64, 8, 8), (128, 4, 4)] and features.shape == (2, 128)
    kernels = torch.cat([m.weight.flatten() * (m.weight[:, 0].numel() / 2) ** 0.5
                         for m in encoder.modules() if isinstance(m, nn.Conv2d)])  # fmt: skip
    assert kernels.std().item() == pytest.approx(1, rel=0.02)  # He's, by the fan out
