"""A gallery: the images of a data set that can be read, with their features."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from contrastkit.data import Source, UnreadableError
from contrastkit.errors import UserError
from contrastkit.evaluate.embedding import Embedding, Split, embed, only_encoder, sources_of
from contrastkit.evaluate.origin import Origin
from contrastkit.evaluate.subject import EvaluationSubject, OnProgress
from contrastkit.explore.nearest import BLOCK, UnitRows
from contrastkit.figures import CELL


@dataclass(frozen=True)
class Gallery:
    """Images and their features by one encoder. A row is a position among all images of the embedded parts.

    Attributes:
        subject: the encoder, and the data set.
        embedding: its features.
        sources: the embedded parts of the data set, in order.
    """

    subject: EvaluationSubject
    embedding: Embedding
    sources: tuple[Source, ...]

    @classmethod
    def open(
        cls,
        subject: EvaluationSubject,
        *,
        split: Split = "all",
        features: Path | None = None,
        on_progress: OnProgress | None = None,
    ) -> "Gallery":
        """The gallery of a subject's data set.

        Args:
            split: the part of it, if ``features`` is not given.
            features: a file of ``contrastkit embed`` (.npz or .npy), used instead of encoding the images again.

        Raises:
            UserError: sounds; no such part; a file that was made by another encoder, of other images or with
                ``--tokens``; or features that are not finite.
        """
        if not (modality := subject.data.train.modality).has_pixels:
            raise UserError(f"{subject.data.name} has {modality.plural}, which cannot be drawn: give images")
        if features is None:
            sources = sources_of(subject, split)
            embedding = embed(subject, split=split, on_progress=on_progress)
        else:
            embedding = Embedding.open(features)
            sources = _checked(embedding, features, subject)
        gallery = cls(subject, embedding, tuple(sources.values()))
        _require_finite(gallery)
        return gallery

    @property
    def data(self) -> str:
        return self.embedding.origin.data

    @property
    def encoder(self) -> str:
        return self.embedding.origin.encoder

    @property
    def notices(self) -> tuple[str, ...]:
        return self.embedding.notices

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """Those of the images that could be read, ascending."""
        return np.flatnonzero(self.embedding.readable)

    @property
    def unit(self) -> UnitRows:
        """The features of :attr:`rows`, normalised."""
        return UnitRows(self.embedding.features, self.rows)

    @cached_property
    def labels(self) -> NDArray[np.int64] | None:
        """Of :attr:`rows`, -1 where there is none; None if no image has one."""
        labels = self.embedding.labels[self.rows]
        return labels if (labels >= 0).any() else None

    def class_name(self, label: int) -> str:
        """ "" for -1."""
        classes = self.embedding.classes
        return "" if label < 0 else str(classes[label]) if len(classes) else str(label)

    def class_of(self, row: int) -> str:
        return self.class_name(int(self.embedding.labels[row]))

    def name(self, row: int) -> str:
        """The path of an image, or its part and its position there if it is no file."""
        part = str(self.embedding.split[row])
        return str(self.embedding.paths[row]) or f"{part}[{row - self._first[part]}]"

    @cached_property
    def _first(self) -> dict[str, int]:
        """The first row of each part."""
        parts, rows = np.unique(self.embedding.split, return_index=True)
        return dict(zip(parts.tolist(), rows.tolist(), strict=True))

    def image(self, row: int) -> Tensor:
        """The image itself, uint8 [C, H, W].

        Raises:
            UserError: it cannot be read any more.
        """
        first = 0
        for source in self.sources:
            if row < first + len(source):
                break
            first += len(source)
        return fetched(source, row - first)

    def pictures(self, rows: Sequence[int]) -> list[Tensor]:
        """Images as a sheet shows them, see :func:`shrunk`: a sheet has hundreds, which may be large.

        Raises:
            UserError: one cannot be read any more.
        """
        return [shrunk(self.image(row)) for row in rows]


def fetched(source: Source, position: int) -> Tensor:
    """One image, uint8 [C, H, W], or sound.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return source.fetch(torch.tensor([position]))[0]
    except UnreadableError as error:
        raise UserError(f"{error.path} cannot be read: {error.reason}") from error


def shrunk(image: Tensor) -> Tensor:
    """uint8 [C, H, W], whose longer side is at most that of a sheet's largest cell."""
    height, width = image.shape[1:]
    if (longer := max(height, width)) <= CELL:
        return image
    size = [max(1, round(side * CELL / longer)) for side in (height, width)]
    return F.interpolate(image[None], size, mode="bilinear", antialias=True)[0]


def _checked(embedding: Embedding, file: Path, subject: EvaluationSubject) -> dict[str, Source]:
    """The parts of the subject's data set of which an embedding has the features.

    Raises:
        UserError: see :meth:`Gallery.open`.
    """
    if embedding.features.ndim != 2:
        raise UserError(f"{file} has several vectors an image (--tokens): give one of 'contrastkit embed' without")
    parts = sources_of(subject, "all")
    if lacking := [part for part in embedding.origin.parts if part not in parts]:
        raise UserError(f"{file} has features of a {lacking[0]} part, which {subject.data.name} lacks")
    sources = {part: parts[part] for part in embedding.origin.parts}
    embedding.origin.require(Origin.of(subject, only_encoder(subject), sources), sources, file)
    if (n := sum(map(len, sources.values()))) != len(embedding.features):
        raise UserError(f"{file} is damaged: it has {len(embedding.features):,} rows for {n:,} images")
    return sources


def _require_finite(gallery: Gallery) -> None:
    features, rows = gallery.embedding.features, gallery.rows
    step = max(1, BLOCK // features.shape[1])
    bad = sum(int((~np.isfinite(features[rows[n : n + step]]).all(1)).sum()) for n in range(0, len(rows), step))
    if bad:
        raise UserError(
            f"{gallery.encoder} gives {bad:,} of {len(rows):,} images features that are not finite: did its training "
            "diverge?"
        )
