"""Every kind of encoder in every library that can have it: the printed lines run without contrastkit, and give the
encoder's own features."""

import importlib.util
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import contrastkit
from contrastkit.errors import UserError
from contrastkit.export import Exported, export_encoder, exporting, networks
from contrastkit.parts.build import build_encoder
from contrastkit.parts.encoder import Encoder
from tests.export.runs import write_run

SMALL: dict[str, Any] = {"channels": 3, "size": 32}
LARGE: dict[str, Any] = {"channels": 1, "size": 96}
TINY: dict[str, Any] = {"name": "tiny", **SMALL}
RESNET: dict[str, Any] = {"name": "resnet18", **SMALL}
VIT: dict[str, Any] = {"name": "timm:vit_tiny_patch16_224", **SMALL, "vit": {"num_heads": 12}}
CMC: dict[str, Any] = {"name": "tiny", **SMALL, "colour": "lab", "width": 0.5}
SOUND: dict[str, Any] = {"name": "wave-tiny", "channels": 1, "size": 800}
SIMCLR_V2 = RESNET | {"projector_layers": 2, "projector_width": 48}

CASES: list[Any] = [
    ("torchvision", RESNET),
    ("torchvision", {"name": "resnet18", **LARGE}),
    ("torchvision", SIMCLR_V2),
    ("timm", RESNET),
    ("timm", VIT),
    ("torch", TINY),
    ("onnx", TINY),
]
SLOW: list[Any] = [
    ("torchvision", {"name": "resnet50", "channels": 3, "size": 96}),
    ("timm", {"name": "resnet18", **LARGE}),
    ("timm", SIMCLR_V2),
    ("timm", {"name": "timm:efficientnet_lite0", **LARGE}),
    ("timm", {"name": "wide_resnet50_2", "channels": 3, "size": 96}),
    ("timm", {"name": "timm:swin_tiny_patch4_window7_224", "channels": 3, "size": 224}),
    *((to, options) for to in ("torch", "onnx") for options in (
        CMC, SIMCLR_V2, VIT, {"name": "resnet18", **LARGE}, {"name": "timm:efficientnet_lite0", **LARGE},
        TINY | {"norm": "group"}, TINY | {"norm": "layer", "patch": 16, "stride": 8},
    )),
    *((to, SOUND) for to in ("torch", "onnx")),
]  # fmt: skip


class Made(NamedTuple):
    encoder: Encoder
    exported: Exported
    examples: torch.Tensor
    out: Path  # of the features that the lines compute


def make(folder: Path, to: str, options: dict[str, Any]) -> Made:
    if to == "onnx":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(package)
    method, rate = ("cpc-audio/tiny", 8000) if "wave" in options["name"] else ("moco-v2/tiny", None)
    encoder = write_run(folder / "run", options, method=method, rate=rate)
    shape = (1, 1, options["size"]) if rate else (options["channels"], options["size"], options["size"])
    return Made(encoder, export_encoder(folder / "run", to=to), torch.rand(5, *shape), folder / "features.npy")


def run_alone(made: list[Made]) -> None:
    """Run the lines of each export as they are printed, one after the other, where contrastkit cannot be imported."""
    lines = ["import sys", "sys.modules['contrastkit'] = None", "import numpy, torch", "torch.set_num_threads(1)"]
    for each in made:
        name = each.exported.input.partition(":")[0]
        np.save(each.out.with_name("examples.npy"), each.examples.numpy())
        lines.append(f"{name} = numpy.load({str(each.out.with_name('examples.npy'))!r})")
        if each.exported.to != "onnx":
            lines.append(f"{name} = torch.from_numpy({name})")
        lines.append(each.exported.code)
        lines.append("features = features if isinstance(features, numpy.ndarray) else features.detach().numpy()")
        lines.append(f"numpy.save({str(each.out)!r}, features)")
    lines.append("assert not [name for name in sys.modules if name.startswith('contrastkit.')]")
    result = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def identify(case: Any) -> str:
    to, options = case
    return "-".join([to, *(str(value) for key, value in options.items() if key != "vit")])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    """The fast cases, run in one process."""
    has_onnx = all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))
    cases = [case for case in CASES if has_onnx or case[0] != "onnx"]
    made = {identify(case): make(tmp_path_factory.mktemp("export"), *case) for case in cases}
    run_alone(list(made.values()))
    return made


def compare(made: Made) -> None:
    with torch.no_grad():
        own = made.encoder(made.examples)
    features = torch.from_numpy(np.load(made.out))
    assert features.shape == own.shape == (5, made.exported.description.features)
    torch.testing.assert_close(features, own, atol=1e-5, rtol=1e-5)
    assert made.exported.difference is not None and made.exported.difference <= 1e-5 * max(1, made.exported.largest)


@pytest.mark.parametrize("case", CASES, ids=identify)
def test_the_lines_give_the_features(case: Any, made: dict[str, Made]) -> None:
    if identify(case) not in made:
        pytest.skip("onnx, onnxscript or onnxruntime is not installed")
    compare(made[identify(case)])


