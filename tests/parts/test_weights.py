"""Starting weights: other projects' names, what is taken and left out, shapes, normalisation, files that are none."""

import argparse
import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from contrastkit.errors import UserError
from contrastkit.parts.build import build_encoder
from contrastkit.parts.encoder import IMAGENET_MEAN, Encoder
from contrastkit.parts.weights import Match, Weights, read_weights
from tests.rows import fast_if


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    """torchvision's own ResNet-18 with a head of ten classes."""
    torch.manual_seed(3)
    return torchvision.models.resnet18(num_classes=10)


def encoder(name: str = "resnet18", size: int = 96, channels: int = 3, **options: Any) -> Encoder:
    return build_encoder(name, channels=channels, size=size, **options)


def saved(state: Any, path: Path) -> Path:
    torch.save(state, path)
    return path


def match(state: Any, tmp_path: Path, target: Encoder | None = None) -> Match:
    return read_weights(saved(state, tmp_path / "weights.pth")).match(encoder() if target is None else target)


def module_of(resnet: nn.Module, prefix: str) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in resnet.state_dict().items()}


def children(resnet: nn.Module, prefix: str) -> dict[str, Tensor]:
    """As `nn.Sequential(*list(resnet.children())[:-1])` names them, by torch itself."""
    return {prefix + k: v for k, v in nn.Sequential(*list(resnet.children())[:-1]).state_dict().items()}


def checkpoint(whose: str, resnet: nn.Module) -> Any:
    """A checkpoint as the project writes it; see the scripts named in contrastkit/parts/naming.py."""
    other = {name: torch.zeros_like(value) for name, value in resnet.state_dict().items()}
    state = module_of(resnet, "")
    return {
        "torchvision": state,
        "torchvision in a dictionary": {"model": state, "epoch": 3, "optimizer": {"state": {0: {"exp_avg": other}}}},
        "SwAV": module_of(resnet, "module.") | {"module.prototypes.weight": torch.zeros(2, 2)},
        "compiled": module_of(resnet, "_orig_mod."),
        "MoCo": {"epoch": 200, "arch": "resnet18", "state_dict": module_of(resnet, "module.encoder_q.")
                 | {f"module.encoder_k.{k}": v for k, v in other.items()} | {"module.queue": torch.zeros(2, 9)}},
        "MoCo v3": {"state_dict": module_of(resnet, "module.base_encoder.")
                    | {f"module.momentum_encoder.{k}": v for k, v in other.items()}},
        "DINO": {"student": {f"module.backbone.{k}": v for k, v in other.items()},
                 "teacher": module_of(resnet, "backbone.") | {"head.mlp.0.weight": torch.zeros(2, 2)},
                 "args": argparse.Namespace(arch="resnet18")},
        "DINO of ResNets": {"teacher": module_of(resnet, "module.backbone.")},
        "SimSiam": {"state_dict": module_of(resnet, "module.encoder.") | {"module.predictor.0.weight": torch.zeros(2)}},
        "BYOL of lucidrains": module_of(resnet, "online_encoder.net."),
        "BYOL of sthalles": {"online_network_state_dict": children(resnet, "encoder."),
                             "target_network_state_dict": children(torchvision.models.resnet18(), "encoder.")},
        "VISSL": {"classy_state_dict": {"base_model": {"model": {"trunk": module_of(resnet, "_feature_blocks.")}}}},
        "solo-learn": {"state_dict": module_of(resnet, "backbone.")
                       | {f"momentum_backbone.{k}": v for k, v in other.items()}},
        "lightly": {"state_dict": children(resnet, "backbone.")},
    }[whose]  # fmt: skip


@pytest.mark.parametrize(
    "whose",
    fast_if(
        {"torchvision", "MoCo", "DINO", "BYOL of sthalles", "VISSL"}.__contains__,
        ("torchvision", "torchvision in a dictionary", "SwAV", "compiled", "MoCo", "MoCo v3", "DINO", "DINO of ResNets",
         "SimSiam", "BYOL of lucidrains", "BYOL of sthalles", "VISSL", "solo-learn", "lightly"),
    ),
)  # fmt: skip
def test_an_encoder_from_anybodys_checkpoint_computes_what_their_network_computes(
    whose: str, resnet: nn.Module, tmp_path: Path
) -> None:
    target = encoder().eval()
    state, record = match(checkpoint(whose, resnet), tmp_path, target)
    target.load_state_dict(state, strict=False)
    images = torch.rand(2, 3, 96, 96)
    headless = nn.Sequential(*list(resnet.eval().children())[:-1], nn.Flatten())
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        torch.testing.assert_close(target(images), headless((images - mean) / std))
    assert (record.taken, record.missing) == (120, [])


