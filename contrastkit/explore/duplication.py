"""Duplicates: pairs of images with similar features, grouped, and told apart by their pixels."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from contrastkit.bounds import COSINE
from contrastkit.errors import UserError
from contrastkit.evaluate.subject import OnProgress
from contrastkit.explore.approximate import EXACT, indexed_candidates
from contrastkit.explore.columns import write_columns
from contrastkit.explore.copies import CORRELATION, SIDE, Kind, kinds
from contrastkit.explore.gallery import Gallery
from contrastkit.explore.nearest import every_candidate, pairs_above
from contrastkit.figures import Cell, sheet

SHOWN, ACROSS = 20, 8  # groups on a sheet, and images of each


@dataclass(frozen=True, slots=True)
class Pair:
    """Two similar images, by their rows, a < b."""

    a: int
    b: int
    similarity: float  # cosine of their features
    kind: Kind


@dataclass(frozen=True)
class Group:
    """Images that are connected by pairs: two of them need not be a pair themselves."""

    rows: tuple[int, ...]  # ascending
    pairs: tuple[Pair, ...]

    @property
    def kinds(self) -> Counter[Kind]:
        return Counter(pair.kind for pair in self.pairs)

    @property
    def surest(self) -> int:
        """The place in :class:`Kind` of the first that one of its pairs has."""
        return min(list(Kind).index(kind) for kind in self.kinds)


@dataclass(frozen=True)
class DuplicatesReport:
    """Result of :func:`duplicates`.

    Attributes:
        groups: the connected components of the pairs, see :func:`grouped`.
        exact: whether all pairs were compared; an index may have missed some.
    """

    data: str  # name of the data set
    encoder: str
    images: int
    threshold: float
    groups: tuple[Group, ...]
    names: dict[int, str]  # row -> image, of those in a group
    splits: dict[int, str]  # row -> part of the data set
    exact: bool
    notices: tuple[str, ...] = ()

    @property
    def pairs(self) -> tuple[Pair, ...]:
        return tuple(pair for group in self.groups for pair in group.pairs)

    @property
    def counts(self) -> Counter[Kind]:
        return Counter(pair.kind for pair in self.pairs)

    @property
    def crossing(self) -> Counter[Kind]:
        """Pairs of an image of the training part and one of the test part."""
        return Counter(pair.kind for pair in self.pairs if self.splits[pair.a] != self.splits[pair.b])

    def as_json(self, most: int | None = None) -> dict[str, Any]:
        """
        Args:
            most: number of pairs that are listed, the first ones, with the groups that have them; None: all.
        """
        left = len(self.pairs) if most is None else most
        groups: list[dict[str, Any]] = []
        for each in self.groups:
            if not (listed := each.pairs[:left]):
                break
            images = [{"image": self.names[row], "split": self.splits[row], "row": row} for row in each.rows]
            pairs = [{"rows": [p.a, p.b], "cosine": p.similarity, "kind": str(p.kind)} for p in listed]
            groups.append({"images": images, "pairs": pairs})
            left -= len(listed)

        def counts(of: Counter[Kind]) -> dict[str, int]:
            return {str(kind): of[kind] for kind in Kind}

        return {
            "data": self.data,
            "encoder": self.encoder,
            "images": self.images,
            "threshold": self.threshold,
            "exact": self.exact,
            "pairs": counts(self.counts),
            "crossing": counts(self.crossing),
            "pairs_left_out": 0 if most is None else max(0, len(self.pairs) - most),
            "groups": groups,
        }


def duplicates(gallery: Gallery, threshold: float = 0.95, *, on_progress: OnProgress | None = None) -> DuplicatesReport:
    """All pairs of images whose features have a cosine of at least ``threshold``, and the groups that they connect.

    Each pair is compared by its pixels, too (:class:`Kind`): features alone cannot tell a copy from another picture of
    the same thing. All pairs are compared up to a million images (:data:`EXACT`); above, an index of faiss finds them,
    which may miss some.

    Raises:
        UserError: a threshold outside [-1, 1], fewer than two images, too many pairs, or no faiss for more than a
            million images.
    """
    COSINE.check("--threshold", threshold)
    n = len(gallery.rows)
    if n < 2:
        raise UserError(f"duplicates need at least two readable images: {gallery.data} has {n}")

    def count(rows: int) -> None:
        if on_progress is not None:
            on_progress(f"comparing {n:,} images", rows, n)

    exact = n <= EXACT
    candidates = every_candidate if exact else indexed_candidates
    found = pairs_above(gallery.unit, threshold, candidates=candidates, on_rows=count)
    i, j = gallery.rows[found.i], gallery.rows[found.j]
    kind = kinds(gallery, i, j, on_progress) if len(i) else []
    pairs = [Pair(*pair) for pair in zip(i.tolist(), j.tolist(), found.similarity.tolist(), kind, strict=True)]
    groups = grouped(pairs)
    rows = [row for group in groups for row in group.rows]
    return DuplicatesReport(
        data=gallery.data,
        encoder=gallery.encoder,
        images=n,
        threshold=threshold,
        groups=groups,
        names={row: gallery.name(row) for row in rows},
        splits={row: str(gallery.embedding.split[row]) for row in rows},
        exact=exact,
        notices=gallery.notices,
    )


def grouped(pairs: Sequence[Pair]) -> tuple[Group, ...]:
    """The connected components of the graph whose edges are the pairs: first those with a pair of the surest kind; of
    those alike, the one with the most similar pair."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not pairs:
        return ()
    rows, ends = np.unique([(pair.a, pair.b) for pair in pairs], return_inverse=True)
    a, b = ends.reshape(-1, 2).T
    _, component = connected_components(coo_array((np.ones(len(a)), (a, b)), (len(rows), len(rows))), directed=False)
    members: dict[int, list[int]] = {}
    edges: dict[int, list[Pair]] = {}
    for row, c in zip(rows.tolist(), component.tolist(), strict=True):
        members.setdefault(c, []).append(row)
    for pair, c in zip(pairs, component[a].tolist(), strict=True):
        edges.setdefault(c, []).append(pair)
    groups = [Group(tuple(members[c]), tuple(edges[c])) for c in members]
    return tuple(sorted(groups, key=lambda group: (group.surest, -max(p.similarity for p in group.pairs), group.rows)))


