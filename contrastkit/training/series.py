"""Several trainings, each in a run folder of its own: one after the other, or some at a time as processes."""

import json
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import torch

from contrastkit import dist, schema
from contrastkit.data import DataSet, Source
from contrastkit.errors import Interrupted, UserError, explain
from contrastkit.methods import Recipe
from contrastkit.methods.rows import recipes_of
from contrastkit.names import is_file
from contrastkit.options import MAY_CHANGE, Options
from contrastkit.record import json_value
from contrastkit.run import ENCODER, Run
from contrastkit.training.launch import launch
from contrastkit.training.plan import Change, Plan
from contrastkit.training.progress import NullReporter, Reporter
from contrastkit.training.signals import Signals

POLL = 0.2  # seconds in which a signal to this process reaches the others
MOST = 16_000  # letters of a traceback that are handed on
STOPPED = (signal.SIGINT, signal.SIGHUP)  # what a terminal sends to all its processes


@dataclass(frozen=True)
class Task:
    """One training of a series.

    Attributes:
        name: ``method/row``.
        out: its run folder.
        method: ``path/to/file.py:NAME`` of a method that a file defines, for another process.
        init_from: starting weights of the encoder (:func:`contrastkit.starting.open_weights`).
    """

    name: str
    recipe: Recipe
    options: Options
    out: Path
    method: str | None = None
    init_from: str | None = None

    @property
    def done(self) -> bool:
        """Whether its folder holds the finished run; not if it is damaged, which is an error of its training alone."""
        if not Run.exists(self.out) or not (self.out / ENCODER).is_file():
            return False
        try:
            record = Run.open(self.out).record
            recipe = record.recipe_of(type(self.recipe), self.out)
        except UserError:
            return False
        mine, other = self.options.to_json(), record.options.to_json()
        same = all(mine[name] == other[name] for name in mine if name not in MAY_CHANGE)
        return same and record.name == self.name and recipe == self.recipe


def train_each(
    tasks: Sequence[Task],
    *,
    data: Mapping[Path, DataSet],
    then: Callable[[Task], None] | None = None,
    jobs: int = 1,
    reporter: Reporter | None = None,
) -> Iterator[tuple[Task, Exception | None]]:
    """Train each task, and yield it when it has ended, with the error that ended it, if any: the others go on.

    A run that is finished is not trained again, and one that is there is resumed. Each process computes with as many
    threads as this one, so that the results are the same bits for any number of ``jobs``.

    Args:
        data: the data sets that are open, by the folders of the tasks; without one, a task opens its own.
        then: called after the training of a task, in the process that trained it; with several jobs, a function that
            can be pickled.
        jobs: how many are trained at a time: 1 in this process, more in a process each. These processes stop with this
            one, however it ends, and save their state.
        reporter: receives log lines and progress of trainings in this process.

    Raises:
        Interrupted: a signal stopped a training, which has saved its state.
    """
    if jobs > 1:
        yield from _side_by_side(tasks, then, jobs)
        return
    for task in tasks:
        try:
            _train(task, data.get(task.out), reporter or NullReporter())
            if then is not None:
                then(task)
        except Exception as error:
            if isinstance(error, Interrupted) or explain(error) is None:
                raise
            yield task, error
        else:
            yield task, None


def _train(task: Task, data: DataSet | None, reporter: Reporter) -> None:
    if task.done:
        return
    start: dict[str, Any] = {"resume": Run.exists(task.out), "init_from": task.init_from}
    plan = Plan.of(task.name, task.recipe, task.options, task.out, data=data, **start)
    outcome = launch(plan, reporter=reporter)
    if outcome.signal is not None:
        raise Interrupted(outcome.signal)


def require_alone(what: str) -> None:
    """
    Raises:
        UserError: torchrun has started several processes, each of which would train all.
    """
    if dist.world_size() > 1:
        raise UserError(f"{what} runs in one process: start it without torchrun")


def require_same(file: Path, head: Mapping[str, Any], source: Source, what: str) -> dict[str, Any] | None:
    """What the file of an earlier start of a series records besides its ``head``; None if there is no such file.

    Args:
        head: all that determines the results, as JSON has it; ``data`` is the fingerprint of ``source``.
        what: the series in words, for the message.

    Raises:
        UserError: the file belongs to another series, or cannot be read.
    """
    if not file.exists():
        return None
    try:
        recorded = json.loads(file.read_text("utf-8"))
        if not source.changed_since(recorded["data"]):
            head = {**head, "data": recorded["data"]}
        other = [key.replace("_", " ") for key in head if recorded.get(key) != head[key]]
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{file} is damaged: move it away, the runs beside it are kept") from error
    if other:
        raise UserError(f"{file} is {what} with another {', another '.join(other)}: choose another --out")
    return {key: value for key, value in recorded.items() if key not in head}


