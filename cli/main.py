"""``contrastkit``: the commands, and the one border that errors cross."""

import os
import sys
from typing import Annotated

import typer
from contrastkit.cli import screen
from contrastkit.cli.ablate import ablate
from contrastkit.cli.bench_kernels import bench_kernels
from contrastkit.cli.causal import causal_app
from contrastkit.cli.embed import embed
from contrastkit.cli.info import info
from contrastkit.cli.knn import knn
from contrastkit.cli.methods import methods
from contrastkit.cli.probe import probe
from contrastkit.cli.retrieve import retrieve
from contrastkit.cli.stable import stable_app
from contrastkit.cli.train import train_app
from contrastkit.cli.views import views

import contrastkit
from contrastkit.errors import UserError

app = typer.Typer(
    name="contrastkit",
    help="Learn visual representations without labels, evaluate them, and make them hold up when the data shift.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(train_app, name="train")
for _command in (knn, probe, retrieve, embed, ablate, methods):
    app.command()(_command)
app.add_typer(causal_app, name="causal")
app.add_typer(stable_app, name="stable")
for _command in (info, views, bench_kernels):
    app.command()(_command)


def main(args: list[str] | None = None) -> int:
    """Run the command line; return its exit code: 0, 2 for bad input (one line says what), 130 for Ctrl-C."""
    args = sys.argv[1:] if args is None else args
    code = _run(args)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # The threads of gloo may abort a process that Python takes down in its own order: leave at once.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _run(args: list[str]) -> int:
    try:
        code = app(args, standalone_mode=False, prog_name="contrastkit")
        if code == 130:  # what typer makes of Ctrl-C
            screen.error("interrupted")
        return code if isinstance(code, int) else 0
    except (UserError, typer.TyperException) as error:
        if "--debug" in args:
            raise
        screen.error(error.format_message() if isinstance(error, typer.TyperException) else str(error))
        return 2
    except typer.Exit as stop:
        return stop.exit_code
    except (KeyboardInterrupt, typer.Abort):
        screen.error("interrupted")
        return 130
    except BrokenPipeError:  # the reader of our output has gone: nothing is wrong
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except RuntimeError as error:
        if "--debug" in args or type(error).__name__ != "OutOfMemoryError":  # by name: torch may not be imported
            raise
        screen.error("the GPU is out of memory: lower --batch, or --size")
        return 2
    except OSError as error:  # no permission, no space: the system's own words say it
        if "--debug" in args:
            raise
        screen.error(str(error))
        return 2


def _version(asked: bool) -> None:
    if asked:
        screen.say(f"contrastkit {contrastkit.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass
