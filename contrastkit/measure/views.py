"""Random views of images, as a training draws them, and their features."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from contrastkit import schema
from contrastkit.augment import VIEWS, View, Window, named_views
from contrastkit.data import Source
from contrastkit.data.making import Making
from contrastkit.data.workers import Workers
from contrastkit.errors import UserError
from contrastkit.evaluate.subject import EvaluationSubject, OnProgress
from contrastkit.ops.augment_colour import luma
from contrastkit.parts.build import SMALL
from contrastkit.parts.encoder import Encoder
from contrastkit.parts.mode import evaluating
from contrastkit.run import RECIPE, Run
from contrastkit.types import Modality

Pair = tuple[View | Window, View | Window]


def positive_pair(subject: EvaluationSubject, name: str | None) -> tuple[Pair, str]:
    """The augmentations of two views that a training would call alike, in the subject's size, and whose they are.

    Args:
        name: a row of :data:`VIEWS`; None is the run's own, of which the first two count (the large crops of SwAV and
            DINO), and without a run SimCLR's.

    Raises:
        UserError: no such row, or a row for sounds.
    """
    modality, size = subject.data.train.modality, subject.size
    views: Sequence[View | Window]
    if name is not None:
        if not modality.has_pixels:
            raise UserError(f"--views names augmentations of images, but {subject.data.name} has {modality.plural}")
        views, whose = named_views(name), f"{name}'s"
    elif subject.run is not None:
        views, whose = _recorded(subject, modality), "the run's own"
    elif modality.has_pixels:
        name = "simclr-cifar" if size <= SMALL else "simclr"
        views, whose = VIEWS[name], f"{name}'s"
    else:
        views, whose = [Window(size=size)], "random windows"
    first, second = (replace(view, size=size) for view in (views[0], views[min(1, len(views) - 1)]))
    return (first, second), whose


def _recorded(subject: EvaluationSubject, modality: Modality) -> list[View | Window]:
    assert subject.run is not None
    run = Run.open(subject.run)
    recorded = run.record.recipe.get("views")
    kind: type[Any] = View if modality.has_pixels else Window
    with schema.reading(run.path / RECIPE):
        if not isinstance(recorded, list) or not recorded:
            raise UserError("views: none")
        return [schema.instance(kind, view, "views") for view in recorded]


@torch.no_grad()
def view_features(
    subject: EvaluationSubject,
    encoder: nn.Module,
    name: str,
    source: Source,
    rows: Tensor,
    pair: Pair,
    *,
    q: int,
    seed: int,
    on_progress: OnProgress | None = None,
) -> Tensor:
    """Features of q views of each image: float32 [n, q, D]. The views alternate between the two of ``pair`` and are
    those that the images would have in the first epoch of a training with that seed and q views.

    Args:
        name: of the encoder, for ``on_progress``.
        rows: int64 [n], positions of readable images of the source.
        q: views of an image, at least 2.
    """
    encoder.to(subject.device)
    channels = encoder.channels if isinstance(encoder, Encoder) else source.channels
    views = [pair[v % 2] for v in range(q)]
    work = Making(source, views, seed)
    tasks = [(0, part) for part in rows.split(max(1, subject.batch // q))]
    found = []
    with evaluating(encoder), Workers(work, workers=subject.workers) as pool:
        for batch, _ in pool.map(tasks):
            images = _as_channels(torch.cat(list(batch.views)), channels)
            x = encoder(images.to(subject.device, memory_format=torch.channels_last)).float().cpu()
            found.append(torch.stack(x.split(len(batch.index)), 1))
            if on_progress is not None:
                what = f"encoding {q} views of {len(rows):,} {source.modality.plural}: {name}"
                on_progress(what, sum(map(len, found)), len(rows))
    return torch.cat(found)


def _as_channels(images: Tensor, channels: int) -> Tensor:
    """As :func:`contrastkit.augment.plain_view`: gray is repeated, RGB averaged to luma."""
    images = luma(images) if channels < images.shape[1] else images
    return images.expand(-1, channels, -1, -1)
