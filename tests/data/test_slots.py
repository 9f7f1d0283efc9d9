"""Slots: a result is what was written, and stays so while anything of it is in use."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

import contrastkit.data.workers as workers_module
from contrastkit.augment import View
from contrastkit.data.arrays import ArraySource
from contrastkit.data.loader import Loader, plain_batches
from contrastkit.data.slots import Slots
from contrastkit.data.workers import Workers
from contrastkit.types import Batch


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(6).view(2, 3),
        torch.tensor(2.5, dtype=torch.float64),
        torch.tensor([True, False]),
        torch.zeros(0, 3),
        torch.arange(24.0).view(2, 3, 4).movedim(1, -1),
        torch.tensor([1.5], dtype=torch.bfloat16),
    ],
    ids=lambda tensor: f"{tensor.dtype}-{tuple(tensor.shape)}",
)
def test_a_tensor_comes_back(tensor: Tensor) -> None:
    slots = Slots(1, 4096)
    rest = slots.write(0, Batch([torch.ones(3), tensor], tensor, tensor))
    assert rest is not None
    read = slots.read(0, rest)
    assert read.views[0].tolist() == [1, 1, 1]
    for each in (read.views[1], read.index, read.label):
        assert each.dtype == tensor.dtype
        assert each.shape == tensor.shape
        assert torch.equal(each, tensor)


def test_a_slot_is_lent_again_when_nothing_in_it_is_in_use() -> None:
    slots = Slots(1, 4096)
    assert slots.lend() == 0
    assert slots.lend() is None
    read = slots.read(0, slots.write(0, [torch.arange(4), torch.arange(4)]))
    assert slots.lend() is None
    numbers = read[1][2:].numpy()
    del read
    assert slots.lend() is None
    del numbers
    assert slots.lend() == 0
    slots.take_back()
    assert slots.lend() == 0


def test_what_does_not_fit_is_refused() -> None:
    slots = Slots(1, 64 + 40)
    assert slots.write(0, [torch.zeros(1), torch.zeros(10)]) is not None
    assert slots.write(0, [torch.zeros(1), torch.zeros(11)]) is None


@pytest.mark.parametrize(("n", "room"), [(0, 100), (3, 0), (1, 1 << 60)])
def test_there_may_be_none(n: int, room: int) -> None:
    assert Slots(n, room).lend() is None


@dataclass
class Numbers(Dataset[Any]):
    size: int

    def __getitem__(self, k: int) -> Tensor:
        return torch.full((self.size,), float(k))


def refuse(result: object) -> None:
    """Instead of moving what does not fit; tasks are moved."""
    floats = isinstance(result, Tensor) and result.is_floating_point()
    if floats or (isinstance(result, tuple) and isinstance(result[0], Batch)):
        raise RuntimeError("new memory")


@pytest.mark.parametrize("workers", [1, 2])
def test_results_that_are_kept_stay_as_they_are(workers: int) -> None:
    with Workers(Numbers(100), workers=workers, room=400) as pool:
        assert [float(each.mean()) for each in list(pool.map(range(20)))] == list(range(20))


def test_results_in_turn_take_no_new_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "_share", refuse)  # before the processes are forked
    with Workers(Numbers(100), workers=2, room=400) as pool:
        for end in (20, 7):
            for k, each in enumerate(pool.map(range(20))):
                assert float(each.mean()) == k
                if k == end:
                    break
    with Workers(Numbers(101), workers=1, room=400) as pool, pytest.raises(RuntimeError, match="new memory"):
        list(pool.map(range(3)))


def test_batches_of_views_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "_share", refuse)
    images = torch.randint(0, 256, (20, 1, 11, 9), dtype=torch.uint8)
    source = ArraySource("array", images, torch.arange(20) % 3)
    views = [View(size=7), View(size=7), View(size=5)]
    alone, others = (Loader(source, views, batch=6, seed=0, workers=k, world=2) for k in (0, 1))
    with others:
        for here, there in zip(alone.batches(0, 5), others.batches(0, 5), strict=True):
            assert all(map(torch.equal, here.views, there.views))
    for channels in (1, 3):
        batches = list(plain_batches(source, size=8, channels=channels, batch=8, workers=1))
        assert [len(batch.index) for batch in batches] == [8, 8, 4]
        assert torch.equal(torch.cat([batch.index for batch in batches]), torch.arange(20))


class Sized(Dataset[Any]):
    def __getitem__(self, n: int) -> Tensor:
        return torch.zeros(n)


def test_a_slot_that_was_too_small_is_used_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    share = workers_module._share

    def only_large(result: object) -> None:
        if isinstance(result, Tensor) and len(result) <= 100:
            raise RuntimeError("new memory")
        share(result)

    monkeypatch.setattr(workers_module, "_share", only_large)
    sizes = [200] * 6 + [50] * 6
    with Workers(Sized(), workers=1, room=400) as pool:
        assert [len(each) for each in pool.map(sizes)] == sizes
