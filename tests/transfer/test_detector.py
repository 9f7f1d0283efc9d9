"""Detectors on encoders: what they are made of, what is trained, and torchvision's traps."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FrozenBatchNorm2d

from contrastkit.errors import UserError
from contrastkit.parts.build import build_encoder
from contrastkit.parts.encoder import Encoder
from contrastkit.transfer.detector import RECIPES, build_detector, detector_recipe, trained_parameters
from contrastkit.transfer.pyramid import plain_trunk, pyramid_body, strides_of


def encoder_of(name: str = "tiny", size: int = 32, channels: int = 3, **how) -> Encoder:
    """An encoder whose batch norms have seen images."""
    torch.manual_seed(1)
    encoder = build_encoder(name, channels=channels, size=size, **how)
    with torch.no_grad():
        encoder.train()(torch.rand(4, channels, max(size, 64), max(size, 64)))
    return encoder.eval()


def recipe(**changes):
    return detector_recipe("tiny", size=64, **changes)


def step(detector: nn.Module, channels: int = 3) -> None:
    """One step of SGD without decay."""
    detector.train()
    torch.manual_seed(0)
    target = {"boxes": torch.tensor([[4.0, 4, 40, 44], [30, 20, 60, 60]]), "labels": torch.tensor([1, 2])}
    losses = detector([torch.rand(channels, 64, 64), torch.rand(channels, 64, 80)], [target, target])
    torch.stack(list(losses.values())).sum().backward()
    torch.optim.SGD([p for p in detector.parameters() if p.requires_grad], lr=0.1).step()


def tensors(module: nn.Module) -> list[Tensor]:
    return [value.detach().clone() for value in module.state_dict().values()]


BUILT = [("tiny", "fpn"), ("tiny", "c4"), ("resnet18", "fpn"), ("resnet18", "c4")]
TRAINED = [*BUILT[:3], pytest.param(*BUILT[3], marks=pytest.mark.slow)]


@pytest.mark.parametrize(("name", "head"), BUILT)
def test_the_backbone_is_the_encoder_and_no_weights_are_loaded(
    name: str, head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap 1: `fasterrcnn_resnet50_fpn(weights=None)` loads ImageNet's supervised backbone."""
    encoder = encoder_of(name, 96)
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", lambda *_, **__: pytest.fail("weights are loaded"))
    detector = build_detector(encoder, 2, recipe(head=head))
    found: dict[tuple[int, ...], list[Tensor]] = {}
    for value in tensors(detector):
        found.setdefault(tuple(value.shape), []).append(value)
    for value in tensors(encoder.trunk):
        assert any(torch.equal(value, each) for each in found.get(tuple(value.shape), ()))


@pytest.mark.parametrize(("name", "head"), TRAINED)
def test_every_layer_is_trained_and_the_encoder_stays_as_it_is(name: str, head: str) -> None:
    """Trap 2: `resnet_fpn_backbone` freezes the stem, its norm and the first stage unless told to train five layers."""
    encoder = encoder_of(name, 96)
    before = tensors(encoder)
    detector = build_detector(encoder, 2, recipe(head=head))
    kept = {key: p.detach().clone() for key, p in detector.named_parameters()}
    step(detector)
    assert {key for key, p in detector.named_parameters() if torch.equal(p, kept[key])} == set()
    assert sum(map(len, trained_parameters(detector))) == len(kept)
    assert all(torch.equal(a, b) for a, b in zip(tensors(encoder), before, strict=True))


@pytest.mark.parametrize("freeze", [1, 2, 3])
@pytest.mark.parametrize("name", ["tiny", pytest.param("resnet18", marks=pytest.mark.slow)])
def test_freeze_counts_the_stem_and_the_stages(name: str, freeze: int) -> None:
    detector = build_detector(encoder_of(name, 96), 2, recipe(freeze=freeze))
    body = detector.backbone.body
    parts = [body.stem, *body.stages]
    before = [tensors(part) for part in parts]
    step(detector)
    unchanged = [all(map(torch.equal, tensors(part), old)) for part, old in zip(parts, before, strict=True)]
    assert unchanged == [k < freeze for k in range(len(parts))]


