"""Processes that load data: what they raise is told as it was raised, and their end waits for nobody."""

import functools
import multiprocessing
import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset

import contrastkit.data.workers as workers_module
from contrastkit.data.slots import Slots
from contrastkit.data.source import UnreadableError
from contrastkit.data.workers import Workers
from contrastkit.errors import UserError, explain

LONG = 1000.0  # seconds


class Work(Dataset[Any]):
    """A task is a number that comes back squared, an exception to raise, a time to sleep, a file to fail at, or a
    function to call."""

    def __getitem__(self, task: Any) -> Any:
        if callable(task):
            return task()
        if isinstance(task, str):
            raise UnreadableError(1, task, "damaged")
        if isinstance(task, Exception):
            raise task
        if isinstance(task, float):
            time.sleep(task)
        return task**2


def children() -> set[BaseProcess]:
    return set(multiprocessing.active_children())


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_results_are_in_the_order_of_the_tasks(workers: int) -> None:
    with Workers(Work(), workers=workers) as pool:
        assert list(pool.map(range(50))) == [n**2 for n in range(50)]
        assert list(pool.map([7, 5])) == [49, 25]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_is_told_as_it_was_raised(workers: int) -> None:
    with Workers(Work(), workers=workers) as pool:
        results = pool.map([1, UserError("no image can be read"), 3])
        assert next(results) == 1
        with pytest.raises(UserError, match=r"^no image can be read$") as caught:
            next(results)
    if workers:
        assert "__getitem__" in str(caught.value.__cause__)  # where it was raised, for --debug


def test_an_error_that_cannot_be_sent_is_described() -> None:
    with Workers(Work(), workers=1) as pool, pytest.raises(RuntimeError, match=r"^UnreadableError: a.png: damaged$"):
        list(pool.map(["a.png"]))


def larger_than_the_shared_memory() -> torch.Tensor:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # for files in memory, too
    return torch.zeros(1000)


@pytest.mark.parametrize(
    ("task", "says"),
    [(larger_than_the_shared_memory, "ran out of shared memory: enlarge /dev/shm"), (threading.Lock, None)],
)
def test_a_result_that_cannot_be_sent_is_an_error(task: Any, says: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "PATIENCE", 10)
    with Workers(Work(), workers=1) as pool, pytest.raises(Exception, match="/torch_|cannot pickle") as caught:
        list(pool.map([1, task]))
    line = explain(caught.value)
    assert line is None if says is None else says in (line or "")


def test_a_task_that_cannot_be_sent_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "PATIENCE", 10)
    with Workers(Work(), workers=1) as pool, pytest.raises(Exception, match="pickle"):
        list(pool.map([1, lambda: 0]))


def test_a_task_is_sent_without_the_rest_of_its_tensor() -> None:
    tasks = workers_module._Tasks(Slots(0, 0))
    tasks.current = [torch.arange(10**5)[3:5]]
    ((message, slot),) = tasks
    assert slot is None and len(message) < 1000
    assert torch.equal(pickle.loads(message), torch.tensor([3, 4]))


def test_results_may_hold_tensors_of_any_kind() -> None:
    tensors = [torch.arange(6).view(2, 3), torch.empty(0), torch.arange(12)[::3], torch.tensor(3.0)]
    with Workers(Work(), workers=1) as pool:
        for _ in range(2):  # the second time they have been shared
            (found,) = pool.map([functools.partial(dict, x=tensors, same=tensors[0])])
            assert all(map(torch.equal, found["x"], tensors)) and torch.equal(found["same"], tensors[0])


def count_files() -> tuple[int, torch.Tensor]:
    return len(os.listdir("/proc/self/fd")), torch.ones(100)


def test_what_has_been_sent_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tensor travels as an open file, and its memory lives as long as that."""
    monkeypatch.setattr(workers_module, "PATIENCE", 20)
    with Workers(Work(), workers=1) as pool:
        counts = [n for n, _ in pool.map([count_files] * 40)]
    assert max(counts[-5:]) < min(counts[5:10]) + 10


def test_too_many_open_files_are_told_as_that() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Workers(Work(), workers=1) as pool:
        results = pool.map([functools.partial(torch.ones, 4)] * 100)
        kept = [next(results)]
        os.close(lowest := os.dup(0))  # their numbers may have gaps
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        try:
            with pytest.raises(RuntimeError) as caught:
                kept += results
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "ulimit -n" in str(explain(caught.value))


def test_a_stuck_process_is_not_waited_for() -> None:
    before = children()
    pool = Workers(Work(), workers=2)
    results = pool.map([1, 2, LONG, LONG])
    assert [next(results), next(results)] == [1, 4]
    processes = children() - before
    started = time.monotonic()
    pool.close()
    assert time.monotonic() - started < 5
    assert len(processes) == 2 and not any(process.is_alive() for process in processes)


def test_a_killed_process_is_an_error_and_the_rest_can_be_closed() -> None:
    before = children()
    pool = Workers(Work(), workers=2)
    with pytest.raises(RuntimeError, match="DataLoader worker"):
        for n, _ in enumerate(pool.map(range(10_000))):
            if n == 1:
                os.kill(next(iter(children() - before)).pid or 0, signal.SIGKILL)
    pool.close()
    assert children() == before


def test_stuck_processes_are_an_error_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "PATIENCE", 1)
    with Workers(Work(), workers=1) as pool:
        results = pool.map([3, LONG])
        assert next(results) == 9
        with pytest.raises(UserError, match="are stuck"):
            next(results)


@pytest.mark.slow
def test_a_stopped_process_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped at any moment, also while the main process receives from it."""
    monkeypatch.setattr(workers_module, "PATIENCE", 2)
    before = children()
    with Workers(Work(), workers=1) as pool, pytest.raises(UserError, match="are stuck"):
        for n, _ in enumerate(pool.map(torch.arange(10**6).split(1))):
            if n == 3:
                os.kill(next(iter(children() - before)).pid or 0, signal.SIGSTOP)
    assert children() == before


def test_one_iterator_at_a_time() -> None:
    with Workers(Work(), workers=1) as pool:
        first = pool.map(range(100))
        next(first)
        with pytest.raises(RuntimeError, match="one iterator at a time"):
            next(pool.map(range(5)))
        first.close()
        assert list(pool.map(range(5))) == [0, 1, 4, 9, 16]


@pytest.mark.slow
@pytest.mark.parametrize("end", ["raise RuntimeError('a bug')", "pass"])
def test_a_program_ends_while_its_processes_are_stuck(end: str, tmp_path: Path) -> None:
    """However it ends: an error keeps the frames of the loop alive until after multiprocessing has waited. A process
    that waits for a disk cannot even be killed."""
    cannot_be_killed = end == "pass"
    program = f"""
from contrastkit import compat
from contrastkit.data.workers import Workers
from tests.data.test_workers import LONG, Work, children
pool = Workers(Work(), workers=2)
for _ in pool.map([1, LONG, LONG]):
    if {cannot_be_killed}:
        compat.END = 0.1
        for process in children():
            process.kill = lambda: None
            print(process.pid)
    {end}
    break
"""
    with open(tmp_path / "out", "w+") as out, open(tmp_path / "err", "w+") as err:  # what is left holds pipes open
        code = subprocess.run([sys.executable, "-c", program], timeout=120, stdout=out, stderr=err).returncode
    left = [int(pid) for pid in (tmp_path / "out").read_text().split()]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert len(left) == 2 * cannot_be_killed
    assert code == (0 if cannot_be_killed else 1)
    assert "Exception ignored" not in (tmp_path / "err").read_text()
