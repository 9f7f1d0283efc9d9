"""Classifiers as files: the fine-tuned encoder, what is kept of the projection head, and the linear layer."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from contrastkit import schema
from contrastkit.checkpoint import write_with
from contrastkit.directories import given_path, require_file
from contrastkit.errors import UserError
from contrastkit.evaluate.supervised import LinearClassifier
from contrastkit.parts.build import build_encoder, set_image_size
from contrastkit.parts.encoder import Encoder
from contrastkit.parts.heads import NORMS
from contrastkit.parts.weights import is_safetensors
from contrastkit.record import json_value
from contrastkit.run import CLASSIFIER

KEY = "contrastkit.classifier"  # of the metadata
IN_FOLDER = ("model.safetensors", CLASSIFIER, "finetune/model.safetensors")  # of a fine-tuning, a training, a run
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU}


@dataclass(frozen=True, kw_only=True)
class HiddenLayer:
    """One hidden layer of a projection head: linear, norm, activation."""

    into: int
    out: int
    bias: bool
    norm: Literal["batch", "layer", "none"]
    activation: Literal["relu", "gelu"]


class Neck(nn.Sequential):
    """The first hidden layers of a projection head: [N, D] -> [N, dim]."""

    def __init__(self, layers: tuple[HiddenLayer, ...]) -> None:
        modules: list[nn.Module] = []
        for layer in layers:
            modules.append(nn.Linear(layer.into, layer.out, bias=layer.bias))
            if (norm := NORMS[layer.norm]) is not None:
                modules.append(norm(layer.out))
            modules.append(ACTIVATIONS[layer.activation]())
        super().__init__(*modules)
        self.layers, self.dim = layers, layers[-1].out


def neck_of(head: nn.Module, n: int) -> Neck:
    """The first n hidden layers of a projection head, with its weights.

    Raises:
        UserError: it has fewer, or is of another kind than :func:`contrastkit.parts.heads.mlp` makes.
    """
    modules: list[nn.Module] = list(head) if isinstance(head, nn.Sequential) else []
    layers: list[HiddenLayer] = []
    norms = {nn.BatchNorm1d: "batch", nn.SyncBatchNorm: "batch", nn.LayerNorm: "layer"}
    taken: list[nn.Module] = []
    while modules and isinstance(linear := modules[0], nn.Linear):
        norm = norms.get(type(modules[1]), "none") if len(modules) > 1 else "none"
        after = modules[1 + (norm != "none") :]
        activation = next((name for name, kind in ACTIVATIONS.items() if after and isinstance(after[0], kind)), None)
        if activation is None:
            break
        how: dict[str, Any] = {"norm": norm, "activation": activation, "bias": linear.bias is not None}
        layers.append(HiddenLayer(into=linear.in_features, out=linear.out_features, **how))
        taken += modules[: len(modules) - len(after) + 1]
        modules = after[1:]
    if len(layers) < n:
        raise UserError(
            f"the method's head has {len(layers)} hidden layers to keep: --head-layers at most {len(layers)}"
        )
    neck = Neck(tuple(layers[:n]))
    for new, old in zip(neck, taken, strict=False):
        new.load_state_dict(old.state_dict())
    return neck


@dataclass(frozen=True, kw_only=True)
class ClassifierRecord:
    """The metadata of a classifier's file: what is needed to build it.

    Attributes:
        encoder: arguments of :func:`contrastkit.parts.build.build_encoder`; None for a custom module.
        size: side in pixels of the images that it was fine-tuned on.
        classes: names of the outputs 0, 1, ...; None if they have none.
    """

    encoder: dict[str, Any] | None
    neck: tuple[HiddenLayer, ...]
    n_classes: int
    classes: tuple[str, ...] | None
    size: int


class Classifier(LinearClassifier):
    """A fine-tuned classifier, from :func:`load_classifier`: images [N, 1 or channels, size, size] float in [0, 1] ->
    logits [N, n_classes]. ``classes`` names the outputs, ``size`` is the side in pixels of its images."""

    classes: tuple[str, ...] | None
    size: int


def save_classifier(path: Path, classifier: LinearClassifier, record: ClassifierRecord) -> None:
    """Write a classifier as .safetensors, atomically."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in classifier.state_dict().items()}
    metadata = {KEY: json.dumps(asdict(record))}
    write_with(path, lambda file: save_file(tensors, file, metadata))


def load_classifier(path: str | Path, *, encoder: Encoder | None = None) -> Classifier:
    """Load a classifier that a fine-tuning, a distillation or a training with labels has written, in eval mode on the
    CPU::

        classify = contrastkit.load_classifier("runs/photos/finetune")
        label = classify(images).argmax(1)    # images [N, 3, classify.size, classify.size] in [0, 1]

    Args:
        path: its file, or the folder of the fine-tuning or of the run.
        encoder: for one with a custom module: an encoder of the same architecture; its weights are overwritten.

    Raises:
        UserError: no such file, none in the folder, another kind of file, or a damaged one.
    """
    path = classifier_file(given_path(path))
    record = read_record(path)
    if encoder is None:
        if record.encoder is None:
            raise UserError(f"{path} has a custom module as encoder: add encoder=, of the same architecture")
        encoder = build_encoder(**record.encoder)
        set_image_size(encoder, record.size)
    classifier = Classifier(encoder, record.n_classes, neck=Neck(record.neck) if record.neck else None)
    classifier.classes, classifier.size = record.classes, record.size
    state: dict[str, Tensor] = load_file(path)
    try:
        classifier.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"the weights in {path} do not fit its metadata: it is damaged") from error
    return classifier.eval()


def classifier_file(path: Path) -> Path:
    """The file of the classifier in a folder; a file itself.

    Raises:
        UserError: the folder has none.
    """
    if not path.is_dir():
        return path
    file = next((path / name for name in IN_FOLDER if (path / name).is_file()), None)
    if file is None:
        raise UserError(f"{path} holds no classifier: fine-tune its encoder first, contrastkit finetune {path}")
    return file


def is_classifier(path: Path) -> bool:
    """Whether a file is one of a classifier.

    Raises:
        UserError: it cannot be read.
    """
    require_file(path)
    if not is_safetensors(path):
        return False
    try:
        with safe_open(path, "pt") as file:
            return KEY in (file.metadata() or {})
    except SafetensorError as error:
        raise UserError(f"{path} is damaged: {error}") from error


def read_record(path: Path) -> ClassifierRecord:
    """The metadata of a classifier's file.

    Raises:
        UserError: no such file, another kind of file, or a damaged one.
    """
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(KEY)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist: 'contrastkit finetune' writes model.safetensors") from error
    except SafetensorError as error:
        raise UserError(f"{path} is damaged: {error}") from error
    if text is None:
        raise UserError(f"{path} holds no classifier: give a file written by 'contrastkit finetune'")
    with schema.reading(path):
        record = schema.instance(ClassifierRecord, json_value(text), "")
        if record.encoder is not None:
            schema.arguments(build_encoder, record.encoder, "encoder")
    return record


@torch.no_grad()
def start_head_(classifier: LinearClassifier, std: float, seed: int) -> None:
    """Start the linear layer at N(0, std), with biases at 0."""
    nn.init.normal_(classifier.fc.weight, std=std, generator=torch.Generator().manual_seed(seed))
    nn.init.zeros_(classifier.fc.bias)
