"""Embedding: the features of a data set, to be saved."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from contrastkit.errors import UserError
from contrastkit.evaluate.subject import EvaluationSubject, OnProgress
from contrastkit.npz import write_npz

Split = Literal["train", "test", "all"]


@dataclass(frozen=True, slots=True)
class Embedding:
    """Features of N images by one encoder."""

    data: str  # name of the data set
    encoder: str
    features: np.ndarray  # float32 [N, D]
    labels: np.ndarray  # int64 [N], -1 for unlabelled images
    split: np.ndarray  # text [N], "train" or "test"
    classes: np.ndarray  # text: names of the labels 0, 1, ...; empty if they have none

    def save(self, path: Path) -> None:
        """Write features, labels, split and classes to an .npz, atomically."""
        write_npz(path, {name: getattr(self, name) for name in ("features", "labels", "split", "classes")})

    def as_json(self) -> dict[str, Any]:
        images, features = self.features.shape
        return {"data": self.data, "encoder": self.encoder, "images": images, "features": features}


def embed(
    subject: EvaluationSubject,
    *,
    split: Split = "all",
    on_progress: OnProgress | None = None,
) -> Embedding:
    """Features of one part of the data set, or of all of it, by the subject's only encoder.

    Raises:
        UserError: several encoders, no such part, or no test part.
    """
    if split not in (splits := get_args(Split)):
        raise UserError(f"--split must be {', '.join(splits[:-1])} or {splits[-1]}, not {split}")
    if len(subject.encoders) != 1:
        raise UserError(f"embed takes one encoder, not {len(subject.encoders)}: {', '.join(subject.encoders)}")
    (name,) = subject.encoders
    parts = {"train": subject.data.train, "test": subject.data.test}
    sources = {part: source for part, source in parts.items() if source is not None and split in (part, "all")}
    if not sources:
        raise UserError(
            f"{subject.data.name} has no test part: use --split train, or hold one out with --val-fraction 0.1"
        )
    features = dict(zip(sources, subject.features(name, *sources.values(), on_progress=on_progress), strict=True))
    return Embedding(
        data=subject.data.name,
        encoder=name,
        features=np.concatenate([part.x.numpy() for part in features.values()]),
        labels=np.concatenate([part.y.numpy() for part in features.values()]),
        split=np.repeat(list(features), [len(part.y) for part in features.values()]),
        classes=np.array(subject.data.train.classes or ()),
    )
