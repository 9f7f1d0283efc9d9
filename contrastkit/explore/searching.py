"""Search: the images of a gallery that are most similar to a query, an image or a text."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from contrastkit.bounds import COUNT
from contrastkit.data import AlignedSource, FileSource
from contrastkit.data.encoded import AS_THEY_ARE, EncodedSource
from contrastkit.data.pixels import image_suffixes
from contrastkit.data.walk import walk
from contrastkit.directories import local_path, require_file
from contrastkit.errors import UserError, listed
from contrastkit.evaluate.embedding import only_encoder
from contrastkit.evaluate.joint import has_texts, joint_encoder
from contrastkit.evaluate.subject import OnProgress
from contrastkit.explore.gallery import Gallery, fetched, shrunk
from contrastkit.explore.nearest import UnitRows, nearest
from contrastkit.figures import Cell, sheet
from contrastkit.parts.joint import ImageTextEncoder

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
    matches: dict[str, tuple[Match, ...]]  # file of the query, or text -> the nearest images, nearest first
    texts: tuple[str, ...]  # the queries that are texts, behind the files
    pictures: tuple[Tensor, ...]  # the first twenty files, uint8 [C, H, W] each, shrunk to what a sheet shows
    notices: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        matches = {query: [_json(match) for match in found] for query, found in self.matches.items()}
        head = {"data": self.data, "encoder": self.encoder, "images": self.images, "texts": list(self.texts)}
        return head | {"matches": matches}


def _json(match: Match) -> dict[str, Any]:
    return {"image": match.name, "row": match.row, "class": match.label, "cosine": match.similarity}


@torch.no_grad()
def search(
    gallery: Gallery, queries: Sequence[str | Path], *, k: int | None = None, on_progress: OnProgress | None = None
) -> SearchReport:
    """The k images of a gallery nearest to each query by the cosine similarity of their features; of those equally
    near, the first ones in the gallery. A query that is in the gallery finds itself.

    What is no file or folder is a text, if the gallery is that of a run of clip: it is compared with the images in the
    space of both. The gallery is scanned once, or once for files and once for texts, whatever its size: for a few
    queries, to build an index would take longer.

    Args:
        queries: image files, folders of them, or texts.
        k: None is 10, or all images if there are fewer.

    Raises:
        UserError: no queries, one that is not there or cannot be read, or k above the number of images.
    """
    n = len(gallery.rows)
    k = min(K, n) if k is None else k
    COUNT.check("--k", k, whole=True)
    if k > n:
        raise UserError(f"--k {k} is above {n:,}, the number of readable images of {gallery.data}")
    files, texts = _told_apart(queries, gallery)
    matches, pictures = dict[str, tuple[Match, ...]](), list[Tensor]()
    compared = partial(_nearest, gallery, k=k, on_progress=on_progress)
    if files:
        source = _source(files, gallery)
        for i in range(len(source)):  # all are read before anything is encoded; queries may be too many to keep
            picture = fetched(source, i)
            if i < SHOWN:
                pictures.append(shrunk(picture))
        (features,) = gallery.subject.features(only_encoder(gallery.subject), source)  # a file may name it otherwise
        matches |= compared(source.paths, features.x, gallery.unit)
    if texts:
        joint = joint_encoder(gallery.subject, "search for a text")
        bank = _Projected(gallery.embedding.features, gallery.rows, joint, gallery.subject.device)
        matches |= compared(texts, joint.text(texts).cpu(), bank)
    said = [f"no file is called {listed([repr(text) for text in texts], 3)}: searching for a text"] if texts else []
    notices = (*said, *gallery.notices)
    return SearchReport(gallery.data, gallery.encoder, n, matches, tuple(texts), tuple(pictures), notices)


@dataclass(frozen=True)
class _Projected(UnitRows):
    """The features of a gallery in the space of texts, projected when they are read."""

    joint: ImageTextEncoder
    device: str | torch.device

    def unit(self, positions: NDArray[np.int64] | slice) -> Tensor:
        x = torch.from_numpy(self.features[self.rows[positions]]).to(self.device)
        return F.normalize(self.joint.project(x).cpu().double(), dim=1)


def _nearest(
    gallery: Gallery, names: Sequence[str], x: Tensor, bank: UnitRows, *, k: int, on_progress: OnProgress | None
) -> dict[str, tuple[Match, ...]]:
    """The images nearest to each query of these names and features [M, D]."""

    def count(rows: int) -> None:
        if on_progress is not None:
            on_progress(f"comparing with {len(bank):,} images", rows, len(bank))

    found = nearest(F.normalize(x.double(), dim=1), bank, k, on_rows=count)
    matches = {}
    for query, near, similarity in zip(names, found.position, found.similarity, strict=True):
        rows = gallery.rows[near].tolist()
        matches[query] = tuple(
            Match(row, gallery.name(row), gallery.class_of(row), s)
            for row, s in zip(rows, similarity.tolist(), strict=True)
        )
    return matches


def _told_apart(given: Sequence[str | Path], gallery: Gallery) -> tuple[list[str], list[str]]:
    """The image files and the texts, each once.

    Raises:
        UserError: there are none, or one that is no file while the gallery knows no texts.
    """
    files, texts = list[str](), list[str]()
    for query in given:
        path = local_path(query)
        if os.path.isdir(path):  # unlike Path's, False for a text too long for a name
            inside = walk(path, image_suffixes()).paths
            if not inside:
                raise UserError(f"no images in the folder {path} to search for")
            files += [os.path.join(path, name) for name in inside]
        elif os.path.lexists(path) or not has_texts(gallery.subject):
            require_file(path, "; texts are searched for with a run of clip")
            files.append(str(path))
        elif not str(query).strip():
            raise UserError("a query is blank: give an image or a text")
        else:
            texts.append(str(query))
    if not files and not texts:
        raise UserError("nothing to search for: give an image or a text with --query")
    return list(dict.fromkeys(files)), list(dict.fromkeys(texts))


def _source(files: Sequence[str], gallery: Gallery) -> FileSource:
    """The files as a source whose images are read as those of the gallery are."""
    train = gallery.sources[0]
    if isinstance(train, AlignedSource) or train.channels not in (1, 3):
        raise UserError(f"{gallery.data} has images of {train.channels} channels, of which an image file is no query")
    reading = train.reading if isinstance(train, EncodedSource) else AS_THEY_ARE
    return FileSource("the queries", files, root=Path(), like=train, reading=reading)


def draw_search(report: SearchReport, gallery: Gallery, path: Path) -> None:
    """A sheet with a row for each query, of the first twenty: the query, then its nearest images."""
    rows, pictures = [], iter(report.pictures)
    for query, found in list(report.matches.items())[:SHOWN]:
        cells = [Cell(None, query) if query in report.texts else Cell(next(pictures), os.path.basename(query))]
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
