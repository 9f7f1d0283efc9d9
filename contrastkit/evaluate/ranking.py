"""Ranks of the right answers among all keys, and recall; images and captions by each other."""

from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastkit.data.captions import Captions
from contrastkit.errors import UserError
from contrastkit.intervals import wilson

SIMILARITIES = 2**23  # in memory at once: 64 MiB
DECIMALS = 9  # of a similarity: keys that differ by less are equally near, as equal ones may by rounding
KS = (1, 5, 10)


@dataclass(frozen=True, slots=True)
class Retrieval:
    """How often queries retrieve a right answer among n keys; shares in [0, 1]."""

    recall: dict[int, float]  # k -> share of the queries with a right answer among the k nearest keys
    interval: dict[int, tuple[float, float]]  # k -> its 95 % interval
    chance: dict[int, float]  # k -> the recall of guessing
    median_rank: float  # of each query's nearest right answer, from 1
    chance_rank: float  # the same of guessing
    queries: int
    n: int


@torch.no_grad()
def recall_at_k(
    queries: Tensor,
    keys: Tensor,
    right: Tensor | None = None,
    *,
    cluster: Tensor | None = None,
    ks: tuple[int, ...] = KS,
) -> Retrieval:
    """Rank all keys [n, C] for each query [m, C] by cosine similarity.

    A query's rank is that of its nearest right answer: 1, and the number of wrong keys that are nearer, and half of
    those as near, which is the mean over the orders of these. What is not a number is never right.

    Intervals are Wilson's. Queries of one cluster, such as the captions of an image, may all be alike: they count as
    (sum of sizes)^2 / (sum of squared sizes) queries, the number of clusters where these are of one size (Kish 1965,
    "Survey sampling", for an intra-class correlation of 1).

    Args:
        right: int64 [P, 2], each query and a right answer to it, at least one a query; None: the i-th key to the i-th.
        cluster: int64 [m], from 0; None: each query is one of its own.

    Raises:
        UserError: fewer than two keys.
    """
    n, m = len(keys), len(queries)
    if n < 2:
        raise UserError("retrieval needs at least two pairs")
    right = torch.arange(m)[:, None].expand(m, 2) if right is None else right
    rank = _ranks(queries, keys, right)
    sizes = (torch.ones(m) if cluster is None else cluster.bincount()).double()
    independent = round((sizes.sum() ** 2 / sizes.square().sum()).item())
    recall = {k: (rank <= k).double().mean().item() for k in ks}
    guess = _guess(right[:, 0].bincount(minlength=m), n)  # [n], recall at 1, 2, ...
    return Retrieval(
        recall=recall,
        interval={k: wilson(share, independent) for k, share in recall.items()},
        chance={k: guess[min(k, n) - 1].item() for k in ks},
        median_rank=rank.quantile(0.5).item(),
        chance_rank=1 + sum((guess < 0.5 + margin).sum().item() for margin in (-1e-9, 1e-9)) / 2,
        queries=m,
        n=n,
    )


def _ranks(queries: Tensor, keys: Tensor, right: Tensor) -> Tensor:
    """Of each query's nearest right answer, float64 [m]."""
    n, ranks = len(keys), []
    q, k = F.normalize(queries.double(), dim=1), F.normalize(keys.double(), dim=1)
    for rows in torch.arange(len(q)).split(max(1, SIMILARITIES // n)):
        s = (q[rows] @ k.T).round(decimals=DECIMALS)
        inside = right[(right[:, 0] >= rows[0]) & (right[:, 0] <= rows[-1])]
        is_right = torch.zeros(s.shape, dtype=torch.bool)
        is_right[inside[:, 0] - rows[0], inside[:, 1]] = True
        best = s.nan_to_num(-torch.inf).masked_fill(~is_right, -torch.inf).amax(1, keepdim=True)
        wrong = s.nan_to_num(torch.inf).masked_fill(is_right, torch.nan)  # NaN is neither nearer nor as near
        ranks.append(1 + (wrong > best).sum(1) + (wrong == best).sum(1) / 2)
    return torch.cat(ranks).double()


def _guess(answers: Tensor, n: int) -> Tensor:
    """The recall at 1, ..., n of a random order of n keys, of queries with so many right answers: float64 [n].

    Of r right answers, none is among the first k with probability prod_{i < k} (n - r - i) / (n - i).
    """
    i, recall = torch.arange(n, dtype=torch.float64), torch.zeros(n, dtype=torch.float64)
    for r, queries in zip(*answers.unique(return_counts=True), strict=True):
        missed = ((n - r - i).clamp(min=0) / (n - i)).cumprod(0)
        recall += (1 - missed) * queries / len(answers)
    return recall


@dataclass(frozen=True, slots=True)
class CaptionPairs:
    """Images and their captions, to be retrieved by each other. A text that several images have is right for all of
    them; as for the text tower, letters are lower-case.

    Attributes:
        texts: every different one, once.
        text, image: those of each caption, int64 [captions].
    """

    texts: tuple[str, ...]
    text: Tensor
    image: Tensor

    @classmethod
    def of(cls, captions: Captions) -> Self:
        number: dict[str, int] = {}
        text = [number.setdefault(caption.lower(), len(number)) for caption in captions.texts]
        return cls(tuple(number), torch.tensor(text), captions.image)

    def ranked(self, images: Tensor, texts: Tensor) -> dict[str, Retrieval]:
        """Captions by images, each different text once, and images by each of their captions.

        Args:
            images: [images, C].
            texts: [different texts, C].
        """
        texts_of = sorted(set(zip(self.image.tolist(), self.text.tolist(), strict=True)))  # the images and their texts
        images_of: dict[int, list[int]] = {}
        for image, its_text in texts_of:
            images_of.setdefault(its_text, []).append(image)
        answers = [(caption, image) for caption, text in enumerate(self.text.tolist()) for image in images_of[text]]
        return {
            "image -> text": recall_at_k(images, texts, torch.tensor(texts_of)),
            "text -> image": recall_at_k(texts[self.text], images, torch.tensor(answers), cluster=self.image),
        }
