"""The teacher of a distillation: a frozen classifier."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from contrastkit.errors import UserError


@dataclass(frozen=True, kw_only=True)
class TeacherRecord:
    """What recipe.json says of a teacher, whose weights are in no checkpoint.

    Attributes:
        source: the absolute path, or pretrained:NAME.
        sha256: of the file; of published weights, of their tensors.
        encoder: its architecture, where the source does not say it: --teacher-encoder.
        dim: number of its features.
        n_classes: number of its classes.
    """

    source: str
    sha256: str
    encoder: str | None
    dim: int
    n_classes: int


class Teacher:
    """A frozen classifier: images [N, 1 or channels, H, W] in [0, 1] -> features [N, dim] before the last layer, logits
    [N, n_classes]; both without gradient, by the running statistics of its batch norms.

    No ``nn.Module``, so that it is no part of the method that holds it: neither of its state, nor of its parameters or
    its mode. It follows the images to their device.

    Attributes:
        classifier: the :class:`contrastkit.evaluate.supervised.LinearClassifier`, images -> logits.
        kind: arguments of :func:`contrastkit.parts.build.build_encoder` for an encoder like its own; ``name`` of them.
        classes: names of the outputs 0, 1, ...; None if they have none.
        size: side in pixels of the images that it was trained on; None if that is not known.
        record: where it is from.
    """

    size: int | None
    record: TeacherRecord

    def __init__(
        self,
        classifier: Any,
        *,
        kind: Mapping[str, Any],
        classes: tuple[str, ...] | None,
        size: int | None,
        source: str,
        sha256: str,
        encoder: str | None = None,
    ) -> None:
        """``source``, ``sha256``, ``encoder``: for the record."""
        self.classifier: Any = classifier.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.channels = classifier.encoder.channels
        dim, n_classes = classifier.fc.in_features, classifier.fc.out_features
        self.kind, self.name, self.classes, self.size = kind, kind["name"], classes, size
        self.record = TeacherRecord(source=source, sha256=sha256, encoder=encoder, dim=dim, n_classes=n_classes)

    @classmethod
    def absent(cls, record: TeacherRecord) -> Self:
        """That of a method which is loaded and not trained: it cannot be asked."""
        teacher = cls.__new__(cls)
        teacher.record, teacher.size, teacher.classifier = record, None, None
        return teacher

    @property
    def dim(self) -> int:
        return self.record.dim

    @property
    def n_classes(self) -> int:
        return self.record.n_classes

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        network = self.classifier
        if network is None:
            raise UserError(f"a run is loaded without its teacher {self.record.source}: it can only be resumed with it")
        if network.encoder.mean.device != images.device:
            network.to(images.device)
        features = network.neck(network.encoder(images.expand(-1, self.channels, -1, -1)))
        return features, network.fc(features)

    def shadow(self) -> Self:
        """A copy on torch's meta device, of the same shapes."""
        other = copy.copy(self)
        other.classifier = copy.deepcopy(self.classifier).to("meta")
        return other
