"""Queue and memory bank: first contents, order, draws, and the constant Z of all processes."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from contrastkit import dist
from contrastkit.errors import UserError
from contrastkit.parts.dictionary import MemoryBank, Queue


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_queue_starts_full_of_unit_vectors_and_keeps_the_newest() -> None:
    queue = Queue(5, 3, generator())
    torch.testing.assert_close(queue.keys.norm(dim=1), torch.ones(5))
    assert torch.equal(queue.keys, Queue(5, 3, generator()).keys) and queue.n_valid is None
    first = queue.keys.clone()
    keys = F.normalize(torch.randn(8, 3, generator=generator(1)), dim=1)
    queue.push(keys[:3])
    assert torch.equal(queue.keys, torch.cat([keys[:3], first[3:]])) and queue.pointer == 3
    queue.push(keys[3:7])
    assert torch.equal(queue.keys, torch.cat([keys[5:7], keys[2:5]])) and queue.pointer == 2


def test_a_counted_queue_is_full_once_no_random_key_is_left() -> None:
    queue = Queue(4, 3, generator(), counted=True)
    full = []
    for _ in range(3):
        full.append(queue.full)
        queue.push(F.normalize(torch.ones(2, 3), dim=1))
    assert [*full, queue.full] == [False, False, True, True] and queue.n_valid == 4


def test_rows_begin_uniform_and_of_length_one_in_the_quadratic_mean() -> None:
    bank = MemoryBank(4000, 2, 12, generator=generator(), dtype=torch.float32, look_ups=3)
    s = 1 / math.sqrt(12 / 3)
    assert bank.rows.shape == (4000, 2, 12) and bank.Z.shape == (3, 2) and not bank.Z.any()
    assert -s <= bank.rows.min() < -0.99 * s and 0.99 * s < bank.rows.max() <= s
    assert bank.rows.square().sum(-1).mean().item() == pytest.approx(1, rel=0.01)
    assert MemoryBank(5, 4, generator=generator(), dtype=torch.bfloat16).rows.dtype == torch.bfloat16


@pytest.mark.parametrize(("images", "K", "says"), [(1, 1, "needs at least two images"), (5, 6, "--K 6"), (5, 5, None)])
def test_a_set_that_is_too_small_to_draw_from_is_refused(images: int, K: int, says: str | None) -> None:
    if says is None:
        MemoryBank.check(images, K)
        return
    with pytest.raises(UserError, match=says):
        MemoryBank.check(images, K)


def test_draws_are_the_own_row_then_any() -> None:
    bank = MemoryBank(7, 4, generator=generator())
    index = torch.tensor([3, 0, 6])
    drawn = bank.draw(index, 5000, seed=1, progress=0.25)
    assert drawn.shape == (3, 5001) and torch.equal(drawn[:, 0], index)
    counts = torch.bincount(drawn[:, 1:].flatten(), minlength=7) / 15000
    assert counts.tolist() == pytest.approx([1 / 7] * 7, rel=0.05)
    alone = bank.draw(index[1:2], 5000, seed=1, progress=0.25)
    assert torch.equal(alone[0], drawn[1])  # a function of its address
    for seed, progress in ((2, 0.25), (1, 0.5)):
        assert (bank.draw(index, 5000, seed=seed, progress=progress) != drawn).any()


def test_draws_are_pinned() -> None:
    """A later version must draw the same, or a resumed run would see other negatives."""
    bank = MemoryBank(1000, 4, generator=generator())
    assert bank.draw(torch.tensor([5, 9]), 4, seed=3, progress=0.5).tolist() == [
        [5, 974, 785, 70, 140],
        [9, 398, 82, 998, 852],
    ]


def by_hand(query: torch.Tensor, rows: torch.Tensor, drawn: torch.Tensor, tau: float) -> float:
    """InstDisc, Sec. 3.2: M times the mean of exp(q.r / tau)."""
    terms = [math.exp(float(q @ rows[j]) / tau) for q, own in zip(query, drawn, strict=True) for j in own.tolist()]
    return len(rows) * sum(terms) / len(terms)


def test_z_comes_from_the_first_batch_and_stays_or_moves() -> None:
    bank = MemoryBank(20, 4, generator=generator())
    query = [F.normalize(torch.randn(3, 4, generator=generator(i)), dim=1) for i in (1, 2)]
    drawn = bank.draw(torch.tensor([3, 0, 6]), 8, seed=0, progress=0.0)
    first = bank.nce(query[0], drawn, tau=0.5)[2]
    expected = [by_hand(q, bank.rows, drawn, 0.5) for q in query]
    assert first.item() == pytest.approx(expected[0], rel=1e-5) and not bank.is_set
    bank.Z.copy_(first)
    bank.is_set = True
    assert bank.nce(query[1], drawn, tau=0.5)[2].item() == first.item()
    moved = bank.nce(query[1], drawn, tau=0.5, m_z=0.75)[2].item()
    assert moved == pytest.approx(0.75 * expected[0] + 0.25 * expected[1], rel=1e-5)
    assert bank.Z.item() == first.item(), "reading does not write"


def test_each_look_up_of_a_step_has_its_own_z() -> None:
    bank = MemoryBank(20, 4, generator=generator(), look_ups=2)
    query = F.normalize(torch.randn(3, 4, generator=generator(1)), dim=1)
    drawn = bank.draw(torch.tensor([3, 0, 6]), 8, seed=0, progress=0.0)
    bank.update(torch.tensor([3]), query[:1], m=0.5, Z=torch.tensor([7.0, 70.0]))
    assert [bank.nce(query, drawn, tau=0.5, look_up=i)[2].item() for i in (0, 1)] == [7, 70]


def test_z_is_of_all_processes(two_processes: Callable[[Callable[[int], None]], None]) -> None:
    bank = MemoryBank(20, 4, generator=generator())
    query = F.normalize(torch.randn(6, 4, generator=generator(1)), dim=1)
    drawn = bank.draw(torch.arange(6), 8, seed=0, progress=0.0)
    loss, _, Z = bank.nce(query, drawn, tau=0.5)

    def work(rank: int) -> None:
        local = bank.nce(dist.local_shard(query), dist.local_shard(drawn), tau=0.5)
        torch.testing.assert_close(local[2], Z)
        torch.testing.assert_close(local[0], dist.local_shard(loss))

    two_processes(work)


def test_an_update_moves_rows_and_stores_z() -> None:
    bank = MemoryBank(5, 4, generator=generator())
    before = bank.rows.clone()
    x = F.normalize(torch.randn(2, 4, generator=generator(1)), dim=1)
    bank.update(torch.tensor([4, 1]), x, m=0.8)
    for row, feature in ((4, x[0]), (1, x[1])):
        torch.testing.assert_close(bank.rows[row], F.normalize(0.8 * before[row] + 0.2 * feature, dim=0))
    assert torch.equal(bank.rows[[0, 2, 3]], before[[0, 2, 3]]) and not bank.is_set
    bank.update(torch.tensor([0]), x[:1], m=0.5, Z=torch.tensor([7.0]))
    assert bank.Z.item() == 7 and bank.is_set
    again = MemoryBank(5, 4, generator=generator(2))
    again.load_state_dict(bank.state_dict())
    assert again.is_set and again.Z.item() == 7 and torch.equal(again.rows, bank.rows)