def write_pairs(report: DuplicatesReport, path: Path) -> None:
    """A .csv with a row for each pair: group (from 1), image_a, split_a, image_b, split_b, cosine, kind."""

    pairs = [(number, pair) for number, group in enumerate(report.groups, start=1) for pair in group.pairs]
    columns: dict[str, Iterable[object]] = {
        "group": [number for number, _ in pairs],
        "image_a": [report.names[pair.a] for _, pair in pairs],
        "split_a": [report.splits[pair.a] for _, pair in pairs],
        "image_b": [report.names[pair.b] for _, pair in pairs],
        "split_b": [report.splits[pair.b] for _, pair in pairs],
        "cosine": [f"{pair.similarity:.6f}" for _, pair in pairs],
        "kind": [str(pair.kind) for _, pair in pairs],
    }
    write_columns(path, columns)


def draw_duplicates(report: DuplicatesReport, gallery: Gallery, path: Path) -> None:
    """A sheet with a row for each of the first twenty groups, of up to eight images."""
    rows, heads = [], []
    for number, group in enumerate(report.groups[:SHOWN], start=1):
        shown = group.rows[:ACROSS]
        first = {pair.b: pair for pair in group.pairs if pair.a == group.rows[0]}
        cells = []
        for row, image in zip(shown, gallery.pictures(shown), strict=True):
            pair = first.get(row)
            said = "" if pair is None else f"{pair.kind} {pair.similarity:.3f}"
            cells.append(Cell(image, "\n".join(filter(None, [os.path.basename(report.names[row]), said]))))
        rows.append(cells)
        more = len(group.rows) - len(shown)
        heads.append(f"group {number}\n{len(group.rows)} images" + (f"\n{more} not shown" if more else ""))
    left_out = len(report.groups) - len(rows)
    sheet(
        path,
        rows,
        heads=heads,
        title=f"{report.data}: {len(report.groups):,} groups of images with a cosine of {report.threshold:g} or more",
        note=f"below: the kind of pair with the first image of the row, and the cosine of their features by "
        f"{report.encoder}; copies and mirrored copies: pixels at {SIDE} px correlate by {CORRELATION:g} or more"
        + (f"; {left_out:,} more groups are not shown" if left_out else ""),
    )
