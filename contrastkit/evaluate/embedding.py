"""Embedding: the features of a data set, in memory and in files."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor

from contrastkit.checkpoint import atomic
from contrastkit.data import Source
from contrastkit.directories import given_path
from contrastkit.errors import UserError
from contrastkit.evaluate.embedding_files import MAPPED, WRITTEN, read_arrays, require_format, write_arrays
from contrastkit.evaluate.identity import image_ids
from contrastkit.evaluate.origin import Origin
from contrastkit.evaluate.subject import EvaluationSubject, OnProgress
from contrastkit.memory import available_memory

Split = Literal["train", "test", "all"]


@dataclass(frozen=True, slots=True)
class Embedding:
    """Features of N images by one encoder."""

    features: np.ndarray  # float32 [N, D]; of tokens [N, h, w, C]
    labels: np.ndarray  # int64 [N], -1 for unlabelled images
    split: np.ndarray  # text [N], "train" or "test"
    classes: np.ndarray  # text: names of the labels 0, 1, ...; empty if they have none
    readable: np.ndarray  # bool [N]: False, and NaN in the features, for images that could not be read
    paths: np.ndarray  # text [N]: files, relative to the folder of their part; "" for images that are no files
    origin: Origin
    environment: np.ndarray | None = None  # [N], of a data set that has it for every part
    image_id: np.ndarray | None = None  # text [N] of evaluate.identity.image_ids; None in a file of an earlier version
    notices: tuple[str, ...] = ()  # what a reader of the features should know, one line each

    def save(self, path: str | Path) -> None:
        """Write everything but the notices to a file, atomically, in the format that its ending names.

        .npz, also for other endings: the arrays by their names, and ``origin`` as JSON. .npy: the features alone, and
        the other arrays beside them, in NAME.rows.npz. .csv and .parquet: a row for each image.

        Raises:
            UserError: tokens for a table, no pyarrow for .parquet, or no space left.
        """
        path = given_path(path)
        require_format(path, tokens=self.features.ndim > 2)
        if path.suffix == MAPPED:
            with atomic(path) as temporary:
                open_memmap(temporary, mode="w+", dtype=np.float32, shape=self.features.shape)[:] = self.features
        write_arrays(path, self._arrays())

    @classmethod
    def open(cls, path: str | Path) -> "Embedding":
        """What :meth:`save` or :func:`embed` wrote to an .npz or .npy file; the features of an .npy stay in the file,
        mapped into memory.

        Raises:
            UserError: there is no such file, it is a table, it is damaged, or it was written by another program or by
                a version that did not record what made the features.
        """
        path = given_path(path)
        arrays = read_arrays(path)
        columns = ("labels", "split", "readable", "paths")
        if missing := [name for name in ("features", *columns, "classes", "origin") if name not in arrays]:
            raise UserError(f"{path} has no array '{missing[0]}': give {WRITTEN} of this version")
        n = len(arrays["features"])
        if wrong := [name for name in columns if arrays[name].shape != (n,)]:
            raise UserError(f"{path} is damaged: {n:,} rows of features, but {wrong[0]} of {arrays[wrong[0]].shape}")
        origin = Origin.from_json(str(arrays.pop("origin")), path)
        known = ("features", *columns, "classes", "environment", "image_id")
        return cls(origin=origin, **{name: arrays[name] for name in known if name in arrays})  # type: ignore[arg-type]

    def _arrays(self) -> dict[str, np.ndarray]:
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        arrays = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
        return arrays | {"origin": np.array(self.origin.text())}

    def as_json(self) -> dict[str, Any]:
        images, *shape = self.features.shape
        features = shape[0] if len(shape) == 1 else shape
        return {"data": self.origin.data, "encoder": self.origin.encoder, "images": images, "features": features}


def embed(
    subject: EvaluationSubject,
    *,
    split: Split = "all",
    tokens: bool = False,
    out: Path | None = None,
    on_progress: OnProgress | None = None,
) -> Embedding:
    """Features of one part of the data set, or of all of it, by the subject's only encoder.

    Args:
        tokens: the features of each position of the encoder's feature maps instead of one vector an image.
        out: a file to write them to, see :meth:`Embedding.save`. The features of an .npy are written as they are made
            and stay in the file, mapped into memory, so they may be larger than it.

    Raises:
        UserError: several encoders, no such part, no test part, an encoder without feature maps for ``tokens``,
            features that do not fit in memory, or see :meth:`Embedding.save`.
    """
    if out is not None:
        require_format(out, tokens=tokens)
    if out is None or out.suffix != MAPPED:
        embedding = _embed(subject, split, tokens, None, on_progress)
        if out is not None:
            embedding.save(out)
        return embedding
    with atomic(out) as temporary:
        embedding = _embed(subject, split, tokens, temporary, on_progress)
        write_arrays(out, embedding._arrays())
    return embedding


def _embed(
    subject: EvaluationSubject, split: Split, tokens: bool, file: Path | None, on_progress: OnProgress | None
) -> Embedding:
    """The features, in an .npy file if one is given."""
    name, sources = only_encoder(subject), sources_of(subject, split)
    rows = _Rows(sum(map(len, sources.values())), file)
    features = subject.features(name, *sources.values(), tokens=tokens, storage=rows, on_progress=on_progress)
    readable = [
        torch.ones_like(part.y, dtype=torch.bool) if part.readable is None else part.readable for part in features
    ]
    environments: list[Any] = [source.environment for source in sources.values()]
    return Embedding(
        features=rows.array,
        labels=torch.cat([part.y for part in features]).numpy(),
        split=np.repeat(list(sources), [len(part.y) for part in features]),
        classes=np.array(subject.data.train.classes or (), dtype=str),
        readable=torch.cat(readable).numpy(),
        paths=np.array([path for part in sources.values() for path in part.paths or [""] * len(part)], dtype=str),
        origin=Origin.of(subject, name, sources),
        environment=None if any(each is None for each in environments) else np.concatenate(environments),
        image_id=np.concatenate([image_ids(source) for source in sources.values()]),
        notices=subject.left_out,
    )


def only_encoder(subject: EvaluationSubject) -> str:
    """
    Raises:
        UserError: there are several.
    """
    if len(subject.encoders) != 1:
        raise UserError(f"embed takes one encoder, not {len(subject.encoders)}: {', '.join(subject.encoders)}")
    (name,) = subject.encoders
    return name


def sources_of(subject: EvaluationSubject, split: Split) -> dict[str, Source]:
    """The parts of the data set that ``split`` names: "train", "test" or both.

    Raises:
        UserError: there is no such part.
    """
    if split not in (splits := get_args(Split)):
        raise UserError(f"--split must be {', '.join(splits[:-1])} or {splits[-1]}, not {split}")
    parts = {"train": subject.data.train, "test": subject.data.test}
    sources = {part: source for part, source in parts.items() if source is not None and split in (part, "all")}
    if not sources:
        raise UserError(
            f"{subject.data.name} has no test part: use --split train, or hold one out with --val-fraction 0.1"
        )
    return sources


class _Rows:
    """A ``Storage`` for all parts: the rows of one array, given out one part after the other.

    Attributes:
        array: float32 [n, ...], once a part has asked for rows; in ``file``, mapped into memory, if there is one.
    """

    array: np.ndarray

    def __init__(self, n: int, file: Path | None) -> None:
        self.n, self.file, self._given = n, file, 0

    def __call__(self, n: int, shape: Sequence[int]) -> Tensor:
        if self._given == 0:
            self.array = self._allocated((self.n, *shape))
        self._given += n
        return torch.from_numpy(self.array[self._given - n : self._given])

    def _allocated(self, shape: tuple[int, ...]) -> np.ndarray:
        if self.file is not None:
            return open_memmap(self.file, mode="w+", dtype=np.float32, shape=shape)
        needed, free = 4 * int(np.prod(shape, dtype=np.int64)), available_memory()
        if needed > free:
            raise UserError(
                f"the features take {needed / 2**30:,.1f} GiB of memory, and {free / 2**30:,.1f} GiB are free: "
                "write them to an .npy file (--out features.npy), which needs none"
            )
        return np.empty(shape, np.float32)
