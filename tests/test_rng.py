"""Counter-based draws: against splitmix64 in Python integers, and for what a random number should look like."""

import math

import torch

from contrastkit.rng import permutation, uniform

MASK = (1 << 64) - 1


def fold(key: int, part: int) -> int:
    """One step of splitmix64 in exact integers."""
    x = (key + (part + 1) * 0x9E3779B97F4A7C15) & MASK
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ x >> 27) * 0x94D049BB133111EB & MASK
    return x ^ x >> 31


def test_uniform_is_splitmix64_of_the_address():
    index = torch.tensor([0, 1, 7, 2**40])
    drawn = uniform(123, 4, index, 1, 3)
    for row, i in enumerate(index.tolist()):
        for slot in range(3):
            bits = fold(fold(fold(fold(fold(0, 123), 4), 1), i), slot)
            assert drawn[row, slot].item() == (bits >> 11) / 2**53


def test_a_view_per_sample_equals_one_for_all():
    index = torch.arange(6)
    mixed = uniform(0, 0, index, torch.tensor([0, 1, 0, 1, 0, 1]), 4)
    for v in (0, 1):
        assert torch.equal(mixed[v::2], uniform(0, 0, index, v, 4)[v::2])


def test_draws_are_uniform_and_uncorrelated():
    u = uniform(0, 0, torch.arange(20_000), 0, 8)
    counts = torch.histc(u, 20, 0, 1)
    expected = u.numel() / 20
    chi2 = ((counts - expected) ** 2 / expected).sum().item()
    assert chi2 < 19 + 5 * math.sqrt(2 * 19)
    others = torch.cat(
        [u]
        + [uniform(*address, 8) for address in ((1, 0, torch.arange(20_000), 0), (0, 1, torch.arange(20_000), 0))]
        + [uniform(0, 0, torch.arange(20_000), 1, 8), uniform(0, 0, torch.arange(1, 20_001), 0, 8)],
        dim=1,
    )  # neighbouring seeds, epochs, views, indices
    correlation = torch.corrcoef(others.T) - torch.eye(others.shape[1], dtype=torch.float64)
    assert correlation.abs().max() < 6 / math.sqrt(20_000)


def test_no_two_addresses_share_a_draw():
    seeds = [uniform(s, e, torch.arange(500), v, 10).flatten() for s in range(3) for e in range(3) for v in range(3)]
    drawn = torch.cat(seeds)
    assert drawn.unique().numel() == drawn.numel()
    assert drawn.min() >= 0
    assert drawn.max() < 1


def test_more_slots_keep_the_first_ones():
    index = torch.arange(5)
    assert torch.equal(uniform(3, 1, index, 0, 40)[:, :7], uniform(3, 1, index, 0, 7))


def test_permutation():
    order = permutation(0, 0, 1000)
    assert torch.equal(order.sort()[0], torch.arange(1000))
    assert torch.equal(order, permutation(0, 0, 1000))
    assert not torch.equal(order, permutation(0, 1, 1000))
    assert not torch.equal(order, permutation(1, 0, 1000))
    spots = torch.stack([permutation(0, e, 10) for e in range(3000)])  # every value in every place about as often
    counts = torch.stack([(spots == value).sum(0) for value in range(10)]).double()
    assert ((counts - 300) ** 2 / 300).sum() < 81 + 5 * math.sqrt(2 * 81)


def test_torch_generator_is_left_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = uniform(0, 0, torch.arange(9), 0, 9)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(99)
    assert torch.equal(first, uniform(0, 0, torch.arange(9), 0, 9))
