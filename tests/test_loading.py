"""Runs loaded whole, into a module that the caller gives."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import contrastkit
from contrastkit.errors import UserError
from contrastkit.loading import load_method


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
