"""Teachers: from where they come, that they answer as their source does, and which are refused."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from contrastkit.data import open_data
from contrastkit.data.arrays import ArraySource
from contrastkit.data.dataset import DataSet
from contrastkit.errors import UserError
from contrastkit.evaluate.classifier import ClassifierRecord, save_classifier
from contrastkit.evaluate.features import encode
from contrastkit.evaluate.supervised import LinearClassifier
from contrastkit.parts.build import build_encoder
from contrastkit.parts.cifar import CIFARResNet
from contrastkit.teachers import notices_of, open_teacher, reopen_teacher

DATA = Path(os.environ.get("CONTRASTKIT_DATA", "nowhere"))
CLASSES = ("cat", "dog", "fish")
KIND: dict[str, Any] = {"name": "tiny", "channels": 3, "size": 16, "width": 0.25}


def data(n_classes: int = 3, channels: int = 3, classes: tuple[str, ...] | None = CLASSES, size: int = 16) -> DataSet:
    pixels = torch.randint(0, 256, (12, channels, size, size), dtype=torch.uint8)
    labels = torch.arange(12) % n_classes
    source = ArraySource("images", pixels, labels, classes=classes)
    return DataSet("images", source, source, source)


def classifier(seed: int = 0) -> LinearClassifier:
    torch.manual_seed(seed)
    return LinearClassifier(build_encoder(**KIND), 3).eval()


def saved(path: Path, seed: int = 0, classes: tuple[str, ...] | None = CLASSES) -> LinearClassifier:
    made, path = classifier(seed), path
    path.parent.mkdir(parents=True, exist_ok=True)
    save_classifier(path, made, ClassifierRecord(encoder=KIND, neck=(), n_classes=3, classes=classes, size=16))
    return made


IMAGES = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("given", ["run", "run/finetune", "run/finetune/model.safetensors"])
def test_a_fine_tuned_run_answers_as_its_classifier(tmp_path: Path, given: str) -> None:
    made = saved(tmp_path / "run/finetune/model.safetensors")
    teacher = open_teacher(str(tmp_path / given), None, data())
    features, logits = teacher(IMAGES)
    torch.testing.assert_close(logits, made(IMAGES).detach())
    torch.testing.assert_close(features, made.encoder(IMAGES).detach())
    assert (teacher.name, teacher.size, teacher.classes, teacher.n_classes) == ("tiny", 16, CLASSES, 3)
    assert not logits.requires_grad and teacher.record.encoder is None


def test_a_file_of_weights_answers_as_its_network(tmp_path: Path) -> None:
    """Under the names of akamaster/pytorch_resnet_cifar10, whose network is written out here."""
    torch.manual_seed(0)
    trunk = CIFARResNet(8, 3).eval()
    linear = nn.Linear(64, 3)
    tensors = {f"module.{name}": value for name, value in trunk.state_dict().items()}
    tensors |= {f"module.linear.{name}": value for name, value in linear.state_dict().items()}
    torch.save({"state_dict": tensors, "best_prec1": 1.0}, tmp_path / "weights.th")
    teacher = open_teacher(str(tmp_path / "weights.th"), "cifar-resnet8", data(classes=None, size=32))
    x = torch.rand(4, 3, 32, 32)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = linear(trunk((x - mean.view(3, 1, 1)) / std.view(3, 1, 1)))
    torch.testing.assert_close(teacher(x)[1], expected.detach(), rtol=1e-4, atol=1e-5)
    assert teacher.size == 32 and teacher.record.encoder == "cifar-resnet8"


def test_published_weights_come_with_their_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torchvision and timm would fetch them; here they stay as drawn."""
    get, create = torchvision.models.get_model, timm.create_model

    def seeded(make: Any, name: str, how: dict[str, Any]) -> nn.Module:
        torch.manual_seed(0)
        return make(name, **how).eval()

    monkeypatch.setattr(torchvision.models, "get_model", lambda name, **_: seeded(get, name, {}))
    monkeypatch.setattr(timm, "create_model", lambda name, **how: seeded(create, name, how | {"pretrained": False}))
    images, x = data(1000, classes=None), torch.rand(2, 3, 64, 64)
    teacher = open_teacher("pretrained:resnet18", None, replace_labels(images, 1000))
    whole = seeded(get, "resnet18", {})
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = (x - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    torch.testing.assert_close(teacher(x)[1], whole(normalised).detach(), rtol=1e-4, atol=1e-4)
    assert teacher.size == 224
    timms = open_teacher("pretrained:timm:resnet10t", None, replace_labels(images, 1000))
    assert timms.n_classes == 1000 and timms(x)[0].shape == (2, 512)


def replace_labels(images: DataSet, n: int) -> DataSet:
    source = images.train.subset(torch.arange(12))
    source.labels = torch.full((12,), n - 1)
    return replace(images, train=source, test=source, pretrain=source)


def test_the_ResNet_20_has_the_accuracy_of_its_readme() -> None:
    """91.73 %, by akamaster's README, whose weights are beside the data set."""
    folder, file = DATA, DATA / "weights/cifar10_resnet20.th"
    if not file.is_file() or not (folder / "cifar-10-batches-py").is_dir():
        pytest.skip("no CIFAR-10 and weights in $CONTRASTKIT_DATA")
    cifar = open_data("cifar10", data_dir=folder)
    teacher = open_teacher(str(file), "cifar-resnet20", cifar)
    assert cifar.test is not None
    answers = encode(teacher.classifier, cifar.test, size=32)
    assert (answers.x.argmax(1) == answers.y).double().mean().item() == pytest.approx(0.9173, abs=1e-9)


def test_a_changed_file_is_no_longer_the_runs_teacher(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    saved(path)
    record = open_teacher(str(path), None, data()).record
    (tmp_path / "moved.safetensors").write_bytes(path.read_bytes())
    saved(path, seed=1)
    with pytest.raises(UserError, match="has other weights than the teacher that the run began with"):
        reopen_teacher(record, data())
    moved = reopen_teacher(record, data(), str(tmp_path / "moved.safetensors"))
    assert moved.record.sha256 == record.sha256


def weights(tmp_path: Path, change: dict[str, Tensor | None]) -> str:
    network = torchvision.models.resnet18(num_classes=3).state_dict() | change
    save_file({name: value for name, value in network.items() if value is not None}, tmp_path / "w.safetensors")
    return str(tmp_path / "w.safetensors")


NO_HEAD: dict[str, Tensor | None] = {"fc.weight": None, "fc.bias": None}


@pytest.mark.parametrize(
    ("change", "encoder", "of", "says"),
    [
        ({}, None, {"size": 96}, "does not say of which network it is: name it with --teacher-encoder"),
        ({}, "resnet999", {"size": 96}, "unknown encoder 'resnet999'"),
        ({}, "resnet50", {"size": 96}, "choose the --teacher-encoder that it is of"),
        (NO_HEAD, "resnet18", {"size": 96}, "has no last layer for the 512 features of resnet18"),
        ({"linear.weight": torch.zeros(3, 512)}, "resnet18", {"size": 96}, "has several last layers, "),
        ({"fc.bias": torch.tensor([0.0, torch.inf, 0.0])}, "resnet18", {"size": 96}, "not finite, in fc"),
        ({}, "resnet18", {"size": 96, "n_classes": 4, "classes": None}, "knows 3 classes, images has 4"),
        ({}, "resnet18", {"size": 96, "channels": 4}, "weights for 3 channel\\(s\\), images of 4"),
    ],
)
def test_a_file_of_weights_that_cannot_teach_is_refused(
    tmp_path: Path, change: dict[str, Tensor | None], encoder: str | None, of: dict[str, Any], says: str
) -> None:
    with pytest.raises(UserError, match=says):
        open_teacher(weights(tmp_path, change), encoder, data(**of))


@pytest.mark.parametrize(
    ("of", "says"),
    [
        ({"classes": ("dog", "cat", "fish")}, "knows other classes than images, or the same in another order: 'cat'"),
        ({"n_classes": 2, "classes": CLASSES[:2]}, "knows 3 classes, images has 2"),
        ({"channels": 4}, "takes 3 channels, images has 4"),
    ],
)
def test_a_classifier_of_other_images_is_refused(tmp_path: Path, of: dict[str, Any], says: str) -> None:
    saved(tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=says):
        open_teacher(str(tmp_path), None, data(**of))


def test_a_teacher_whose_classes_have_no_names_is_told(tmp_path: Path) -> None:
    images, named = data(), tmp_path / "named/model.safetensors"
    saved(named)
    unnamed = open_teacher(weights(tmp_path, {}), "resnet18", data(size=96))
    assert notices_of(unnamed, images) == [
        f"the teacher {tmp_path / 'w.safetensors'} names no classes: its output 0 is taken for the first class of "
        "images, 'cat', and so on"
    ]
    assert "'0', and so on" in notices_of(unnamed, data(classes=None))[0]
    bare = ArraySource("bare", torch.zeros(8, 3, 16, 16, dtype=torch.uint8))
    assert notices_of(unnamed, DataSet("bare", bare, bare, bare)) == [], "no class to take it for"
    assert notices_of(open_teacher(str(named), None, images), images) == notices_of(None, images) == []


def test_what_is_no_teacher_is_refused(tmp_path: Path) -> None:
    saved(tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="says of which network it is: drop --teacher-encoder"):
        open_teacher(str(tmp_path), "tiny", data())
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no classifier: fine-tune its encoder first"):
        open_teacher(str(tmp_path / "empty"), None, data())
    with pytest.raises(UserError, match="no such file"):
        open_teacher(str(tmp_path / "nowhere.pth"), "tiny", data())
    made = classifier()
    own = ClassifierRecord(encoder=None, neck=(), n_classes=3, classes=None, size=16)
    save_classifier(tmp_path / "own.safetensors", made, own)
    with pytest.raises(UserError, match="has a custom module as encoder"):
        open_teacher(str(tmp_path / "own.safetensors"), None, data())
