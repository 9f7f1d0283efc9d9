"""Collectives, over two processes."""

import os
import signal
import time
from collections.abc import Callable

import pytest
import torch
from torch import nn

from contrastkit import dist
from contrastkit.errors import UserError, explain


def test_keys_that_every_rank_compares_with_get_the_gradient_of_all_their_losses(
    two_processes: Callable[[Callable[[int], None]], None],
) -> None:
    """Losses that differ between ranks and depend on all rows; the mean over the ranks is what DDP takes."""
    whole = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    w = torch.randn(2, 6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def loss(rank: int, keys: torch.Tensor) -> torch.Tensor:
        return (w[rank] * keys.exp()).sum() * keys[5 * rank, 0]

    truth = whole.clone().requires_grad_()
    (sum(loss(rank, truth) for rank in range(2)) / 2).backward()

    def work(rank: int) -> None:
        ours = dist.local_shard(whole).clone().requires_grad_()
        keys = dist.gather_keys(ours)
        assert torch.equal(keys, whole)
        loss(rank, keys).backward()
        torch.testing.assert_close(ours.grad / 2, dist.local_shard(truth.grad))
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


def test_each_collective_does_what_it_says(two_processes: Callable[[Callable[[int], None]], None]) -> None:
    def work(rank: int) -> None:
        assert (dist.rank(), dist.world_size()) == (rank, 2)
        x = torch.tensor([[1.0, 8.0], [3.0, 2.0]])[rank]  # of each rank its own
        before = x.clone()
        assert dist.gather(x[None]).tolist() == [[1.0, 8.0], [3.0, 2.0]]
        assert dist.gather(torch.arange(4).view(2, 2).T).tolist() == 2 * [[0, 2], [1, 3]]  # of any strides
        assert dist.all_reduce_mean(x).tolist() == [2.0, 5.0]
        assert dist.all_reduce_max(x).tolist() == [3.0, 8.0]
        assert torch.equal(x, before)
        assert dist.local_shard(torch.arange(6)).tolist() == [[0, 1, 2], [3, 4, 5]][rank]
        assert dist.local_rows(dist.gather(torch.zeros(2, 5))).tolist() == [[0, 1], [2, 3]][rank]
        assert dist.any_of([rank == 0, rank == 1, False], torch.device("cpu")) == [True, True, False]
        assert dist.gather_objects({"rank": rank}) == [{"rank": 0}, {"rank": 1}]
        assert dist.broadcast_str(f"from {rank}") == "from 0"
        net = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2), nn.BatchNorm2d(2, track_running_stats=False))
        net[0].running_mean.fill_(rank), net[0].running_var.fill_(1 + 4 * rank), net[1].bias.data.fill_(rank)
        dist.average_batch_norm(net)
        assert net[0].running_mean.tolist() == [0.5, 0.5] and net[0].running_var.tolist() == [3.0, 3.0]
        assert net[1].bias.tolist() == [rank, rank]

    two_processes(work)


def test_one_process_is_its_own_world() -> None:
    x = torch.randn(4, 2)
    assert (dist.rank(), dist.world_size()) == (0, 1)
    for same in (dist.gather(x), dist.all_reduce_mean(x), dist.all_reduce_max(x), dist.local_shard(x)):
        assert torch.equal(same, x)
    assert dist.any_of([True, False], torch.device("cpu")) == [True, False]
    assert dist.gather_objects("x") == ["x"] and dist.broadcast_str("x") == "x"
    assert dist.init("cpu") == torch.device("cpu") and not torch.distributed.is_initialized()


@pytest.mark.parametrize(
    ("device", "count", "world", "says"),
    [
        ("gpu", 0, 1, "--device gpu: unknown"),
        ("cuda", 0, 1, "torch sees no CUDA device"),
        ("cuda:2", 2, 1, "there are 2 CUDA devices here"),
        ("cuda:1", 2, 2, "each process uses its own GPU"),
        ("cuda", 1, 2, "process 1 of this machine has no GPU, there are 1"),
    ],
)
def test_a_device_that_is_not_there_is_refused(
    monkeypatch: pytest.MonkeyPatch, device: str, count: int, world: int, says: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setenv("WORLD_SIZE", str(world))
    monkeypatch.setenv("LOCAL_RANK", "1")
    for place in (dist.device, dist.init):
        with pytest.raises(UserError, match=says):
            place(device)


@pytest.mark.parametrize(
    ("device", "world", "index"), [("auto", 1, 0), ("cuda", 2, 1), ("cuda:1", 1, 1), ("auto", 2, 1)]
)
def test_each_process_takes_the_gpu_of_its_place(
    monkeypatch: pytest.MonkeyPatch, device: str, world: int, index: int
) -> None:
    chosen: list[torch.device] = []
    backends: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.distributed, "init_process_group", backends.append)
    monkeypatch.setenv("WORLD_SIZE", str(world))
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert dist.device(device) == torch.device("cuda", index)
    assert chosen == [torch.device("cuda", index)] and not backends, "it joins no processes"
    assert dist.init(device) == torch.device("cuda", index)
    assert backends == (["nccl"] if world > 1 else [])


@pytest.mark.parametrize("busy", [False, True])
def test_the_end_of_another_process_is_one_line(
    busy: bool, two_processes: Callable[[Callable[[int], None]], None]
) -> None:
    """The system has other words, "reset by peer", for one that left something unread."""

    def work(rank: int) -> None:
        _, other = dist.gather_objects(os.getpid())
        if rank == 1:
            signal.pause()
        if busy:
            os.kill(other, signal.SIGSTOP)
            torch.distributed.isend(torch.zeros(2**10), 1)
            time.sleep(0.1)
        os.kill(other, signal.SIGKILL)
        with pytest.raises(RuntimeError) as caught:
            dist.barrier()
        line = explain(caught.value)
        assert line is not None and line.startswith("another process of this command has ended"), caught.value

    two_processes(work)


def test_a_world_without_torchrun_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="WORLD_SIZE asks for several processes.*start with torchrun"):
        dist.init("cpu")
