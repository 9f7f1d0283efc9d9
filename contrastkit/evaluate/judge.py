"""Both verdicts on one encoder, from features encoded once."""

from dataclasses import dataclass

import torch

from contrastkit.data import DataSet, Source
from contrastkit.errors import UserError
from contrastkit.evaluate.accuracy import Accuracy
from contrastkit.evaluate.features import encode, raw_pixels
from contrastkit.evaluate.knn import knn
from contrastkit.evaluate.probe import Probe, linear_probe
from contrastkit.parts.encoder import Encoder
from contrastkit.types import Modality


@dataclass(frozen=True, slots=True)
class Verdict:
    """What :func:`judge` found."""

    knn: Accuracy  # k = 20, T = 0.1
    linear: Probe


def parts(data: DataSet) -> tuple[Source, Source]:
    """The part that teaches and the part that asks.

    Raises:
        UserError: no labels, or no test part.
    """
    train, test = data.train, data.test
    if train.labels is None:
        raise UserError(f"{data.name} has no labels to judge by: put the images in one folder a class")
    if test is None:
        raise UserError(f"{data.name} has no test part: hold one out with --val-fraction 0.1")
    if test.labels is None:
        raise UserError(f"the test part of {data.name} has no labels to judge by")
    return train, test


def judge(
    encoder: Encoder | None, data: DataSet, *, size: int, workers: int = 0, device: str | torch.device = "cpu"
) -> Verdict:
    """kNN and the linear probe of an encoder, None for raw pixels: taught by ``data.train``, asked about ``data.test``.

    Args:
        size: side of the images that the encoder sees, in pixels.

    Raises:
        UserError: no labels, or no test part.
    """
    if encoder is None and data.train.modality is Modality.SOUND:
        raise UserError(f"{data.name} holds sounds, which have no pixels")
    if encoder is None:
        train, test = (raw_pixels(source, size=size, workers=workers) for source in parts(data))
    else:
        train, test = (encode(encoder, source, size=size, workers=workers, device=device) for source in parts(data))
    n_classes = 1 + int(max(train.y.max(), test.y.max()))
    return Verdict(
        knn(train, test, n_classes=n_classes, device=device),
        linear_probe(train, test, n_classes=n_classes, device=device),
    )
