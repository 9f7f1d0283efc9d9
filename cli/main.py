"""``contrastkit``: the list of commands, and the one place that turns errors into exit codes."""

import os
import sys
from typing import Annotated

import typer

from contrastkit.cli import screen
from contrastkit.cli.groups import group
from contrastkit.errors import UserError
from contrastkit.version import __version__

app = group(
    "contrastkit.cli",
    "train", "knn", "probe", "retrieve", "embed", "methods", "views", "ablate", "causal", "stable", "info",
    "bench-kernels",
    help="Learn representations without labels, evaluate them, estimate causal effects, and fit predictors that stay "
    "stable under shift.",
    completion=True,
)  # fmt: skip


def main(args: list[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 2 for bad input (after one line on it), 130 for Ctrl-C."""
    args = sys.argv[1:] if args is None else args
    code = _run(args)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # gloo's threads may abort the process during Python's orderly shutdown: exit at once.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _run(args: list[str]) -> int:
    try:
        code = app(args, standalone_mode=False, prog_name="contrastkit")
        if code == 130:  # typer's code for Ctrl-C
            screen.error("interrupted")
        return code if isinstance(code, int) else 0
    except (UserError, typer.TyperException) as error:
        if "--debug" in args:
            raise
        message = error.format_message() if isinstance(error, typer.TyperException) else str(error)
        if message:  # none after a group without a command, which shows its help
            screen.error(message)
        return 2
    except typer.Exit as stop:
        return stop.exit_code
    except (KeyboardInterrupt, typer.Abort):
        screen.error("interrupted")
        return 130
    except BrokenPipeError:  # as in `contrastkit ... | head`: no error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except RuntimeError as error:
        if "--debug" in args or type(error).__name__ != "OutOfMemoryError":  # by name: torch may not be imported
            raise
        screen.error("the GPU is out of memory: lower --batch or --size")
        return 2
    except OSError as error:  # no permission, disk full: the system's message says it
        if "--debug" in args:
            raise
        screen.error(str(error))
        return 2


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
