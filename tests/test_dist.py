"""Collectives, over two processes."""

from collections.abc import Callable

import torch

from contrastkit import dist


def test_keys_that_every_rank_compares_with_get_the_gradient_of_all_their_losses(
    two_processes: Callable[[Callable[[int], None]], None],
) -> None:
    """Losses that differ from rank to rank and look at all rows; the mean over the ranks is what DDP takes."""
    whole = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    w = torch.randn(2, 6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def loss(rank: int, keys: torch.Tensor) -> torch.Tensor:
        return (w[rank] * keys.exp()).sum() * keys[5 * rank, 0]

    truth = whole.clone().requires_grad_()
    (sum(loss(rank, truth) for rank in range(2)) / 2).backward()

    def work(rank: int) -> None:
        mine = dist.local_shard(whole).clone().requires_grad_()
        keys = dist.gather_keys(mine)
        assert torch.equal(keys, whole)
        loss(rank, keys).backward()
        torch.testing.assert_close(mine.grad / 2, dist.local_shard(truth.grad))
        # A weight that all ranks share, through DDP's mean: as one process with all rows.
        shared = torch.ones((), dtype=torch.float64, requires_grad=True)
        loss(rank, dist.gather_keys(shared * dist.local_shard(whole))).backward()
        alone = torch.ones((), dtype=torch.float64, requires_grad=True)
        (sum(loss(r, alone * whole) for r in range(2)) / 2).backward()
        torch.testing.assert_close(dist.all_reduce_mean(shared.grad), alone.grad)

    two_processes(work)


def test_one_process_gathers_nothing() -> None:
    x = torch.randn(3, 2, requires_grad=True)
    assert dist.gather_keys(x) is x