def test_the_line_says_what_was_taken_and_what_was_not(resnet: nn.Module, tmp_path: Path) -> None:
    state = module_of(resnet, "")
    del state["layer4.1.bn2.bias"]
    record = match(state, tmp_path).record
    file = tmp_path / "weights.pth"
    assert record.lines == [
        f"starting weights: 119 of the 121 tensors of {file} (torchvision, timm or SwAV's names); left out fc.weight, "
        "fc.bias; not in it layer4.1.bn2.bias",
        "images are normalised by ImageNet's numbers, as it has none: mean 0.485, 0.456, 0.406, std 0.229, 0.224, "
        "0.225",
    ]
    assert record.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    moco = match(checkpoint("MoCo", resnet), tmp_path).record
    head = [f"state_dict.module.encoder_q.fc.{name}" for name in ("weight", "bias")]
    assert moco.left_out == [*head, "state_dict.module.encoder_k.*", "state_dict.module.queue"]


def test_our_own_encoder_brings_its_normalisation(tmp_path: Path) -> None:
    own = encoder("tiny", 32)
    own.mean.fill_(0.3)
    save_file(own.state_dict(), tmp_path / "encoder.safetensors")
    state, record = read_weights(tmp_path / "encoder.safetensors").match(encoder("tiny", 32))
    assert state.keys() == own.state_dict().keys() and all(
        torch.equal(state[k], v) for k, v in own.state_dict().items()
    )
    assert (record.naming, record.left_out, record.missing) == ("contrastkit", [], [])
    assert record.mean == pytest.approx([0.3] * 3) and record.normalisation == "its own numbers"


@pytest.mark.parametrize(("mean", "expected"), [("0.5", [0.5] * 3), ("0.485, 0.456, 0.406", list(IMAGENET_MEAN))])
def test_metadata_bring_normalisation_and_size(mean: str, expected: list[float], tmp_path: Path) -> None:
    own = encoder("tiny", 32).trunk.state_dict()
    metadata = {"mean": mean, "std": "0.25", "size": "[3, 160, 160]"}
    save_file(own, tmp_path / "x.safetensors", metadata)
    state, record = read_weights(tmp_path / "x.safetensors").match(encoder("tiny", 32))
    assert state["mean"].flatten().tolist() == pytest.approx(expected) and state["mean"].shape == (1, 3, 1, 1)
    assert record.std == [0.25] * 3 and record.size == 160
    assert record.lines[1].endswith("std 0.25; the weights are for images of 160 px")


def test_a_projector_behind_the_trunk_starts_as_without_weights(resnet: nn.Module, tmp_path: Path) -> None:
    target = encoder(projector_layers=2, projector_width=16)
    state, record = match(module_of(resnet, ""), tmp_path, target)
    assert torch.equal(state["trunk.0.0.conv1.weight"], resnet.state_dict()["conv1.weight"])
    assert record.taken == 120 and all(re.match(r"(0\.)?[12]\.", name) for name in record.missing)


