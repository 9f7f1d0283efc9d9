"""Published weights: for which encoders there are some, and what is said of how they were trained."""

from typing import Any

import pytest
import torch
import torchvision

from contrastkit.errors import UserError
from contrastkit.parts.published import described, published_encoder, published_size

LABELS = ", which were trained with labels"
HUB = " (how they were trained: see https://huggingface.co/timm/"


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The weights asked for; instead of being fetched, they are ones."""
    asked, build = list[Any](), torchvision.models.get_model

    def get_model(name: str, weights: str | None = None) -> torch.nn.Module:
        asked.append(weights)
        model = build(name, weights=None)
        with torch.no_grad():
            for p in model.parameters():
                p.fill_(1)
        return model

    monkeypatch.setattr(torchvision.models, "get_model", get_model)
    return asked


def test_an_encoder_with_the_usual_values_has_them(fetched: list[Any]) -> None:
    """As of a run of SimCLR, whose record names them; a start at zero and the width of no layer are no reason."""
    usual = {"width": 1.0, "norm": "batch", "colour": "rgb", "stages": 4, "projector_layers": 0, "vit": {}}
    kind = {"name": "resnet18", "channels": 3, "size": 32, "zero_init": True, "projector_width": 2048, **usual}
    encoder = published_encoder(kind)
    assert fetched == ["DEFAULT"]
    assert all(bool((p == 1).all()) for p in encoder.parameters())


@pytest.mark.parametrize(
    ("own", "says"),
    [
        ({"name": "tiny"}, "there are none of tiny"),
        ({"width": 2.0}, "there are none of resnet18 with its own width"),
        ({"norm": "group", "projector_layers": 1}, "its own norm, projector_layers"),
        ({"patch": 8, "stride": 4}, "its own patch, stride"),
    ],
)
def test_an_encoder_that_is_built_in_another_way_has_none(own: dict[str, Any], says: str, fetched: list[Any]) -> None:
    with pytest.raises(UserError, match=says):
        published_encoder({"name": "resnet18", "channels": 3, "size": 32, **own})
    assert fetched == []


def test_their_size() -> None:
    names = "timm:vit_tiny_patch16_384", "resnet50", "timm:resnet50.no_such_tag", "timm:no_such_model"
    assert [published_size(name) for name in names] == [384, 224, 224, 224]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("resnet50", LABELS),
        ("timm:resnet50.a1_in1k", LABELS),
        ("timm:vit_tiny_patch16_224", LABELS),  # stands for augreg_in21k_ft_in1k
        ("timm:vit_base_patch16_clip_224.laion2b_ft_in12k_in1k", LABELS),
        ("timm:convnextv2_tiny.fcmae_ft_in22k_in1k_384", LABELS),
        ("timm:vit_small_patch16_224.dino", f"{HUB}vit_small_patch16_224.dino)"),
        ("timm:vit_base_patch16_224.mae", f"{HUB}vit_base_patch16_224.mae)"),
        ("timm:convnextv2_tiny.fcmae", f"{HUB}convnextv2_tiny.fcmae)"),
        ("timm:resnet50_clip.openai", f"{HUB}resnet50_clip.openai)"),
        ("timm:eva02_tiny_patch14_224.mim_in22k", f"{HUB}eva02_tiny_patch14_224.mim_in22k)"),  # on its images alone
        ("timm:no_such_model", " (how they were trained: see timm's documentation)"),
    ],
)
def test_how_they_were_trained_is_said_where_it_is_known(name: str, says: str) -> None:
    assert described(name) == f"published weights of {name}{says}"
