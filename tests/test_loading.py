"""Runs loaded whole, into a module that the caller gives."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import contrastkit
from contrastkit.errors import UserError
from contrastkit.evaluate import EvaluationSubject
from contrastkit.loading import load_method
from contrastkit.parts.build import build_encoder, set_image_size


class Net(nn.Sequential):
    def __init__(self, width: int = 4) -> None:
        super().__init__(nn.Conv2d(3, width, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.fixture(scope="module")
def run(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("loading") / "run"
    contrastkit.train("moco-v2", images, encoder=Net(), out=out, row="tiny", epochs=1, batch=64, K=64, device="cpu")
    return out


def test_the_whole_method_loads_into_a_module(run: Path) -> None:
    state = torch.load(run / "checkpoints" / "last.pt", weights_only=True)["method"]
    net: Any = Net()
    method = load_method(run, encoder=net)
    assert not method.training and method.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in method.state_dict().items())
    assert torch.equal(net[0].weight, state["online.encoder.trunk.0.weight"])


def test_without_the_module_the_error_names_the_argument(run: Path) -> None:
    with pytest.raises(UserError, match=r"custom module, Net: load it with load_method\(run, encoder=Net\(\)\)"):
        load_method(run)
    with pytest.raises(UserError, match=r"load it with contrastkit.load\(run, encoder=Net\(\)\)"):
        contrastkit.load(run)


def test_a_module_of_another_shape_does_not_fit(run: Path) -> None:
    for load in (load_method, contrastkit.load):
        with pytest.raises(UserError, match=r"do not fit its recipe.json: .* or the module given as encoder"):
            load(run, encoder=Net(width=5))


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (torch.zeros(2, 3, 12, 12, dtype=torch.uint8), r"takes floats in \[0, 1\], not torch.uint8"),
        (torch.full((2, 3, 12, 12), 255.0), "not from 255 to 255"),
        (-torch.ones(2, 3, 12, 12), "not from -1 to -1"),
        (torch.full((2, 3, 12, 12), torch.nan), "not from nan to nan"),
        (np.zeros((2, 3, 12, 12), np.float32), "takes a tensor of floats in .*, not ndarray"),
        (None, "not NoneType"),
    ],
)
def test_other_values_than_pixels_in_0_1_are_refused(images: Tensor, says: str, moco_run: Path) -> None:
    encoder = contrastkit.load(moco_run)
    with pytest.raises(UserError, match=says):
        encoder(images)
    with pytest.raises(UserError, match=says):
        encoder(images=images)
    assert encoder(torch.rand(2, 3, 12, 12)).shape == (2, encoder.dim)
    assert encoder(torch.ones(0, 3, 12, 12)).shape == (0, encoder.dim)


def test_a_loaded_encoder_can_be_exported(moco_run: Path) -> None:
    encoder, images = contrastkit.load(moco_run), torch.rand(2, 3, 12, 12)
    exported = torch.export.export(encoder, (images,)).module()
    assert torch.allclose(exported(images), encoder(images), atol=1e-6)


def test_a_transformer_is_evaluated_at_another_size() -> None:
    """Its positions are resampled as timm does it: a model built for the size gives the same features."""
    torch.manual_seed(0)
    encoder = build_encoder("timm:vit_tiny_patch16_224", channels=3, size=64).eval()
    images = torch.rand(2, 3, 96, 96)
    with pytest.raises(AssertionError):
        encoder(images)
    set_image_size(encoder, 96)
    larger = build_encoder("timm:vit_tiny_patch16_224", channels=3, size=96).eval()
    larger.load_state_dict(encoder.state_dict())
    assert torch.equal(encoder(images), larger(images))
    views = build_encoder("timm:vit_tiny_patch16_224", channels=3, size=64, colour="lab")
    set_image_size(views, 96)
    assert views(images).shape == (2, views.dim), "an encoder for each view"
    with pytest.raises(UserError, match="does not divide into this transformer's patches of 16"):
        set_image_size(encoder, 40)


@pytest.mark.slow
def test_a_run_of_a_transformer_is_evaluated_at_another_size(tmp_path: Path, images: Path) -> None:
    options: dict[str, Any] = {"batch": 160, "epochs": 1, "size": 32, "K": 320, "monitor_every": 0, "device": "cpu"}
    contrastkit.train("moco", images, encoder="timm:vit_tiny_patch16_224", out=tmp_path / "run", row="tiny", **options)
    subject = EvaluationSubject.open(tmp_path / "run", size=48, val_fraction=0.2)
    (encoder,) = subject.encoders.values()
    assert encoder is not None and encoder(torch.rand(1, 3, 48, 48)).shape[0] == 1