@pytest.mark.slow
@pytest.mark.parametrize("case", SLOW, ids=identify)
def test_the_lines_give_the_features_of_more_encoders(case: Any, tmp_path: Path) -> None:
    made = make(tmp_path, *case)
    run_alone([made])
    compare(made)


def test_names_and_shapes_are_torchvisions(made: dict[str, Made]) -> None:
    """All of them, but for the classifier."""
    import torchvision

    state = torchvision.models.resnet18().state_dict()
    names = {name: value.shape for name, value in state.items() if not name.startswith("fc.")}
    for size, channels, kernel in (("3-32", 3, 3), ("1-96", 1, 7)):
        tensors = load_file(made[f"torchvision-resnet18-{size}"].exported.out)
        expected = names | {"conv1.weight": (64, channels, kernel, kernel)}
        assert {name: tuple(value.shape) for name, value in tensors.items()} == {
            name: tuple(shape) for name, shape in expected.items()
        }


def test_metadata_say_what_the_file_is(made: dict[str, Made]) -> None:
    for to in ("torchvision", "timm"):
        with safe_open(made[f"{to}-resnet18-3-32"].exported.out, "pt") as file:
            metadata = file.metadata()
        assert metadata["architecture"] == "resnet18" and metadata["stem"] == "3x3" and metadata["format"] == "pt"
        assert json.loads(metadata["mean"]) == [0.485, 0.456, 0.406]
        assert json.loads(metadata["std"]) == [0.229, 0.224, 0.225]
        numbers = {name: json.loads(metadata[name]) for name in ("channels", "size", "features", "images", "step")}
        assert numbers == {"channels": 3, "size": 32, "features": 512, "images": 1234, "step": 12}
        assert metadata["method"] == "moco-v2/tiny" and metadata["data"] == "photos"


def test_a_program_of_torch_has_the_metadata_too(made: dict[str, Made]) -> None:
    extra = {"metadata.json": ""}
    torch.export.load(made["torch-tiny-3-32"].exported.out, extra_files=extra)
    assert json.loads(extra["metadata.json"])["architecture"] == "tiny"


def test_onnx_takes_any_number_of_images_in_one_file(made: dict[str, Made]) -> None:
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    each = made["onnx-tiny-3-32"]
    model = onnx.load(each.exported.out)
    assert [(item.domain, item.version) for item in model.opset_import] == [("", each.exported.opset)]
    assert {item.key: item.value for item in model.metadata_props}["method"] == "moco-v2/tiny"
    assert [path.suffix for path in each.exported.out.parent.iterdir() if "onnx" in path.name] != [".data"]
    session = onnxruntime.InferenceSession(str(each.exported.out))
    (into,), (out,) = session.get_inputs(), session.get_outputs()
    assert (into.name, into.type, into.shape[1:]) == ("images", "tensor(float)", [3, 32, 32])
    assert (out.name, out.shape[1:]) == ("features", [128])
    for n in (1, 2, 4):
        (features,) = session.run(None, {"images": each.examples[:n].numpy()})
        with torch.no_grad():
            torch.testing.assert_close(
                torch.from_numpy(features), each.encoder(each.examples[:n]), atol=1e-5, rtol=1e-5
            )


# ------------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("to", "options", "says"),
    [
        ("keras", TINY, "unknown target 'keras' .known: torchvision, timm, torch, onnx"),
        ("torchvision", VIT, "timm:vit_tiny_patch16_224 is a network of timm: use --to timm"),
        ("torchvision", TINY, "tiny is a network of contrastkit; --to torch and --to onnx take any encoder"),
        ("timm", TINY, "tiny is a network of contrastkit; --to torch and --to onnx take any encoder"),
        ("timm", CMC, r"it has a network for each of 2 views \(L, ab\)"),
        ("timm", SOUND, "wave-tiny is a network of contrastkit"),
        ("torchvision", RESNET | {"norm": "group"}, "its resnet18 has group norm"),
        ("timm", RESNET | {"width": 0.5}, "its resnet18 has another width"),
        (
            "timm",
            RESNET | {"patch": 16, "stride": 8},
            "its features are means over patches of 16 px",
        ),
        ("timm", {**VIT, "projector_layers": 1}, "projector layers follow its network"),
    ],
)
def test_what_a_library_cannot_have_is_refused(to: str, options: dict[str, Any], says: str, tmp_path: Path) -> None:
    write_run(tmp_path / "run", options)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=says):
        export_encoder(tmp_path / "run", to=to)
    assert sorted(tmp_path.rglob("*")) == before


