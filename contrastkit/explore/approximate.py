"""Pairs of similar features among more than can be compared one by one, by an index of faiss: some may be missed."""

import math
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor

from contrastkit.errors import UserError
from contrastkit.explore.nearest import UnitRows
from contrastkit.rng import permutation

EXACT = 2**20  # rows up to which all pairs are compared
PROBED = 64  # lists of the index that are searched for each row
TRAINED_ON = 64  # rows for each list, of which the centres of the lists are the k-means


def require_faiss(rows: int) -> None:
    """
    Raises:
        UserError: it is not installed.
    """
    if find_spec("faiss") is None:
        raise UserError(
            f"{rows:,} images are more than the {EXACT:,} that are compared pair by pair; to index them needs faiss: "
            'pip install "contrastkit[faiss]"'
        )


def indexed_candidates(bank: UnitRows, low: float) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Pairs i < j whose similarity in float32 is at least ``low``, as of
    :func:`contrastkit.explore.nearest.every_candidate`, but only those that an inverted-file index finds (faiss'
    IndexIVFFlat; Johnson, Douze & Jegou 2017): 4 sqrt(n) lists, of which 64 are searched for each row.

    Raises:
        UserError: faiss is not installed.
    """
    require_faiss(len(bank))
    import faiss

    n, dim = len(bank), bank.features.shape[1]
    lists = max(1, min(round(4 * math.sqrt(n)), n // TRAINED_ON))
    index: Any = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, lists, faiss.METRIC_INNER_PRODUCT)
    sample = permutation(0, 0, n)[: TRAINED_ON * lists].sort()[0].numpy()
    index.train(bank.unit(sample).float().numpy())
    for _, block in bank.blocks():
        index.add(block.float().numpy())
    index.nprobe = PROBED
    for first, block in bank.blocks():
        ends, _, found = index.range_search(block.float().numpy(), low)
        i = np.repeat(np.arange(first, first + len(block)), np.diff(ends.astype(np.int64)))
        ahead = i < found
        yield first, torch.from_numpy(i[ahead]), torch.from_numpy(found[ahead])