@pytest.mark.parametrize(("name", "head"), TRAINED)
def test_frozen_norms_keep_what_the_run_left(name: str, head: str) -> None:
    """Trap 3: torchvision's frozen norms are made with the initial statistics, mean 0 and variance 1."""
    encoder = encoder_of(name, 96)
    detector = build_detector(encoder, 2, recipe(head=head, norm="frozen"))
    norms = [module for module in detector.modules() if isinstance(module, FrozenBatchNorm2d)]
    own = [module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == len(own) > 0
    means = sorted(norm.running_mean.sum().item() for norm in norms)
    assert means == pytest.approx(sorted(norm.running_mean.sum().item() for norm in own))
    assert any(abs(mean) > 0.01 for mean in means)
    before = [tensors(norm) for norm in norms]
    step(detector)
    assert all(all(map(torch.equal, tensors(norm), old)) for norm, old in zip(norms, before, strict=True))


def test_frozen_norms_of_timm_keep_their_activation() -> None:
    encoder = encoder_of("timm:tf_efficientnet_lite0", 64)
    trained, frozen = (build_detector(encoder, 2, recipe(norm=norm)).eval() for norm in ("trained", "frozen"))
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        pairs = zip(trained.backbone.body(x).values(), frozen.backbone.body(x).values(), strict=True)
        assert all(torch.allclose(a, b, atol=1e-4) for a, b in pairs)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in frozen.modules())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "strides"),
    [
        ("tiny", 32, [4, 8]),
        ("resnet18", 32, [4, 8]),  # its 3 x 3 stem keeps the size
        ("resnet18", 96, [4, 8, 16, 32]),
        ("timm:tf_efficientnet_lite0", 64, [4, 8, 16, 32]),
        ("timm:convnext_atto", 64, [4, 8, 16, 32]),
    ],
)
def test_maps_have_these_strides_and_anchors_eight_of_them(name: str, size: int, strides: list[int]) -> None:
    encoder = encoder_of(name, size)
    assert [stride for stride, _ in strides_of(pyramid_body(encoder), encoder)] == strides
    detector = build_detector(encoder, 2, recipe())
    assert detector.rpn.anchor_generator.sizes == tuple((8 * stride,) for stride in [*strides, 2 * strides[-1]])
    step(detector)


def test_the_maps_of_the_body_are_those_of_the_encoder() -> None:
    encoder = encoder_of("resnet18", 96)
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        *_, last = pyramid_body(encoder).eval()(encoder.normalise(x)).values()
        assert torch.allclose(last, encoder.maps(x), atol=1e-5)


def test_images_are_normalised_as_the_encoder_does_it() -> None:
    encoder = encoder_of("tiny", 32, channels=1)
    detector = build_detector(encoder, 2, recipe()).eval()
    image = torch.rand(1, 64, 64)
    images, _ = detector.transform([image])
    assert torch.allclose(images.tensors, encoder.normalise(image[None]))
    step(detector, channels=1)


def test_the_head_on_c4_is_the_last_stage_a_norm_and_the_mean() -> None:
    """MoCo's Res5ROIHeadsExtraNorm."""
    encoder = encoder_of("resnet18", 96)
    detector = build_detector(encoder, 2, recipe(head="c4")).eval()
    boxes = torch.randn(3, 256, 14, 14)
    norm = next(module for module in detector.roi_heads.box_head if isinstance(module, nn.BatchNorm2d))
    nn.init.normal_(norm.running_mean)
    with torch.no_grad():
        maps = encoder.trunk.layer4(boxes)
        expected = ((maps - norm.running_mean[:, None, None]) / (1 + norm.eps) ** 0.5).mean((2, 3))
        assert torch.allclose(detector.roi_heads.box_head(boxes), expected, atol=1e-4)
        one = detector.backbone(encoder.normalise(torch.rand(1, 3, 64, 64)))
    assert one.shape == (1, 256, 4, 4)
    assert detector.roi_heads.box_roi_pool.output_size == (14, 14)


def test_an_encoder_without_its_last_stage_has_one_level_less() -> None:
    encoder = encoder_of("resnet18", 96, stages=3)
    assert [stride for stride, _ in strides_of(pyramid_body(encoder), encoder)] == [4, 8, 16]