def test_other_features_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path / "run", RESNET)
    saved = networks.save_tensors

    def spoilt(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
        saved(path, {name: 1.01 * value if value.ndim == 4 else value for name, value in tensors.items()}, metadata)

    monkeypatch.setattr(networks, "save_tensors", spoilt)
    with pytest.raises(UserError, match="the features of torchvision differ from the encoder's own by up to .*nothing"):
        export_encoder(tmp_path / "run", to="torchvision", out=tmp_path / "out")
    monkeypatch.setattr(networks, "save_tensors", lambda path, tensors, metadata: saved(path, {}, metadata))
    with pytest.raises(UserError, match="timm cannot load resnet18: "):
        export_encoder(tmp_path / "run", to="timm", out=tmp_path / "out")
    assert not list(tmp_path.glob("out*"))


def test_missing_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path / "run", TINY)
    there = importlib.util.find_spec
    missing = {"onnx", "onnxscript"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else there(name))
    with pytest.raises(UserError, match=r'needs onnx and onnxscript: pip install "contrastkit\[onnx\]"'):
        export_encoder(tmp_path / "run", to="onnx")
    for package in missing:
        pytest.importorskip(package)
    missing = {"onnxruntime"}
    exported = export_encoder(tmp_path / "run", to="onnx")
    assert exported.difference is None and exported.out.is_file()
    assert exported.notices == ("not compared with the encoder's own features: pip install onnxruntime",)


def test_a_file_that_a_library_does_not_load_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime's errors are of classes of its own, outside RuntimeError."""
    pytest.importorskip("onnxruntime")
    write_run(tmp_path / "run", TINY)

    def write(trained: Any, file: Path) -> None:
        file.write_bytes(b"torn")

    monkeypatch.setitem(exporting.TARGETS, "onnx", replace(exporting.TARGETS["onnx"], write=write))
    with pytest.raises(UserError, match="onnxruntime cannot load tiny: .*INVALID_PROTOBUF"):
        export_encoder(tmp_path / "run", to="onnx")
    assert not (tmp_path / "run" / "encoder.onnx").exists()


# ----------------------------------------------------------------------------------------------------- runs and places


def test_an_unfinished_run_says_its_step(moco_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(moco_run, tmp_path / "run"))
    whole = export_encoder(run, to="torch")
    assert whole.notices == () and whole.description.step == 6  # 210 images, 32 a batch
    (run / "encoder.safetensors").unlink()
    exported = export_encoder(run, to="torch")
    assert exported.notices == (f"{run} is not finished: this is its encoder after step 6, epoch 1 of 1",)
    assert exported.notices[0] in exported.card.read_text()


def test_the_encoder_of_a_training_has_metadata_from_which_it_is_built(moco_run: Path, tmp_path: Path) -> None:
    with safe_open(moco_run / "encoder.safetensors", "pt") as file:
        metadata = file.metadata()
    assert (metadata["method"], metadata["step"], metadata["size"]) == ("moco-v2/tiny", "6", "16")
    build_encoder(**json.loads(metadata["encoder"])).load_state_dict(load_file(moco_run / "encoder.safetensors"))


def test_a_run_whose_encoder_has_no_metadata(tmp_path: Path) -> None:
    """As written before there were any."""
    write_run(tmp_path / "run", TINY)
    file = tmp_path / "run" / "encoder.safetensors"
    save_file(load_file(file), file)
    (tmp_path / "run" / "metrics.jsonl").unlink()
    exported = export_encoder(tmp_path / "run", to="torch")
    assert exported.description.step is None and "| steps | unknown |" in exported.card.read_text()


def test_a_transformer_at_another_size(tmp_path: Path) -> None:
    """Its positions are resampled in the file, so that timm's model of that size takes them."""
    write_run(tmp_path / "run", VIT)
    exported = export_encoder(tmp_path / "run", to="timm", size=48)
    assert "img_size=48" in exported.code and exported.description.size == 48
    assert load_file(exported.out)["pos_embed"].shape == (1, 1 + 9, 192)
    with pytest.raises(UserError, match="--size must be a multiple of 16"):
        export_encoder(tmp_path / "run", to="timm", size=50)


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    write_run(tmp_path / "run", TINY)
    (tmp_path / "x.pt2.md").mkdir()
    for out, says in (
        (tmp_path, "is no regular file"),
        (tmp_path / "nowhere" / "x.pt2", "cannot be written: No such file"),
        (tmp_path / "x.pt2", r"x.pt2.md cannot be written: Is a directory; choose another place with --out"),
    ):
        with pytest.raises(UserError, match=says):
            export_encoder(tmp_path / "run", to="torch", out=out)


def test_a_module_of_ones_own(tmp_path: Path, images: Path) -> None:
    def module() -> torch.nn.Module:
        return torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 4, stride=4), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
        )

    options: dict[str, Any] = {"epochs": 1, "batch": 64, "size": 12, "monitor_every": 0, "device": "cpu"}
    contrastkit.train("simclr", images, encoder=module(), out=tmp_path / "run", **options)
    with pytest.raises(UserError, match="its network is a module of your own, Sequential; --to torch and --to onnx"):
        export_encoder(tmp_path / "run", to="timm", encoder=module())
    assert export_encoder(tmp_path / "run", to="torch", encoder=module()).description.features == 8