def test_positions_of_a_transformer_are_resampled(tmp_path: Path) -> None:
    """A bicubic resampling keeps a linear ramp, away from the border."""
    large, small = (build_encoder("timm:vit_tiny_patch16_224", channels=3, size=size) for size in (128, 64))
    trunk: Any = large.trunk
    with torch.no_grad():
        trunk.pos_embed[0, 1:] = torch.arange(8.0).repeat_interleave(8)[:, None]  # by the row
    state, record = match(trunk.state_dict(), tmp_path, small)
    positions = state["trunk.pos_embed"]
    assert record.positions == [64, 16] and torch.equal(positions[0, 0], trunk.pos_embed[0, 0])
    rows = positions[0, 1:, 0].view(4, 4)
    torch.testing.assert_close(rows[1:3, 1], torch.tensor([2.5, 4.5]), atol=0.05, rtol=0)
    assert record.lines[-1] == "positions resampled from 64 to 16 patches"


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ({"size": 32}, r"conv1.weight is \[64, 3, 7, 7\] in the file, \[64, 3, 3, 3\] in the encoder: a stem of 7x7 "
         "against one of 3x3: choose a --size of more than 64 px"),
        ({"channels": 1}, r"conv1.weight is \[64, 3, 7, 7\] in the file, \[64, 1, 7, 7\] in the encoder: "
         "weights for 3 channel.*images of 1"),
        ({"name": "resnet50"}, r"layer1.0.conv1.weight is \[64, 64, 3, 3\] in the file, \[64, 64, 1, 1\].* more "
         "differ: choose the --encoder that it is of"),
    ],
)  # fmt: skip
def test_shapes_that_differ_are_named(target: dict[str, Any], says: str, resnet: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"weights.pth does not fit the encoder: {says}"):
        match(module_of(resnet, ""), tmp_path, encoder(**target))


def test_nothing_that_fits_is_an_error(resnet: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"nothing in .* fits the encoder: the file has w, b, the encoder conv1.weight, .*"
    ):
        match({"w": torch.zeros(2), "b": torch.zeros(2)}, tmp_path)
    with pytest.raises(UserError, match="nothing in a run fits the encoder: .*: give --encoder tiny"):
        Weights(source="a run", tensors={"mean": torch.zeros(1, 3, 1, 1)}, sha256="", encoder="tiny").match(encoder())
    state = module_of(resnet, "")
    state["bn1.bias"] = torch.full((64,), torch.nan)
    with pytest.raises(UserError, match="values that are not finite, in bn1.bias"):
        match(state, tmp_path)


class Harmful:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("harm"),)


def test_no_code_of_a_file_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UserError, match=r"has objects besides tensors \(\S+\), which could run code: save the state dict"
    ):
        read_weights(saved({"x": torch.zeros(1), "y": Harmful()}, tmp_path / "x.pth"))
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no readable file of weights"),
        (b"hello, world", "no readable file of weights"),
        (b"PK\x03\x04 and no more", "no readable file of weights"),
        ((10**6).to_bytes(8, "little") + b"{}", "is damaged"),
    ],
)
def test_files_that_are_no_weights(content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(UserError, match=says):
        read_weights(tmp_path / "x")


def test_a_checkpoint_without_tensors(tmp_path: Path) -> None:
    for state in ({"epoch": 3}, [torch.zeros(1)]):
        with pytest.raises(UserError, match="has no tensors"):
            read_weights(saved(state, tmp_path / "x"))
    with pytest.raises(UserError, match="no such file: .*gone; --init-from takes a run folder, a file"):
        read_weights(tmp_path / "gone")


def test_timms_own_numbers_are_used_for_its_weights(tmp_path: Path) -> None:
    """0.5 for this network (timm's vision_transformer.py); by DINO's script the same network has ImageNet's."""
    vit = encoder("timm:vit_tiny_patch16_224", size=32)
    state = vit.trunk.state_dict()
    taken, record = match(state, tmp_path, vit)
    assert record.mean == [0.5] * 3 and record.std == [0.5] * 3 and taken["mean"].shape == (1, 3, 1, 1)
    assert record.normalisation == "timm's numbers for this network, as it has none"
    dino = match({"teacher": {f"backbone.{name}": value for name, value in state.items()}}, tmp_path, vit).record
    assert dino.mean == pytest.approx(IMAGENET_MEAN) and dino.normalisation.startswith("ImageNet's")
    gray = encoder("timm:vit_tiny_patch16_224", size=32, channels=1)
    assert match(gray.trunk.state_dict(), tmp_path, gray).record.mean == [0.5]


def test_an_old_file_of_torch_is_read(resnet: nn.Module, tmp_path: Path) -> None:
    torch.save(resnet.state_dict(), tmp_path / "old.pth.tar", _use_new_zipfile_serialization=False)
    assert read_weights(tmp_path / "old.pth.tar").match(encoder()).record.taken == 120
