"""Processes that load data: torch's DataLoader, with an end that waits for nobody and errors as they were raised."""

import atexit
import contextlib
import io
import os
import pickle
import signal
import sys
import threading
import traceback
import weakref
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.context import ForkContext, ForkProcess
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from contrastkit.compat import kill_workers, worker_processes
from contrastkit.data.slots import Slots
from contrastkit.errors import RESUME, UserError
from contrastkit.memory import keep_freed_memory

HELD = 2  # results in use at a time: the last and the one before it, which a loop drops after the next is there
PATIENCE = 600  # seconds without a result after which the processes count as stuck


class Workers:
    """Applies a data set's ``__getitem__`` to tasks, and yields the results in the order of the tasks.

    The processes stay alive between calls of :meth:`map`, until :meth:`close` or the end of the program. They ignore
    SIGINT, SIGTERM and SIGHUP, which schedulers and terminals send to whole groups of processes: the main process saves
    and stops, and they end with it.

    Attributes:
        ahead: how many results the processes make in advance.
    """

    def __init__(self, work: Dataset[Any], *, workers: int, pin: bool = False, room: int = 0) -> None:
        """
        Args:
            workers: number of processes; 0 uses the caller's.
            pin: move results into pinned memory.
            room: bytes of the tensors of a result, for which memory is then kept; others get new memory each time.
        """
        each = 2 if workers == 1 else 1  # batches of views are large
        self.ahead = workers * each
        slots = Slots(0 if pin or not workers else self.ahead + HELD, room)
        self._work, self._slots, self._tasks, self._busy = work, slots, _Tasks(slots), False
        self._loader: DataLoader[Any] | None = None
        if workers:
            self._loader = DataLoader(
                _Guarded(work, slots),
                batch_size=None,
                sampler=self._tasks,
                num_workers=workers,
                persistent_workers=True,
                prefetch_factor=each,
                pin_memory=pin,
                collate_fn=_unchanged,
                multiprocessing_context=_Context(),
                worker_init_fn=_begin,
                generator=torch.Generator(),  # otherwise iterating would advance torch's global generator
            )
            _alive.add(self)

    def map(self, tasks: Iterable[Any]) -> Generator[Any]:
        """
        Raises:
            Exception: what a task raises, caused by the traceback of its process.
            UserError: no result for :data:`PATIENCE` seconds.
            RuntimeError: a process was killed, or an iterator of an earlier call is still in use.
        """
        if self._loader is None:
            yield from map(self._work.__getitem__, tasks)
            return
        if self._busy:
            raise RuntimeError("these workers have one iterator at a time: finish the earlier one, or close it")
        self._tasks.current, self._busy = tasks, True
        try:
            for result in _in_time(self._loader):
                if isinstance(result, _Failure):
                    raise result.error from _WorkerTraceback(result.traceback)
                yield self._taken(result) if isinstance(result, _Placed) else result
        finally:
            self._busy = False

    def _taken(self, result: "_Placed") -> Any:
        if result.rest is None:
            self._slots.give_back(result.slot)
            return result.other
        return self._slots.read(result.slot, result.rest)

    def close(self) -> None:
        """End the processes at once, whatever they are doing."""
        _alive.discard(self)
        if self._loader is not None:
            kill_workers(self._loader)

    def __del__(self) -> None:
        if self in _alive:  # torch's own end may come too late, or in the thread of a timer that still holds the loader
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _in_time(loader: DataLoader[Any]) -> Iterator[Any]:
    """The results of a loader, whose processes are killed when none comes for :data:`PATIENCE` seconds: its own timeout
    does not count the time in which it receives a result, for which a stopped process lets it wait."""
    results = iter(loader)
    stuck = threading.Event()

    def give_up() -> None:
        stuck.set()
        for process in worker_processes(loader):
            process.kill()

    while True:
        timer = threading.Timer(PATIENCE, give_up)
        timer.daemon = True
        timer.start()
        try:
            result = next(results)
        except StopIteration:
            return
        except Exception as error:
            if not stuck.is_set():
                raise
            what = "the data-loading processes are stuck, perhaps on a disk or network: mend that or lower --batch"
            raise UserError(what + RESUME) from error
        finally:
            timer.cancel()
        yield result


_alive: "weakref.WeakSet[Workers]" = weakref.WeakSet()


@atexit.register  # runs before multiprocessing's own function, which waits for each process without a limit
def _close_all() -> None:
    for workers in list(_alive):
        workers.close()


class _WorkerTraceback(Exception):
    """The traceback of an error in another process, as text."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


@dataclass(frozen=True)
class _Failure:
    error: Exception
    traceback: str


@dataclass(frozen=True)
class _Placed:
    """A result in a slot, or ``other`` than the one that was to be there, as it did not fit."""

    slot: int
    rest: bytes | None
    other: Any = None


@dataclass(frozen=True)
class _Guarded(Dataset[Any]):
    """Returns errors instead of raising them: DataLoader would put its own words and the traceback into the message."""

    work: Dataset[Any]
    slots: Slots

    def __getitem__(self, lent: tuple[bytes, int | None]) -> Any:
        task, slot = lent
        try:
            result = self.work[pickle.loads(task)]
            if slot is not None and (rest := self.slots.write(slot, result)) is not None:
                return _Placed(slot, rest)
            _share(result)
        except Exception as error:
            return _Failure(_portable(error), traceback.format_exc())
        return result if slot is None else _Placed(slot, None, result)


def _share(message: object) -> None:
    """Move the tensors of a result into shared memory. The thread that sends it would do so later, but it
    prints an error, such as that of a full /dev/shm, and drops the message, for which the other process then waits."""
    _Sharing(io.BytesIO()).dump(message)


class _Sharing(pickle.Pickler):
    """Pickles all but tensors, which it moves. (Pickled here too, they would hold open files that nobody takes.)"""

    def persistent_id(self, value: object) -> object:
        if not isinstance(value, Tensor):
            return None
        if value.untyped_storage().nbytes():
            value.share_memory_()
        return "shared"


class _ByValue(pickle.Pickler):
    """Pickles tensors as their values. Through shared memory, a process that is killed while it takes one would make
    the main process print a traceback."""

    def reducer_override(self, value: object) -> Any:
        return (torch.from_numpy, (value.numpy(),)) if isinstance(value, Tensor) else NotImplemented


def _portable(error: Exception) -> Exception:
    with contextlib.suppress(Exception):
        pickle.loads(pickle.dumps(error))  # both ways: some exceptions cannot be made again
        return error
    return RuntimeError(f"{type(error).__name__}: {error}")


class _Tasks:
    """A sampler whose tasks can be replaced while the processes stay alive. Each has a slot for its result."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.current: Iterable[Any] = ()

    def __iter__(self) -> Iterator[tuple[bytes, int | None]]:
        self.slots.take_back()  # of earlier tasks, whose results nobody has read
        for task in self.current:
            message = io.BytesIO()
            _ByValue(message, pickle.HIGHEST_PROTOCOL).dump(task)
            yield message.getvalue(), self.slots.lend()


def _unchanged(result: Any) -> Any:
    return result


class _Process(ForkProcess):
    """Ends without a traceback where DataLoader's own part fails, as for want of memory: the main process tells it."""

    def run(self) -> None:
        try:
            super().run()
        except BaseException:
            os._exit(1)


class _Context(ForkContext):
    Process = _Process


def _begin(worker: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.excepthook = _untold
    _alive.clear()  # the main process's
    keep_freed_memory()


def _untold(*error: Any) -> None:
    """What multiprocessing's threads print if the main process no longer takes a result: it says itself why."""
