"""Cosine similarities of many features: the k largest of a query, and all pairs above a threshold, exact, in blocks.

Similarities are computed in float64 and rounded to float32, so that equal features are equally similar however the
products were summed. Equally similar ones are ordered by position. No more than :data:`BLOCK` similarities and features
are in memory at once, besides the results.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from contrastkit.errors import UserError
from contrastkit.rng import permutation

BLOCK = 2**23  # numbers in memory at once: 64 MiB
ROUNDING = 1e-5  # more than float32 errs by in a product of unit vectors
MOST_PAIRS = 2**22
SAMPLED = 2000  # rows, from whose pairs the number of all pairs above a threshold is estimated
LOW = 0xFFFFFFFF  # 32 bits

OnRows = Callable[[int], None]  # called with the number of rows that are done


@dataclass(frozen=True)
class UnitRows:
    """Some rows of a matrix of features as unit vectors, normalised when they are read.

    Attributes:
        features: float32 [N, D]; may be mapped into memory from a file that is larger than it.
        rows: int64 [n], which of them, ascending.
    """

    features: NDArray[Any]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def unit(self, positions: NDArray[np.int64] | slice) -> Tensor:
        """The unit vectors, float64 [m, D], at positions among ``rows``; features of zero stay zero."""
        return F.normalize(torch.from_numpy(self.features[self.rows[positions]].astype(np.float64)), dim=1)

    def blocks(self, most: int = 2**13) -> Iterator[tuple[int, Tensor]]:
        """All of them, in order: the first position of a block of at most ``most``, and its unit vectors."""
        step = max(1, min(most, BLOCK // self.features.shape[1]))
        for first in range(0, len(self), step):
            yield first, self.unit(slice(first, first + step))


class Nearest(NamedTuple):
    """The k most similar rows of each query, the most similar first."""

    similarity: NDArray[np.float32]  # [M, k]
    position: NDArray[np.int64]  # [M, k], among the rows


def nearest(queries: Tensor, bank: UnitRows, k: int, *, on_rows: OnRows | None = None) -> Nearest:
    """The k rows of ``bank`` most similar to each query.

    Args:
        queries: unit vectors, float64 [M, D].
        k: from 1 to the number of rows.
        on_rows: called after each block of the bank with the number of its rows compared so far, for all queries.
    """
    chunks = queries.split(2**10)
    best = [torch.empty(len(chunk), 0, dtype=torch.int64) for chunk in chunks]
    for first, block in bank.blocks(BLOCK // 2**10):
        for i, chunk in enumerate(chunks):
            keys = torch.cat([best[i], _keys(chunk @ block.T, first)], 1)
            best[i] = keys.topk(min(k, keys.shape[1]), dim=1).values
        if on_rows is not None:
            on_rows(first + len(block))
    return Nearest(*_values(torch.cat(best)))


def _keys(s: Tensor, first: int) -> Tensor:
    """Similarities [M, m] of the rows from ``first`` on as int64 that order them: by similarity, then by position from
    last to first. The upper 32 bits are a float32's, which as a whole number has its order, once those of a negative
    one are reversed."""
    bits = (s.float() + 0.0).view(torch.int32).long()  # + 0.0 makes -0.0 positive
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    return (ordered << 32) | (LOW - torch.arange(first, first + s.shape[1]))


def _values(keys: Tensor) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The similarities and the positions of :func:`_keys`."""
    ordered = keys >> 32
    bits = torch.where(ordered < 0, ordered ^ 0x7FFFFFFF, ordered)
    return bits.int().view(torch.float32).numpy(), (LOW - (keys & LOW)).numpy()


class Pairs(NamedTuple):
    """Pairs of rows i < j, ordered by i, then by j."""

    i: NDArray[Any]  # int64, positions among the rows
    j: NDArray[Any]  # int64
    similarity: NDArray[Any]  # float32


Candidates = Callable[[UnitRows, float], Iterator[tuple[int, Tensor, Tensor]]]


def every_candidate(bank: UnitRows, low: float) -> Iterator[tuple[int, Tensor, Tensor]]:
    """The pairs i < j whose similarity in float32 is at least ``low``, block by block: the number of rows that have
    been compared with all behind them, i, and j."""
    for first, block in bank.blocks(2**11):
        left, rest = block.float(), UnitRows(bank.features, bank.rows[first:])
        for ahead, other in rest.blocks(2**11):
            near = left @ other.float().T >= low
            i, j = (near.triu(1) if ahead == 0 else near).nonzero(as_tuple=True)
            yield first, i + first, j + first + ahead


def pairs_above(
    bank: UnitRows, threshold: float, *, candidates: Candidates = every_candidate, on_rows: OnRows | None = None
) -> Pairs:
    """All pairs of rows whose similarity is at least ``threshold``: candidates, found with a margin, and decided in
    float64.

    Args:
        candidates: where they come from; another function may miss some.
        on_rows: called now and then with the number of rows that have been compared with all behind them.

    Raises:
        UserError: more than :data:`MOST_PAIRS` candidates.
    """
    parts = [Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))]
    total = 0
    for done, i, j in candidates(bank, threshold - ROUNDING):
        total += len(i)
        if total > MOST_PAIRS:
            raise UserError(
                f"more than {MOST_PAIRS:,} pairs of images have a cosine of at least {threshold:g}: "
                + _advice(bank, threshold)
            )
        parts += _decided(bank, i.numpy(), j.numpy(), threshold)
        if on_rows is not None:
            on_rows(done)
    i_all, j_all, similarity = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((j_all, i_all))
    return Pairs(i_all[order], j_all[order], similarity[order])


def _advice(bank: UnitRows, given: float) -> str:
    """What to do about too many pairs: the threshold that leaves a tenth of the limit, estimated from all pairs of
    :data:`SAMPLED` rows drawn at random; of fewer than ten pairs there, the tenth. A sample that misses the many pairs
    above the threshold ``given`` has none to advise."""
    drawn = permutation(0, 0, len(bank))[:SAMPLED].numpy()
    x = bank.unit(drawn)
    i, j = torch.triu_indices(len(x), len(x), 1)
    similarity = (x @ x.T)[i, j]
    scale = len(bank) * (len(bank) - 1) / len(x) / (len(x) - 1)  # pairs for each pair of the sample
    left = min(max(10, int(MOST_PAIRS / 10 / scale)), len(similarity))
    threshold = math.ceil(1e5 * similarity.topk(left).values[-1].item()) / 1e5
    if threshold >= 1:
        return "even at a cosine of 1 many are left: this encoder tells few images apart, give another one"
    if threshold <= given:
        return "raise --threshold"
    return f"raise --threshold; about {float(f'{left * scale:.1g}'):,.0f} have one of {threshold:g} or more"


def _decided(bank: UnitRows, i: NDArray[np.int64], j: NDArray[np.int64], threshold: float) -> Iterator[Pairs]:
    """Those of the candidates that are above the threshold, some at a time."""
    step = max(1, BLOCK // bank.features.shape[1])
    for n in range(0, len(i), step):
        a, b = i[n : n + step], j[n : n + step]
        similarity = (bank.unit(a) * bank.unit(b)).sum(1).float()
        kept = (similarity >= torch.tensor(threshold, dtype=torch.float32)).numpy()
        yield Pairs(a[kept], b[kept], similarity.numpy()[kept])
