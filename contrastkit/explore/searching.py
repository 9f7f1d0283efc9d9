"""Search: the images of a gallery that are most similar to a query image."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from contrastkit.bounds import COUNT
from contrastkit.data import AlignedSource, FileSource
from contrastkit.data.encoded import AS_THEY_ARE, EncodedSource
from contrastkit.data.pixels import image_suffixes
from contrastkit.data.walk import walk
from contrastkit.directories import given_path, require_file
from contrastkit.errors import UserError
from contrastkit.evaluate.embedding import only_encoder
from contrastkit.evaluate.subject import OnProgress
from contrastkit.explore.gallery import Gallery, fetched, shrunk
from contrastkit.explore.nearest import nearest
from contrastkit.figures import Cell, sheet

K = 10
SHOWN = 20  # queries on a sheet


@dataclass(frozen=True, slots=True)
class Match:
    """An image of the gallery."""

    row: int
    name: str
    label: str  # its class; "" for none
    similarity: float  # cosine to the query, in [-1, 1]


@dataclass(frozen=True)
class SearchReport:
    """Result of :func:`search`."""

    data: str  # name of the data set
    encoder: str
    images: int
    matches: dict[str, tuple[Match, ...]]  # file of the query -> the nearest images, nearest first
    pictures: tuple[Tensor, ...]  # the first twenty queries, uint8 [C, H, W] each, shrunk to what a sheet shows
    notices: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        matches = {query: [_json(match) for match in found] for query, found in self.matches.items()}
        return {"data": self.data, "encoder": self.encoder, "images": self.images, "matches": matches}


def _json(match: Match) -> dict[str, Any]:
    return {"image": match.name, "row": match.row, "class": match.label, "cosine": match.similarity}


def search(
    gallery: Gallery, queries: Sequence[str | Path], *, k: int | None = None, on_progress: OnProgress | None = None
) -> SearchReport:
    """The k images of a gallery nearest to each query by the cosine similarity of their features; of those equally
    near, the first ones in the gallery. A query that is in the gallery finds itself.

    The gallery is scanned once, whatever its size: for a few queries, to build an index would take longer.

    Args:
        queries: image files, or folders of them.
        k: None is 10, or all images if there are fewer.

    Raises:
        UserError: no queries, one that cannot be read, or k above the number of images.
    """
    n = len(gallery.rows)
    k = min(K, n) if k is None else k
    COUNT.check("--k", k, whole=True)
    if k > n:
        raise UserError(f"--k {k} is above {n:,}, the number of readable images of {gallery.data}")
    source = _queries(queries, gallery)
    pictures = []
    for i in range(len(source)):  # all are read before anything is encoded; queries may be too many to keep
        picture = fetched(source, i)
        if i < SHOWN:
            pictures.append(shrunk(picture))
    (features,) = gallery.subject.features(only_encoder(gallery.subject), source)  # a file may name it otherwise
    unit = F.normalize(features.x.double(), dim=1)

    def count(rows: int) -> None:
        if on_progress is not None:
            on_progress(f"comparing with {n:,} images", rows, n)

    found = nearest(unit, gallery.unit, k, on_rows=count)
    matches = {}
    for query, near, similarity in zip(source.paths, found.position, found.similarity, strict=True):
        rows = gallery.rows[near].tolist()
        matches[query] = tuple(
            Match(row, gallery.name(row), gallery.class_of(row), s)
            for row, s in zip(rows, similarity.tolist(), strict=True)
        )
    return SearchReport(gallery.data, gallery.encoder, n, matches, tuple(pictures), gallery.notices)


def _queries(given: Sequence[str | Path], gallery: Gallery) -> FileSource:
    """The files as a source whose images are read as those of the gallery are."""
    paths: list[str] = []
    for path in map(given_path, given):
        if path.is_dir():
            inside = walk(path, image_suffixes()).paths
            if not inside:
                raise UserError(f"no images in the folder {path} to search for")
            paths += [os.path.join(path, name) for name in inside]
        else:
            require_file(path)
            paths.append(str(path))
    if not paths:
        raise UserError("nothing to search for: give an image with --query")
    train = gallery.sources[0]
    if isinstance(train, AlignedSource) or train.channels not in (1, 3):
        raise UserError(f"{gallery.data} has images of {train.channels} channels, of which an image file is no query")
    reading = train.reading if isinstance(train, EncodedSource) else AS_THEY_ARE
    return FileSource("the queries", list(dict.fromkeys(paths)), root=Path(), like=train, reading=reading)


def draw_search(report: SearchReport, gallery: Gallery, path: Path) -> None:
    """A sheet with a row for each query, of the first twenty: the query, then its nearest images."""
    rows = []
    for (query, found), picture in zip(report.matches.items(), report.pictures, strict=False):
        cells = [Cell(picture, os.path.basename(query))]
        for match, image in zip(found[:K], gallery.pictures([match.row for match in found[:K]]), strict=True):
            cells.append(Cell(image, "\n".join(filter(None, [f"{match.similarity:.4f}", match.label]))))
        rows.append(cells)
    across = max(map(len, rows)) - 1
    left_out = f"; the first {SHOWN} of {len(report.matches)} queries" if len(report.matches) > SHOWN else ""
    sheet(
        path,
        rows,
        title=f"{report.data}: nearest of {report.images:,} images",
        columns=["query", *(f"{rank}" for rank in range(1, across + 1))],
        note=f"below: cosine similarity of the features by {report.encoder}, and class{left_out}",
    )
