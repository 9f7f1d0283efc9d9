"""Weights of training images from a file, as ``contrastkit stable reweight`` writes it."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from contrastkit.data import Source
from contrastkit.directories import given_path
from contrastkit.errors import UserError
from contrastkit.evaluate.identity import image_ids
from contrastkit.evaluate.subject import EvaluationSubject
from contrastkit.tables.checks import as_weights, effective_sample_size
from contrastkit.tables.files import read_table
from contrastkit.tables.identity import RowIds, read_weights

WEIGHTED = 0.95  # of the images: with a larger effective sample, the weights hardly change anything
FEW = 0.1  # with a smaller one, what they cost is likely more than what they give


@dataclass(frozen=True, slots=True)
class ImageWeights:
    """The weights of the labelled training images, of mean 1."""

    file: str
    images: int
    effective: float  # sample size, (sum w)^2 / sum w^2
    least: float
    most: float

    @property
    def notice(self) -> str:
        share, remark = self.effective / self.images, ""
        if share >= WEIGHTED:
            remark = ": they hardly change anything"
        elif share < FEW:
            remark = f", {share:.0%} of them: most hardly count, so compare with the same without --weights"
        return (
            f"{self.images:,} training images weighted by {self.file}, from {self.least:.3g} to {self.most:.3g}, mean "
            f"1; effective sample size {self.effective:,.1f}{remark}"
        )


def weighted(
    subject: EvaluationSubject, file: str | Path | None
) -> tuple[EvaluationSubject, ImageWeights | None, tuple[str, ...]]:
    """The subject with the weights of a file on its training images; what they are, and what a reader should know.
    Without a file, the subject as it is.

    Rows are matched to images by the file's column ``image_id``, as ``stable reweight`` has it from the .npz of
    ``embed``, by ``path``, within the training part, or by ``row``, the position in that part from 0.

    Raises:
        UserError: no such file or column, no weight for every training image or more than these, weights that are
            negative or no numbers, or that are all 0.
    """
    if file is None:
        return subject, None, ()
    path, (train, _) = given_path(file), subject.labelled_parts()
    frame = read_table(path)
    rows = _rows(path, frame, train)
    if len(frame) != len(train):
        raise UserError(
            f"{path} has {len(frame):,} weights, but {train.name} has {len(train):,} training images: reweight these "
            "alone (--rows split=train), of the same split"
        )
    given, remark = read_weights(path, len(train), rows)
    assert train.labels is not None
    labelled = train.labels.numpy() >= 0
    w = as_weights(given, len(train))
    w[labelled] = own = as_weights(w[labelled], int(labelled.sum()))
    used = copy.copy(train)
    used.weights = torch.from_numpy(w).float()
    found = ImageWeights(str(file), len(own), effective_sample_size(own), float(own.min()), float(own.max()))
    lines = (found.notice, *([remark] if remark else []))
    return replace(subject, data=replace(subject.data, train=used)), found, lines


def _rows(path: Path, frame: Any, train: Source) -> RowIds:
    """The identifiers of the training images, by the column that the file has."""
    positions = np.arange(len(train))
    known: dict[str, Callable[[], NDArray[Any]]] = {
        "image_id": lambda: image_ids(train),
        "row": lambda: positions.astype(str).astype(object),
    }
    if train.paths:
        known["path"] = known["image_id"]
    name = next((name for name in ("image_id", "path", "row") if name in known and name in frame), None)
    if name is None:
        raise UserError(
            f"{path} does not say whose weights these are: it needs a column image_id, as 'stable reweight' writes it "
            "for the .npz file of 'embed', path, or row, the position among the training images from 0"
        )
    return RowIds(name, known[name](), positions)
