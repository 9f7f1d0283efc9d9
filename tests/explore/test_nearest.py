"""Nearest rows and pairs against full float64 matrices and loops."""

import re
from typing import Any

import numpy as np
import pytest
import torch

from contrastkit.errors import UserError
from contrastkit.explore import nearest as module
from contrastkit.explore.approximate import indexed_candidates
from contrastkit.explore.nearest import UnitRows, nearest, pairs_above


def features(n: int, dim: int, seed: int) -> np.ndarray:
    """Random features of which many are the same, up to their lengths: there are many ties."""
    g = np.random.default_rng(seed)
    x = g.normal(size=(n, dim))
    copied = g.random(n) < 0.4
    x[copied] = x[g.integers(0, 5, copied.sum())] * 2.0 ** g.integers(-3, 4, (copied.sum(), 1))
    x[g.integers(0, n, 3)] = 0.0
    return x.astype(np.float32)


def cosines(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The whole matrix, in float64, rounded to float32."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    lengths = [np.maximum(np.linalg.norm(each, axis=1, keepdims=True), 1e-12) for each in (x, y)]
    return ((x / lengths[0]) @ (y / lengths[1]).T).astype(np.float32)


@pytest.mark.parametrize("k", [1, 7, 60])
@pytest.mark.parametrize("block", [2**23, 2**13])
def test_the_nearest_are_those_of_the_full_matrix_and_ties_go_by_position(
    k: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", block)  # 8 rows of the bank at once
    bank, queries = features(60, 5, 0), features(9, 5, 1)
    queries[:3] = bank[:3]
    unit = UnitRows(queries, np.arange(9)).unit(slice(None))
    found = nearest(unit, UnitRows(bank, np.arange(60)), k)
    s = cosines(queries, bank)
    order = np.lexsort((np.broadcast_to(np.arange(60), s.shape), -s), axis=1)[:, :k]
    assert (np.diff(np.sort(s, 1), axis=1) == 0).mean() > 0.2, "many ties"
    assert found.position.tolist() == order.tolist()
    assert found.similarity.dtype == np.float32
    np.testing.assert_array_equal(found.similarity, np.take_along_axis(s, order, 1))


def test_negative_and_zero_similarities_are_ordered() -> None:
    bank = np.array([[-1, 0], [0, 1], [0, -1], [1, 1], [-1, 1], [0, 0]], np.float32)
    found = nearest(torch.tensor([[1.0, 0.0]]).double(), UnitRows(bank, np.arange(6)), 6)
    assert found.position.tolist() == [[3, 1, 2, 5, 4, 0]]  # 0.71; 0, 0 and 0; -0.71; -1
    np.testing.assert_allclose(found.similarity[0], [0.5**0.5, 0, 0, 0, -(0.5**0.5), -1], rtol=1e-6)


class Recording:
    """Features that note how many numbers are read at once, as from a file that is larger than memory."""

    def __init__(self, x: np.ndarray) -> None:
        self.x, self.shape, self.largest = x, x.shape, 0

    def __getitem__(self, rows: Any) -> np.ndarray:
        self.largest = max(self.largest, self.x[rows].size)
        return self.x[rows]


def test_no_more_than_a_block_is_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 2**12)
    bank: Any = Recording(features(900, 16, 2))
    rows = UnitRows(bank, np.arange(900))
    nearest(rows.unit(slice(0, 3)), rows, 4)
    assert 0 < bank.largest <= 2**12
    pairs_above(rows, 0.999)
    assert bank.largest <= 2**12


@pytest.mark.parametrize("threshold", [1.0, 0.8, -0.3])
@pytest.mark.parametrize("block", [2**23, 64])
def test_pairs_are_those_of_a_double_loop(threshold: float, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    x = features(40, 5, 3)
    rows = np.flatnonzero(np.arange(40) % 3 > 0)  # the others could not be read
    x[::3] = np.nan
    found, seen = pairs_above(UnitRows(x, rows), threshold), []
    for i in range(len(rows)):
        for j in range(i + 1, len(rows)):
            a, b = x[rows[i]].astype(np.float64), x[rows[j]].astype(np.float64)
            s = np.float32(a @ b / max(1e-12, np.linalg.norm(a) * np.linalg.norm(b)))
            if s >= np.float32(threshold):
                seen.append((i, j, float(s)))
    assert len(seen) >= 10
    assert list(zip(found.i.tolist(), found.j.tolist(), strict=True)) == [(i, j) for i, j, _ in seen]
    np.testing.assert_allclose(found.similarity, [s for *_, s in seen], rtol=1e-6, atol=1e-7)


def test_copies_are_found_at_a_cosine_of_1() -> None:
    x = np.random.default_rng(4).normal(size=(2000, 33)).astype(np.float32)
    x[1000:] = x[:1000] * np.float32(0.5)
    found = pairs_above(UnitRows(x, np.arange(2000)), 1.0)
    assert found.i.tolist() == list(range(1000)) and found.j.tolist() == list(range(1000, 2000))
    assert (found.similarity == 1).all()


def test_too_many_pairs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_PAIRS", 9)
    with pytest.raises(
        UserError, match=r"^more than 9 pairs .* of at least 0\.5: even at a cosine of 1 many are left: "
    ):
        pairs_above(UnitRows(np.ones((6, 2), np.float32), np.arange(6)), 0.5)


def test_too_many_pairs_are_refused_with_a_threshold_that_leaves_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_PAIRS", 30_000)
    monkeypatch.setattr(module, "SAMPLED", 400)
    x = 1 + np.random.default_rng(6).normal(size=(1000, 8)).astype(np.float32)
    bank = UnitRows(x, np.arange(1000))
    with pytest.raises(
        UserError, match="^more than 30,000 pairs .* at least 0.1: raise --threshold; about 3,000 "
    ) as no:
        pairs_above(bank, 0.1)
    said = re.search(r"about 3,000 have one of (0\.\d+) or more$", str(no.value))
    assert said is not None
    assert 1500 < len(pairs_above(bank, float(said[1])).i) < 6000


def test_no_threshold_is_advised_that_is_not_above_the_one_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs that a sample misses: 60 equal rows among 4,000, of which ten drawn ones have none."""
    monkeypatch.setattr(module, "MOST_PAIRS", 1000)
    monkeypatch.setattr(module, "SAMPLED", 10)
    x = np.random.default_rng(7).normal(size=(4000, 64)).astype(np.float32)
    x[:60] = x[0]
    with pytest.raises(UserError, match=r"^more than 1,000 pairs .* of at least 0\.9: raise --threshold$"):
        pairs_above(UnitRows(x, np.arange(4000)), 0.9)


def test_an_index_of_faiss_finds_the_pairs() -> None:
    pytest.importorskip("faiss")
    x = np.random.default_rng(5).normal(size=(3000, 16)).astype(np.float32)
    x[1500:] = x[:1500] + 0.02 * np.random.default_rng(6).normal(size=(1500, 16)).astype(np.float32)
    rows = UnitRows(x, np.arange(3000))
    exact, indexed = pairs_above(rows, 0.99), pairs_above(rows, 0.99, candidates=indexed_candidates)
    pairs = [set(zip(found.i.tolist(), found.j.tolist(), strict=True)) for found in (exact, indexed)]
    assert pairs[1] <= pairs[0] and len(pairs[1]) > 0.98 * len(pairs[0]) > 1400
