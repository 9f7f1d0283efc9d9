"""Retrieval compared with ranks computed in loops."""

import math

import pytest
import torch

from contrastkit.errors import UserError
from contrastkit.evaluate.retrieval import recall_at_k


def test_ranks_are_those_of_a_loop() -> None:
    g = torch.Generator().manual_seed(0)
    queries, keys = torch.randn(30, 8, generator=g), torch.randn(30, 8, generator=g)
    keys += 0.7 * queries
    ranks = []
    for i in range(30):
        cosines = []
        for j in range(30):
            a, b = queries[i].tolist(), keys[j].tolist()
            dot = sum(x * y for x, y in zip(a, b, strict=True))
            cosines.append(dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b)))
        ranks.append(1 + sum(c > cosines[i] for j, c in enumerate(cosines) if j != i))
    result = recall_at_k(queries, keys, ks=(1, 3, 10))
    assert result.recall == {k: pytest.approx(sum(r <= k for r in ranks) / 30) for k in (1, 3, 10)}
    assert result.median_rank == pytest.approx(sorted(ranks)[14] / 2 + sorted(ranks)[15] / 2)
    assert 0 < result.recall[1] < 1 and result.n == 30
    assert [result.chance(k) for k in (1, 3, 60)] == pytest.approx([1 / 30, 0.1, 1.0])


def test_lengths_do_not_matter_and_a_collapsed_encoder_finds_nothing() -> None:
    queries = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    keys = queries * torch.tensor([1.0, 9, 3, 0.1, 5, 2])[:, None]
    assert recall_at_k(queries, keys, ks=(1,)).recall == {1: 1.0}
    same = recall_at_k(torch.ones(6, 4), torch.ones(6, 4), ks=(1, 5))
    assert same.recall == {1: 0.0, 5: 0.0} and same.median_rank == 6


def test_what_is_not_a_number_finds_nothing() -> None:
    result = recall_at_k(torch.full((6, 4), float("nan")), torch.ones(6, 4), ks=(1,))
    assert result.recall == {1: 0.0} and result.median_rank == 6


def test_pieces_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    g = torch.Generator().manual_seed(2)
    queries, keys = torch.randn(11, 3, generator=g), torch.randn(11, 3, generator=g)
    whole = recall_at_k(queries, keys)
    monkeypatch.setattr("contrastkit.evaluate.retrieval.SIMILARITIES", 25)
    assert recall_at_k(queries, keys) == whole


def test_one_pair_is_refused() -> None:
    with pytest.raises(UserError, match="at least two pairs"):
        recall_at_k(torch.ones(1, 3), torch.ones(1, 3))