def as_recorded(
    base: Plan, file: Path, change: Change, *, method: str, row: str | None = None, precision: str | None = None
) -> Plan:
    """The plan of a series with the row and the precision of its earlier start, which were chosen to fit the machine.

    Args:
        base: a plan for this machine.
        file: the record of the series; without one, or with a damaged one, the plan stays.
        change: what puts the user's values into a recipe, as for ``base``.
        method: of :func:`contrastkit.methods.rows.recipes_of`.
        row, precision: what the user asked for, which stays.
    """
    try:
        recorded = schema.typed(dict[str, Any], json_value(file.read_bytes()), "") if file.is_file() else {}
    except UserError:
        return base
    name, recipes = recorded.get("name"), recipes_of(method)
    if row is None and isinstance(name, str) and name != base.name and name in recipes:
        base = replace(base, name=name, recipe=change(recipes[name]))
    if precision in (None, "auto") and (known := recorded.get("precision")) in ("float32", "bfloat16"):
        base = replace(base, options=replace(base.options, precision=known))
    return base


# ------------------------------------------------------------------------------------------------------- processes


class ProgramError(Exception):
    """An error in the program, in the process of a task; its message is the traceback of there."""


@dataclass(frozen=True)
class _Job:
    task: Task
    process: SpawnProcess
    answer: Connection


def _side_by_side(
    tasks: Sequence[Task], then: Callable[[Task], None] | None, jobs: int
) -> Iterator[tuple[Task, Exception | None]]:
    waiting, running = list(tasks), list[_Job]()
    told = False
    with Signals(lambda line: None) as signals:
        try:
            while running or (waiting and signals.received is None):
                while waiting and len(running) < jobs and signals.received is None:
                    running.append(_start(waiting.pop(0), then))
                if signals.received is not None and not told:
                    told = True
                    for job in running:
                        job.process.terminate()
                ended = wait([job.process.sentinel for job in running], timeout=POLL)
                for job in [job for job in running if job.process.sentinel in ended]:
                    running.remove(job)
                    error = _answer(job)
                    if isinstance(error, ProgramError):  # as without processes; the others save their state
                        for other in running:
                            other.process.terminate()
                        for other in running:
                            other.process.join()
                        raise error
                    if not isinstance(error, Interrupted):
                        yield job.task, error
                    elif signals.received is None:  # else it is not this run that ends
                        name = signal.Signals(error.signal).name
                        yield job.task, UserError(f"{name} stopped its process: repeat the command to go on with it")
        finally:
            for job in running:
                job.process.kill()
                job.process.join()
    if signals.received is not None:
        raise Interrupted(signals.received)


def _start(task: Task, then: Callable[[Task], None] | None) -> _Job:
    """Start a process that does not take the signals of the terminal, which this one hands on."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    context = multiprocessing.get_context("spawn")
    arguments = (task.method, pickle.dumps((task, then)), torch.get_num_threads(), sender)
    process = context.Process(target=_work, args=arguments, name=task.out.name)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPED)  # which the process inherits
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        sender.close()
    return _Job(task, process, receiver)


def _work(method: str | None, pickled: bytes, threads: int, answer: Connection) -> None:
    """What a process does: train a task, and answer with a signal that stopped it, or with what is wrong."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    try:
        if method is not None and is_file(method):
            recipes_of(method)  # whose class is in the pickled recipe
        task, then = pickle.loads(pickled)
        _train(task, None, NullReporter())
        if then is not None:
            then(task)
        answer.send(None)
    except Interrupted as stop:
        answer.send(stop.signal)
    except Exception as error:
        if (why := explain(error)) is not None:
            answer.send(UserError(why))
        else:  # short enough for the pipe, which nobody empties before this process ends
            name = multiprocessing.current_process().name
            answer.send(ProgramError(f"{name}:\n{traceback.format_exc()[-MOST:]}"))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _answer(job: _Job) -> Exception | None:
    job.process.join()
    try:
        said: Exception | int | None = job.answer.recv()
    except EOFError:  # it could not answer
        code = job.process.exitcode or 0
        if code == -signal.SIGTERM:
            return Interrupted(signal.SIGTERM)
        how = f"by {signal.Signals(-code).name}, perhaps for want of memory" if code < 0 else f"with code {code}"
        return UserError(f"its process ended {how}: repeat the command, with fewer --jobs")
    finally:
        job.answer.close()
    return Interrupted(said) if isinstance(said, int) else said
