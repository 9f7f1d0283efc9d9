"""Embedding: the features of a data set, to be saved."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

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
    readable: np.ndarray  # bool [N]: False, and NaN in the features, for images that could not be read
    paths: np.ndarray  # text [N]: files, relative to the folder of their part; "" for images that are no files
    environment: np.ndarray | None = None  # [N], of an .npz file that has it for every part
    notices: tuple[str, ...] = ()  # what a reader of the features should know, one line each

    def save(self, path: Path) -> None:
        """Write the arrays to an .npz, atomically."""
        arrays = {item.name: getattr(self, item.name) for item in fields(self)}
        write_npz(path, {name: array for name, array in arrays.items() if isinstance(array, np.ndarray)})

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
    features = subject.features(name, *sources.values(), on_progress=on_progress)
    readable = [
        torch.ones_like(part.y, dtype=torch.bool) if part.readable is None else part.readable for part in features
    ]
    environments: list[Any] = [source.environment for source in sources.values()]
    return Embedding(
        data=subject.data.name,
        encoder=name,
        features=torch.cat([part.x for part in features]).numpy(),
        labels=torch.cat([part.y for part in features]).numpy(),
        split=np.repeat(list(sources), [len(part.y) for part in features]),
        classes=np.array(subject.data.train.classes or (), dtype=str),
        readable=torch.cat(readable).numpy(),
        paths=np.array([path for part in sources.values() for path in part.paths or [""] * len(part)], dtype=str),
        environment=None if any(each is None for each in environments) else np.concatenate(environments),
        notices=subject.left_out,
    )
