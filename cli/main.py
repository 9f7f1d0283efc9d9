"""``contrastkit``: the list of commands, and the one place that turns errors into exit codes."""

import os
import sys
from typing import Annotated

import typer

from contrastkit.cli import screen, streams
from contrastkit.cli.groups import group
from contrastkit.errors import Interrupted, explain
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
    """Run the command line and return its exit code: 0; 1 if a check failed; 2 for bad input, after one line on it;
    128 + the number of a signal that stopped it, such as 130 for Ctrl-C."""
    args = sys.argv[1:] if args is None else args
    with streams.safe():
        code = _run(args)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # gloo's threads may abort the process during Python's orderly shutdown: exit at once.
        os._exit(code)
    return code


def _run(args: list[str]) -> int:
    try:
        code = app(args, standalone_mode=False, prog_name="contrastkit")
        if code == 130:  # typer's code for Ctrl-C
            screen.error("interrupted")
        return code if isinstance(code, int) else 0
    except typer.Exit as stop:
        return stop.exit_code
    except Interrupted as stop:
        return 128 + stop.signal
    except (KeyboardInterrupt, typer.Abort):
        screen.error("interrupted")
        return 130
    except Exception as error:
        message = error.format_message() if isinstance(error, typer.TyperException) else explain(error)
        if message is None or "--debug" in args:
            raise
        if message:  # none after a group without a command, which shows its help
            screen.error(message)
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
