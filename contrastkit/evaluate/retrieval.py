"""Retrieval: ranking images by one view or modality, given another one of the same image."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastkit.errors import UserError
from contrastkit.evaluate.subject import EvaluationSubject, OnProgress
from contrastkit.loading import load_method
from contrastkit.parts.build import set_image_size
from contrastkit.parts.encoder import SplitEncoder

SIMILARITIES = 2**23  # in memory at once: 64 MiB


@dataclass(frozen=True, slots=True)
class Retrieval:
    """How often queries retrieve their partners among n keys; shares in [0, 1]."""

    recall: dict[int, float]  # k -> share of the queries whose partner is among the k nearest keys
    median_rank: float  # of the partner, from 1
    n: int

    def chance(self, k: int) -> float:
        """The recall of guessing."""
        return min(1.0, k / self.n)


@dataclass(frozen=True, slots=True)
class RetrievalReport:
    """Result of :func:`retrieve`."""

    data: str  # name of the data set
    size: int  # side in pixels of the images
    retrieval: dict[str, Retrieval]  # "query -> key", by the names of the views
    notices: tuple[str, ...] = ()  # what a reader of the numbers should know, one line each

    def as_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "notices"}


@torch.no_grad()
def retrieve(
    subject: EvaluationSubject, *, method: str | None = None, on_progress: OnProgress | None = None
) -> RetrievalReport:
    """Retrieve every test image by each of its views from another view of all test images, with a run of cmc.

    Args:
        method: ``path/to/file.py:NAME``, for a run of a method defined in a file; the file is executed.

    Raises:
        UserError: the subject is not a run, the run has one encoder for all views or was trained with a method's file
            that is not given, or there is no test part.
    """
    if subject.run is None:
        raise UserError("retrieval needs a run of cmc: open the subject from a run folder")
    name, test = str(subject.run), subject.data.test
    encoder = subject.encoders[name]
    if not isinstance(encoder, SplitEncoder):
        raise UserError(f"{name} has one encoder for all views: retrieval needs a run of cmc")
    if test is None:
        raise UserError(f"{subject.data.name} has no test part: hold one out with --val-fraction 0.1")
    online = load_method(subject.run, method=method).online  # encoder and head as they were trained together
    set_image_size(online.encoder, subject.size)
    (features,) = replace(subject, encoders={name: online.encoder}).features(name, test, on_progress=on_progress)
    z = online.head(features.read().x).chunk(len(encoder.views), dim=1)
    outputs = dict(zip(test.modalities or encoder.views, z, strict=True))
    retrieval = {
        f"{query} -> {key}": recall_at_k(outputs[query], outputs[key])
        for query in outputs
        for key in outputs
        if query != key
    }
    return RetrievalReport(subject.data.name, subject.size, retrieval, subject.left_out)


@torch.no_grad()
def recall_at_k(queries: Tensor, keys: Tensor, *, ks: tuple[int, ...] = (1, 5, 10)) -> Retrieval:
    """Rank all keys [n, C] for each query [n, C] by cosine similarity; the i-th key is the i-th query's partner.

    Keys as near as the partner rank before it, so an encoder that maps everything to one point retrieves nothing.

    Raises:
        UserError: fewer than two pairs.
    """
    n = len(queries)
    if n < 2:
        raise UserError("retrieval needs at least two pairs")
    q, k = F.normalize(queries.double(), dim=1), F.normalize(keys.double(), dim=1)
    ranks = []
    for rows in torch.arange(n).split(max(1, SIMILARITIES // n)):
        s = q[rows] @ k.T
        ranks.append((~(s < s[torch.arange(len(rows)), rows][:, None])).sum(1))  # a comparison with NaN is false
    rank = torch.cat(ranks)
    return Retrieval({k: (rank <= k).double().mean().item() for k in ks}, rank.double().quantile(0.5).item(), n)
