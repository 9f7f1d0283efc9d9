"""``contrastkit``: the list of commands, and the one place that turns errors into exit codes."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Annotated

import typer

from contrastkit.cli import screen, streams
from contrastkit.cli.groups import group
from contrastkit.errors import Interrupted, UserError, explain
from contrastkit.memory import keep_freed_memory
from contrastkit.version import __version__

app = group(
    "contrastkit.cli",
    "train", "sweep", "knn", "probe", "measure", "finetune", "distill", "transfer", "retrieve", "zero-shot", "embed",
    "compare", "search", "duplicates", "cluster", "map", "attend", "report", "export", "methods", "views", "ablate",
    "causal", "stable", "shards", "info", "bench-kernels", "bench-input",
    help="Learn representations without labels, evaluate them, estimate causal effects, and fit predictors that stay "
    "stable under shift.",
    completion=True,
)  # fmt: skip


def main(args: list[str] | None = None) -> int:
    """Run the command line and return its exit code: 0; 1 if a check failed; 2 for bad input, after one line on it;
    128 + the number of a signal that stopped it, such as 130 for Ctrl-C."""
    args = sys.argv[1:] if args is None else args
    keep_freed_memory()
    with streams.safe(), _unwound():
        code = _run(args)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # gloo's threads may abort the process during Python's orderly shutdown: exit at once.
        os._exit(code)
    return code


class _Stopped(BaseException):
    """A signal that nobody else has taken; no ``except Exception`` takes it."""

    def __init__(self, number: int) -> None:
        self.number = number


@contextlib.contextmanager
def _unwound() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind the command, as Ctrl-C does, so that no temporary file is left. A training takes
    them itself, and a SIGHUP that the caller ignores, as nohup does, stays ignored."""

    def stop(number: int, frame: object) -> None:
        raise _Stopped(number)

    taken = []
    if threading.current_thread() is threading.main_thread():
        taken = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) == signal.SIG_DFL]
    for number in taken:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _run(args: list[str]) -> int:
    try:
        _check_folder()
        code = app(args, standalone_mode=False, prog_name="contrastkit")
        if code == 130:  # typer's code for Ctrl-C
            screen.error("interrupted")
        return code if isinstance(code, int) else 0
    except typer.Exit as stop:
        return stop.exit_code
    except Interrupted as stop:
        return 128 + stop.signal
    except _Stopped as stop:
        screen.error(f"stopped by {signal.Signals(stop.number).name}")
        return 128 + stop.number
    except (KeyboardInterrupt, typer.Abort):
        screen.error("interrupted")
        return 130
    except Exception as error:
        if isinstance(error, typer.TyperException):
            message: str | None = error.format_message().replace(": Value error, ", ": ")  # pydantic's words
        else:
            message = explain(error)
        if message is None or "--debug" in args:
            raise
        if message:  # none after a group without a command, which shows its help
            screen.error(message)
        return 2


def _check_folder() -> None:
    """Refuse a working folder that was deleted, in which some libraries abort."""
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise UserError("the current folder no longer exists: change to another one") from error


def _version(show: bool) -> None:
    if show:
        screen.say(f"contrastkit {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass
