"""The loader's promise: order and augmentations are a function of (seed, epoch, index, view), and nothing else."""

import gc
import itertools
import multiprocessing
import os
import signal
from dataclasses import replace
from typing import Any

import pytest
import torch

from contrastkit.augment import VIEWS
from contrastkit.data import ArraySource, Loader, open_data, plain_batches
from contrastkit.errors import UserError
from tests.data.batches import array, epoch, equal, folder, spoil
from tests.data.pictures import paths_of

SAME = [replace(v, size=16) for v in VIEWS["moco-v2"]]
UNLIKE = [replace(v, size=16) for v in VIEWS["byol"]]


@pytest.fixture(params=["array", "files"])
def source(request, tmp_path):
    return array() if request.param == "array" else open_data(str(folder(tmp_path))).train


def test_an_epoch(source):
    loader = Loader(source, SAME, batch=8, seed=0)
    batches = list(epoch(loader, 0))
    assert len(batches) == loader.steps_per_epoch == 6
    index = torch.cat([b.index for b in batches])
    assert len(index.unique()) == 48
    assert not torch.equal(index, index.sort()[0])
    for batch in batches:
        assert torch.equal(batch.label, source.labels[batch.index])
        assert [v.shape for v in batch.views] == [(8, 3, 16, 16)] * 2
        assert all(v.dtype == torch.float32 and v.min() >= 0 and v.max() <= 1 for v in batch.views)
        assert not torch.equal(*batch.views)
    assert not equal(batches[0], next(epoch(loader, 1)))
    assert not equal(batches[0], next(epoch(Loader(source, SAME, batch=8, seed=1), 0)))


@pytest.mark.parametrize("views", [SAME, UNLIKE], ids=["same", "unlike"])
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(source, views, workers):
    alone, many = Loader(source, views, batch=8, seed=0), Loader(source, views, batch=8, seed=0, workers=workers)
    for k in (0, 1):  # workers persist across epochs
        for a, b in itertools.zip_longest(epoch(alone, k), epoch(many, k)):
            assert equal(a, b)


def test_resume_in_mid_epoch(source):
    whole = list(epoch(Loader(source, SAME, batch=8, seed=0), 3))
    rest = list(Loader(source, SAME, batch=8, seed=0, workers=2).batches(3 * 6 + 4, 4 * 6))
    assert len(rest) == 2
    assert all(equal(a, b) for a, b in zip(whole[4:], rest, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_go_on_from_one_epoch_into_the_next(source, workers):
    """Steps 4 to 14 of epochs of 6: the end of one, a whole one, the beginning of a third."""
    loader = Loader(source, SAME, batch=8, seed=0, workers=workers)
    whole = [batch for k in range(3) for batch in epoch(Loader(source, SAME, batch=8, seed=0), k)]
    part = list(loader.batches(4, 15))
    assert len(part) == 11 and all(equal(a, b) for a, b in zip(whole[4:15], part, strict=True))
    assert list(loader.batches(7, 7)) == []


def test_a_source_has_its_own_order():
    class Backwards(ArraySource):
        def order(self, seed: int, epoch: int) -> torch.Tensor:
            return torch.arange(len(self)).flip(0).roll(10 * seed + epoch)

    plain = array()
    loader = Loader(Backwards("array", plain.images, plain.labels), SAME, batch=25, seed=1)
    index = [batch.index.tolist() for batch in loader.batches(1, 3)]
    backwards = list(range(49, -1, -1))
    assert index[0] == [*backwards[-10:], *backwards[:-10]][25:]
    assert index[1] == [*backwards[-11:], *backwards[:-11]][:25]


def test_a_loader_left_half_way_ends_its_workers_at_once():
    """Without the garbage collector, which would close torch's queues first, so that the workers wait for ever, and
    without another thread: two that wait for one process take its end from each other."""
    before = set(multiprocessing.active_children())
    loader = Loader(array(), SAME, batch=8, seed=0, workers=1)
    batches = loader.batches(0, 6)
    next(batches)
    (worker,) = set(multiprocessing.active_children()) - before
    held = loader._workers._loader  # as by a thread
    gc.disable()
    try:
        del batches, loader
        worker.join(20)
        assert held is not None
        assert not worker.is_alive()
    finally:
        gc.enable()


def test_an_epoch_left_early_does_not_leak_into_the_next(source):
    loader = Loader(source, SAME, batch=8, seed=0, workers=2)
    next(epoch(loader, 0))
    again = list(epoch(loader, 1))
    assert all(equal(a, b) for a, b in zip(again, epoch(Loader(source, SAME, batch=8, seed=0), 1), strict=True))


@pytest.mark.parametrize("world", [2, 4])
def test_processes_share_each_global_batch(source, world):
    whole = list(epoch(Loader(source, SAME, batch=8, seed=0), 0))
    ranks = [list(epoch(Loader(source, SAME, batch=8, seed=0, rank=r, world=world), 0)) for r in range(world)]
    for step, batch in enumerate(whole):
        parts = [ranks[r][step] for r in range(world)]
        assert torch.equal(batch.index, torch.cat([p.index for p in parts]))
        for v in range(2):
            assert torch.equal(batch.views[v], torch.cat([p.views[v] for p in parts]))


def test_a_sample_looks_the_same_in_any_batch_size(source):
    small = {
        int(i): x
        for b in epoch(Loader(source, SAME, batch=2, seed=0), 0)
        for i, x in zip(b.index, b.views[1], strict=True)
    }
    large = next(epoch(Loader(source, SAME, batch=40, seed=0), 0))
    assert all(torch.equal(small[int(i)], x) for i, x in zip(large.index, large.views[1], strict=True))


@pytest.mark.parametrize("workers", [0, 1])
def test_torch_generator_is_left_alone(workers):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = list(epoch(Loader(array(), SAME, batch=8, seed=0, workers=workers), 0))
    list(plain_batches(array(), size=16, workers=workers))
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(7)
    second = list(epoch(Loader(array(), SAME, batch=8, seed=0, workers=workers), 0))
    assert all(equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_callers_threads_are_left_alone():
    threads = torch.get_num_threads()
    for _ in epoch(Loader(array(), SAME, batch=8, seed=0), 0):
        assert torch.get_num_threads() == threads


def test_workers_leave_signals_to_the_main_process():
    loader = Loader(array(400), SAME, batch=8, seed=0, workers=2)
    batches = epoch(loader, 0)
    next(batches), next(batches)  # one of each worker: both have started
    iterator: Any = loader._workers._loader._iterator
    for process in iterator._workers:
        os.kill(process.pid, signal.SIGTERM)
        os.kill(process.pid, signal.SIGINT)
    assert len(list(batches)) == loader.steps_per_epoch - 2


# ------------------------------------------------------------------------------------------------------------ bad files


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_files_are_replaced_counted_and_named(tmp_path, workers):
    root = folder(tmp_path)
    clean = list(epoch(Loader(open_data(str(root)).train, SAME, batch=10, seed=0), 0))
    spoil(root, "a/004.png", "a/006.png", "b/049.png")
    source = open_data(str(root)).train
    loader = Loader(source, SAME, batch=10, seed=0, workers=workers, max_bad=0.1)
    batches = list(epoch(loader, 0))
    assert set(loader.unreadable) == {"a/004.png", "a/006.png", "b/049.png"}
    assert all(reason and str(root) not in reason for reason in loader.unreadable.values())
    paths = paths_of(source)
    stand_in = {paths.index("a/004.png"): paths.index("a/008.png"), paths.index("a/006.png"): paths.index("a/008.png")}
    stand_in[49] = 0  # the substitute of the last file is the first
    for was, now in zip(clean, batches, strict=True):
        assert now.index.tolist() == [stand_in.get(i, i) for i in was.index.tolist()]
        assert torch.equal(now.label, source.labels[now.index])
        same = now.index == was.index
        assert torch.equal(now.views[0][same], was.views[0][same])
    # The substitute also occurs as itself: all three views differ.
    eights = torch.cat([b.views[0][b.index == paths.index("a/008.png")] for b in batches])
    assert len(eights) == len(eights.unique(dim=0)) == 3


def test_processes_share_what_they_cannot_read(tmp_path, monkeypatch):
    root = folder(tmp_path)
    spoil(root, "a/004.png", "a/006.png", "b/049.png")
    source = open_data(str(root)).train
    loader = Loader(source, SAME, batch=10, seed=0, max_bad=0.1)
    elsewhere = {paths_of(source).index(p): (p, "torn") for p in ("a/004.png", "b/049.png")}
    monkeypatch.setattr("contrastkit.dist.gather_objects", lambda own: [own, elsewhere])
    source.take(torch.tensor([paths_of(source).index("a/006.png")]))
    assert loader.has_news
    assert sorted(path for path, _ in loader.share_unreadable()) == ["a/004.png", "a/006.png", "b/049.png"]
    assert set(loader.unreadable) == {"a/004.png", "a/006.png", "b/049.png"}
    assert not loader.has_news and loader.share_unreadable() == []


def test_too_many_bad_files_stop_the_run(tmp_path):
    root = folder(tmp_path)
    spoil(root, "a/004.png")
    loader = Loader(open_data(str(root)).train, SAME, batch=10, seed=0)
    with pytest.raises(
        UserError, match=r"1 of 50 images of .* cannot be read, more than .*0.01 .*--max-bad.*a/004.png"
    ):
        list(epoch(loader, 0))
    with pytest.raises(UserError, match=r"a/004\.png"):
        list(plain_batches(open_data(str(root)).train, size=16))


def test_files_that_vanish_are_bad_too(tmp_path):
    source = open_data(str(folder(tmp_path))).train
    (tmp_path / "a" / "000.png").unlink()
    loader = Loader(source, SAME, batch=10, seed=0, max_bad=0.5)
    list(epoch(loader, 0))
    assert list(loader.unreadable) == ["a/000.png"]
    for path in paths_of(source):
        (tmp_path / path).unlink(missing_ok=True)
    with pytest.raises(UserError, match="no image of .* can be read"):
        list(epoch(Loader(source, SAME, batch=10, seed=0, max_bad=1.0), 0))


# ------------------------------------------------------------------------------------------------------------ bad input


def test_a_batch_larger_than_the_set():
    with pytest.raises(UserError, match=r"batch \(64\) is larger than array, which has 50 images"):
        Loader(array(), SAME, batch=64, seed=0)


def test_a_batch_that_processes_cannot_share():
    with pytest.raises(UserError, match=r"batch \(9\) must be a multiple of the number of processes \(2\)"):
        Loader(array(), SAME, batch=9, seed=0, world=2)
    with pytest.raises(UserError, match="at least one image"):
        Loader(array(), SAME, batch=0, seed=0)
