"""Teachers: what ``--teacher`` takes, and whether one fits the images."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from contrastkit.data import DataSet
from contrastkit.directories import given_path
from contrastkit.errors import UserError, listed
from contrastkit.evaluate.classifier import classifier_file, is_classifier, load_classifier, read_record
from contrastkit.evaluate.supervised import LinearClassifier
from contrastkit.parts.cifar import CIFAR_RESNETS
from contrastkit.parts.published import PUBLISHED, network_with_head, published_size, tensors_hash
from contrastkit.parts.teacher import Teacher, TeacherRecord
from contrastkit.parts.weights import SHOWN, Weights, read_weights
from contrastkit.starting import NamedEncoder

HEADS = ("fc", "linear", "classifier", "head", "last_linear")  # what others call the last layer
CIFAR = 32  # side in pixels


def open_teacher(source: str, encoder: str | None, data: DataSet) -> Teacher:
    """A teacher that fits these images.

    Args:
        source: a folder of ``contrastkit finetune`` or of a run that holds one, or the folder of a distillation; the
            file of a classifier in one of them; ``pretrained:NAME``, torchvision's or timm's with its classes; or a
            file of weights, see :func:`contrastkit.parts.weights.read_weights`.
        encoder: the network whose weights such a file has, a name of :func:`contrastkit.parts.build.build_encoder`.

    Raises:
        UserError: no such source, nothing readable, weights that do not fit the network, no last layer, or a teacher
            for other channels or classes.
    """
    channels, size = data.pretrain.channels, data.pretrain.size
    if source.startswith(PUBLISHED):
        _refuse(encoder, source)
        teacher = _published(source.removeprefix(PUBLISHED))
    elif is_classifier(path := classifier_file(given_path(source))):
        _refuse(encoder, source)
        teacher = _classifier(path)
    else:
        teacher = _of_weights(path, encoder, channels=channels, size=size)
    _require_fit(teacher, data)
    return teacher


def reopen_teacher(record: TeacherRecord, data: DataSet, source: str | None = None) -> Teacher:
    """The teacher of a run, from where it was, or from ``source``.

    Raises:
        UserError: as :func:`open_teacher`, or it has other weights than when the run was started.
    """
    teacher = open_teacher(source or record.source, record.encoder, data)
    if teacher.record.sha256 != record.sha256:
        raise UserError(
            f"{teacher.record.source} has other weights than the teacher that the run began with (SHA-256 "
            f"{record.sha256[:12]}...): give that one with --teacher"
        )
    return teacher


def _refuse(encoder: str | None, source: str) -> None:
    if encoder is not None:
        raise UserError(f"{source} says of which network it is: drop --teacher-encoder")


def _classifier(path: Path) -> Teacher:
    kind = read_record(path).encoder
    if kind is None:
        raise UserError(f"{path} has a custom module as encoder, which its file does not describe: choose another one")
    loaded, source = load_classifier(path), str(path.resolve())
    return Teacher(loaded, kind=kind, classes=loaded.classes, size=loaded.size, source=source, sha256=_hash(path))


def _published(name: str) -> Teacher:
    encoder, head = network_with_head(name)
    if not isinstance(head, nn.Linear):
        raise UserError(f"the published weights of {name} end in no linear layer of classes: choose another network")
    classifier = _assembled(encoder, head.state_dict())
    return Teacher(
        classifier,
        kind={"name": name},
        classes=None,
        size=published_size(name),
        source=f"{PUBLISHED}{name}",
        sha256=tensors_hash(classifier.state_dict()),
    )


def _of_weights(path: Path, name: str | None, *, channels: int, size: int) -> Teacher:
    weights = replace(read_weights(path), option="--teacher-encoder")
    if name is None:
        raise UserError(f"{path} does not say of which network it is: name it with --teacher-encoder")
    trained_at = weights.size or (CIFAR if name in CIFAR_RESNETS else None)
    named = NamedEncoder(name=name, source=str(path), weights=weights)
    encoder, _ = named.build(channels=channels, size=trained_at or size, seed=0)
    classifier = _assembled(encoder, _head(weights, encoder.dim, name))
    return Teacher(
        classifier,
        kind={"name": name},
        classes=None,
        size=trained_at,
        source=weights.source,
        sha256=weights.sha256,
        encoder=name,
    )


def _assembled(encoder: Any, head: Mapping[str, Tensor]) -> LinearClassifier:
    classifier = LinearClassifier(encoder, len(head["weight"]))
    classifier.fc.load_state_dict({"bias": head["weight"].new_zeros(len(head["weight"])), **head})
    return classifier


def _head(weights: Weights, dim: int, name: str) -> dict[str, Tensor]:
    """The last layer among weights: its tensors ``weight`` [n_classes, dim] and, if it has one, ``bias``.

    Raises:
        UserError: there is none, or several are.
    """
    layers = [
        key.removesuffix(".weight")
        for key, tensor in weights.tensors.items()
        if key.endswith(".weight") and set(key.split(".")[-3:-1]) & {*HEADS} and tensor.shape[1:] == (dim,)
    ]
    if len(layers) != 1:
        what = f"several last layers, {listed(layers, SHOWN)}" if layers else f"no last layer for the {dim} features"
        raise UserError(
            f"{weights.source} has {what} of {name} (called {', '.join(HEADS)}): a teacher is a whole classifier"
        )
    tensors = {part: weights.tensors.get(f"{layers[0]}.{part}") for part in ("weight", "bias")}
    head = {part: tensor for part, tensor in tensors.items() if tensor is not None}
    if not all(bool(tensor.isfinite().all()) for tensor in head.values()):
        raise UserError(f"{weights.source} has values that are not finite, in {layers[0]}: use other weights")
    return head


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _require_fit(teacher: Teacher, data: DataSet) -> None:
    """
    Raises:
        UserError: the teacher takes other channels, or knows other classes.
    """
    source, channels = teacher.record.source, data.pretrain.channels
    if channels not in (1, teacher.channels):
        raise UserError(f"the teacher {source} takes {teacher.channels} channels, {data.name} has {channels}")
    own, n = data.train.classes, _class_count(data)
    if n not in (0, teacher.n_classes):
        raise UserError(f"the teacher {source} knows {teacher.n_classes} classes, {data.train.name} has {n}")
    if n and teacher.classes is not None and own is not None and teacher.classes != tuple(own):
        pair = next((a, b) for a, b in zip(teacher.classes, own, strict=True) if a != b)
        raise UserError(
            f"the teacher {source} knows other classes than {data.train.name}, or the same in another order: "
            f"'{pair[0]}' where the data have '{pair[1]}'"
        )


def _class_count(data: DataSet) -> int:
    """0 if nothing is labelled."""
    labels = [part.labels for part in (data.pretrain, data.train) if part.labels is not None and len(part.labels)]
    n = max((int(each.max()) for each in labels), default=-1) + 1
    return len(data.train.classes) if n and data.train.classes is not None else n


def notices_of(teacher: Teacher | None, data: DataSet) -> list[str]:
    """What a user should know of a teacher that fits these images, one line each: that its classes could not be
    compared with theirs."""
    if teacher is None or teacher.classes is not None or not _class_count(data):
        return []
    first = data.train.classes[0] if data.train.classes else "0"
    return [
        f"the teacher {teacher.record.source} names no classes: its output 0 is taken for the first class of "
        f"{data.train.name}, '{first}', and so on"
    ]