@pytest.mark.parametrize(
    ("name", "how", "changes", "says"),
    [
        ("timm:vit_tiny_patch16_224", {"size": 64}, {}, "feature maps of several strides, which VisionTransformer"),
        (
            "timm:tf_efficientnet_lite0",
            {"size": 64},
            {"head": "c4"},
            "--head c4 divides a ResNet before its last stage",
        ),
        ("timm:tf_efficientnet_lite0", {"size": 64}, {"freeze": 1}, "--freeze counts the stages"),
        ("tiny", {"size": 32, "patch": 16, "stride": 8}, {}, "one trunk that sees whole images, which a PatchEncoder"),
        ("tiny", {"size": 32, "colour": "lab"}, {}, "which a SplitEncoder"),
    ],
)
def test_encoders_without_the_needed_maps_are_refused(name: str, how, changes, says: str) -> None:
    encoder = build_encoder(name, channels=3, **how)
    with pytest.raises(UserError, match=says):
        build_detector(encoder, 2, recipe(**changes))


def test_projector_layers_are_left_out() -> None:
    encoder = build_encoder("tiny", channels=3, size=32, projector_layers=2)
    assert plain_trunk(encoder) is encoder.trunk[0][0]
    build_detector(encoder, 2, recipe())


def test_the_published_numbers_are_those_of_moco() -> None:
    """detection/configs/pascal_voc_R_50_C4_24k.yaml and Base-RCNN-C4-BN.yaml; detectron2's defaults for the rest."""
    row = RECIPES["moco-voc"]
    assert (row.head, row.steps, row.batch, row.lr, row.warmup_steps) == ("c4", 24_000, 16, 0.02, 100)
    assert [round(m * 24_000) for m in row.milestones] == [18_000, 22_000]
    assert row.sides == [480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800]
    assert (row.norm, row.freeze, row.momentum, row.weight_decay, row.rois) == ("trained", 0, 0.9, 1e-4, 512)
    detector = build_detector(encoder_of("resnet18", 96), 20, row)
    assert detector.transform.max_size == 1333
    assert detector.rpn._pre_nms_top_n == {"training": 12_000, "testing": 6_000}
    assert detector.rpn._post_nms_top_n == {"training": 2_000, "testing": 1_000}
    assert detector.rpn.anchor_generator.sizes == ((32, 64, 128, 256, 512),)


def test_norms_are_not_decayed() -> None:
    detector = build_detector(encoder_of(), 2, recipe())
    decayed, norms = trained_parameters(detector)
    names = {id(p): name for name, p in detector.named_parameters()}
    assert all("bn" in names[id(p)] or ".1." in names[id(p)] for p in norms)  # the shortcut's norm is its second part
    assert not any("bn" in names[id(p)] for p in decayed)


def test_large_images_are_shrunk_as_pillow_shrinks_them() -> None:
    """As MoCo's detectron2 does; without antialias, stripes of a pixel would be black or white."""
    prepare = build_detector(encoder_of(), 1, recipe()).eval().transform
    pixels = np.random.default_rng(0).integers(0, 256, (200, 256, 3), dtype=np.uint8)
    pixels[::2] //= 4
    image = torch.from_numpy(pixels).permute(2, 0, 1)
    boxes = torch.tensor([[64.0, 50, 128, 100], [0, 0, 256, 200]])
    small, target = prepare.resize(image / 255, {"boxes": boxes})
    assert small.shape == (3, 64, 81)  # 81.92 px wide
    pillow = np.asarray(Image.fromarray(pixels).resize((81, 64), Image.Resampling.BILINEAR))
    torch.testing.assert_close(small * 255, torch.from_numpy(pillow.copy()).permute(2, 0, 1).float(), atol=1.0, rtol=0)
    want = torch.tensor([[64 * 81 / 256, 16, 128 * 81 / 256, 32], [0, 0, 81, 64]])
    torch.testing.assert_close(target["boxes"], want)


def test_small_images_are_enlarged_as_torchvision_does_it() -> None:
    prepare = build_detector(encoder_of(), 1, recipe()).train().transform
    own = GeneralizedRCNNTransform(prepare.min_size, prepare.max_size, [0.5] * 3, [0.5] * 3)
    image = torch.rand(3, 40, 57)
    for seed in range(4):
        torch.manual_seed(seed)
        found, moved = prepare.resize(image, {"boxes": torch.tensor([[1.0, 2, 30, 31]])})
        torch.manual_seed(seed)
        want, target = own.resize(image, {"boxes": torch.tensor([[1.0, 2, 30, 31]])})
        assert torch.equal(found, want)
        torch.testing.assert_close(moved["boxes"], target["boxes"])
