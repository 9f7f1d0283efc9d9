"""The numbers of :mod:`contrastkit.measure.formulas` for the encoders of a subject."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from contrastkit.data import Source
from contrastkit.errors import UserError
from contrastkit.evaluate.embedding import Split, sources_of
from contrastkit.evaluate.features import Features
from contrastkit.evaluate.subject import EvaluationSubject, OnProgress
from contrastkit.explore.clustering import agreement_with, k_means
from contrastkit.explore.nearest import UnitRows
from contrastkit.measure.formulas import FEWEST, FIRST, alignment, alpha_req, lidar, rankme, uniformity
from contrastkit.measure.views import Pair, view_features
from contrastkit.rng import permutation
from contrastkit.types import Modality

VIEWED = 1000  # images of which views are encoded, at most


@dataclass(frozen=True, slots=True)
class Numbers:
    """Of one encoder; NaN where a number is not defined."""

    dimensions: int  # D, of a feature
    rankme: float  # 1 to min(N, D)
    lidar: float  # 1 to min(n - 1, D), n images under views
    alpha: float  # of alpha-ReQ
    alpha_r2: float  # of the fit, at most 1
    uniformity: float  # -8 to 0
    alignment: float  # 0 to 4
    nmi: float  # of k-means with the labels, 0 to 1
    nmi_chance: float  # its mean over random clusters of the same sizes
    ari: float  # likewise, at most 1, 0 for chance


@dataclass(frozen=True, slots=True)
class Drawn:
    """The images that are measured."""

    subject: EvaluationSubject  # whose part has nothing but these images
    source: Source  # the whole part
    rows: Tensor  # int64 [N], their positions in it, ascending
    images: Source  # those at ``rows``

    def readable(self) -> Tensor:
        """The rows of the images that can be read, once they have been encoded."""
        kept = torch.ones(len(self.rows), dtype=torch.bool)
        kept[list(self.images.unreadable)] = False
        return self.rows[kept]


def draw(subject: EvaluationSubject, split: Split, images: int, seed: int) -> Drawn:
    """At most that many images of a part, drawn by the seed.

    Raises:
        UserError: no such part.
    """
    if split not in ("train", "test"):
        raise UserError(f"--split must be train or test, not {split}")
    (source,) = sources_of(subject, split).values()
    rows = permutation(seed, 0, len(source))[:images].sort()[0]
    part = source.subset(rows)
    data = replace(subject.data, train=part) if split == "train" else replace(subject.data, test=part)
    return Drawn(replace(subject, data=data), source, rows, part)


def numbers(
    drawn: Drawn, pair: Pair, whose: str, *, q: int, seed: int, on_progress: OnProgress | None = None
) -> tuple[dict[str, Numbers], list[str]]:
    """The numbers of each encoder, and what a reader of them should know, one line each.

    Args:
        pair, whose: see :func:`contrastkit.measure.views.positive_pair`.
        q: views of an image.

    Raises:
        UserError: see :func:`contrastkit.measure.measure`.
    """
    subject, found = drawn.subject, dict[str, Numbers]()
    what = drawn.source.modality
    notices: list[str] = []
    for name, encoder in subject.encoders.items():
        (features,) = subject.features(name, drawn.images, on_progress=on_progress)
        features, rows, of_views = features.read(), drawn.readable(), None
        if len(rows) < 2:
            raise UserError(f"measure needs at least two readable {what.plural}: {subject.data.name} has {len(rows)}")
        _require_finite(name, features.x, what)
        if encoder is not None:
            viewed = rows[permutation(seed, 0, len(rows))[:VIEWED].sort()[0]]
            of_views = view_features(
                subject, encoder, name, drawn.source, viewed, pair, q=q, seed=seed, on_progress=on_progress
            )
            _require_finite(name, of_views, what)
        if on_progress is not None:
            on_progress(f"rank, spread and clusters: {name}", 0, None)
        found[name] = _numbers(features, of_views, seed)
        notices += _of_encoder(name, found[name], len(rows), of_views, what)
    return found, [
        *subject.left_out,
        *_of_views(pair, whose, q, min(len(rows), VIEWED), what),
        *notices,
        *_of_labels(features, what),
    ]


def _numbers(features: Features, views: Tensor | None, seed: int) -> Numbers:
    law = alpha_req(features.x)
    y = features.y.numpy()
    agreement = None
    if (k := len(np.unique(y[y >= 0]))) > 1:
        unit = UnitRows(features.x.numpy(), np.arange(len(y)))
        agreement = agreement_with(y, k_means(unit, k, seed=seed)[0])
    return Numbers(
        dimensions=features.x.shape[1],
        rankme=rankme(features.x),
        lidar=math.nan if views is None else lidar(views),
        alpha=law.alpha,
        alpha_r2=law.r2,
        uniformity=uniformity(features.x),
        alignment=math.nan if views is None else alignment(views),
        nmi=math.nan if agreement is None else agreement.nmi,
        nmi_chance=math.nan if agreement is None else agreement.nmi_chance,
        ari=math.nan if agreement is None else agreement.ari,
    )


def _of_encoder(name: str, own: Numbers, n: int, views: Tensor | None, what: Modality) -> list[str]:
    """What bounds the numbers of an encoder."""
    D, lines = own.dimensions, []
    if n < D:
        lines.append(
            f"{name}: {n:,} {what.plural}, fewer than the {D:,} dimensions, bound RankMe to {n:,}: compare it at equal "
            "--images, or raise them"
        )
    if views is None:
        lines.append(f"{name}: no LiDAR and no alignment, which an encoder of views has")
    elif len(views) - 1 < D:
        lines.append(f"{name}: LiDAR is at most {len(views) - 1:,}, the number of {what.plural} under views less one")
    if math.isnan(own.rankme):
        lines.append(f"{name}: all features are 0: no RankMe")
    if math.isnan(own.alpha):
        lines.append(
            f"{name}: no alpha-ReQ: its line needs {FEWEST} eigenvalues from the {FIRST}th on, and the features vary "
            "along fewer directions"
        )
    return lines


def _of_views(pair: Pair, whose: str, q: int, n: int, what: Modality) -> list[str]:
    return [f"LiDAR and alignment: {q} views of {n:,} {what.plural}, {whose}, of {pair[0].size:,} {what.unit}"]


def _of_labels(features: Features, what: Modality) -> list[str]:
    """Why there is no NMI and ARI."""
    classes = features.y[features.y >= 0].unique()
    if len(classes) > 1:
        return []
    return [f"no NMI and ARI: {'all labels are the same' if len(classes) else f'the {what.plural} have no labels'}"]


def _require_finite(name: str, x: Tensor, what: Modality) -> None:
    bad = int((~x.isfinite().flatten(1).all(1)).sum())
    if bad:
        raise UserError(
            f"{name} gives {bad:,} of {len(x):,} {what.plural} features that are not finite: did its training diverge?"
        )
