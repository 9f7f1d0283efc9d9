"""``contrastkit``: the commands, and the one border that errors cross."""

import itertools
import math
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from contrastkit.cli import judge, screen
from contrastkit.cli.ablate import ablate
from contrastkit.cli.causal import causal_app
from contrastkit.cli.methods import methods
from contrastkit.cli.options import Data, DataDir, Debug, Download, Json, Seed, where, writable
from contrastkit.cli.stable import stable_app
from contrastkit.cli.train import train_app

import contrastkit
from contrastkit.errors import UserError
from contrastkit.names import DEFAULT_DATA, VIEW_NAMES

app = typer.Typer(
    name="contrastkit",
    help="Learn visual representations without labels, judge them, and make them hold up when the data shift.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(train_app, name="train")
app.command()(judge.knn)
app.command()(judge.probe)
app.command()(judge.retrieve)
app.command()(judge.embed)
app.command()(ablate)
app.command()(methods)
app.add_typer(causal_app, name="causal")
app.add_typer(stable_app, name="stable")


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


@app.command()
def info(json: Json = None, debug: Debug = False) -> None:
    """Show versions, devices, and which kernel serves which op."""
    from contrastkit.run import environment

    found = environment()
    if json is not None:
        write_json(json, found)
    kernels = found.pop("kernels")
    rows = [(name, value) for name, value in found.items() if name not in ("started", "command")]
    screen.pairs("contrastkit", [(name, _flat(value)) for name, value in rows])
    screen.pairs("kernels", [(name, _flat(value)) for name, value in kernels.items()])


@app.command()
def views(
    name: Annotated[str, typer.Argument(help=f"A row of augmentations: {', '.join(VIEW_NAMES)}.", metavar="VIEWS")],
    data: Data = None,
    data_dir: DataDir = None,
    download: Download = False,
    images: Annotated[int, typer.Option(help="Images on the sheet, one a row.", min=1)] = 8,
    draws: Annotated[int, typer.Option(help="Draws of each view.", min=1)] = 4,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="The picture to write.", metavar="FILE", callback=writable)] = Path(
        "sheet.png"
    ),
    debug: Debug = False,
) -> None:
    """Draw a sheet of originals and their views: what the network sees."""
    from contrastkit.augment import named_views, sheet
    from contrastkit.checkpoint import write_with
    from contrastkit.data import open_data
    from contrastkit.types import Modality

    rows = named_views(name)
    source = open_data(data or DEFAULT_DATA, data_dir=where(data_dir), download=download).pretrain
    if source.modality is Modality.SOUND:
        raise UserError(f"{source.name} holds sounds: there is nothing to see")
    pixels, index = source.take(source.order(seed, 0)[:images])
    picture = sheet(pixels, rows, index=index, epochs=draws, seed=seed)
    write_with(out, lambda file: picture.save(file, format="png"))
    screen.say(f"{out}: {images} images of {source.name}, the original left, then its views under '{name}'")


@app.command()
def bench_kernels(
    op: Annotated[str | None, typer.Option(help="Only this op.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    preset: Annotated[Literal["quick", "paper"], typer.Option(help="Which shapes.")] = "quick",
    json: Json = None,
    debug: Debug = False,
) -> None:
    """Time the kernels side by side with the best alternatives."""
    from contrastkit import bench

    rows: list[dict[str, Any]] = []
    cases = itertools.groupby(
        bench.run(op=op, device=device, dtype=dtype, preset=preset),
        key=lambda row: (row["op"], row["shape"], row["direction"]),
    )
    for case, measured in cases:  # printed as they come
        ways = list(measured)
        rows += ways
        if case[0] in bench.CEILINGS:
            screen.say(f"{case[0]} of {case[1]}, {dtype} on {device}: {ways[0]['note']}")
            continue
        ours = next(row["median_ms"] for row in ways if row["impl"] == "ours")
        title = f"{' '.join(case)}, {dtype} on {device}, floor {ways[0]['floor_ms']:.3g} ms"
        shown = [_measured(row, ours) for row in sorted(ways, key=lambda row: row["median_ms"] or float("inf"))]
        screen.table(title, ("", "median ms", "spread ms", "extra MiB", "ours is", "of the floor"), shown)
        for row in ways:
            if row["note"]:
                screen.say(f"  {row['impl']}: {row['note']}")
    if json is not None:
        write_json(json, rows)


def _measured(row: dict[str, Any], ours: float) -> tuple[str, ...]:
    if row["median_ms"] is None:
        return (row["impl"], "-", "-", "-", "-", "-")
    numbers = (row["median_ms"], row["iqr_ms"], row["extra_mib"])
    faster = "" if row["impl"] == "ours" else f"{row['median_ms'] / ours:.2f}x"
    return (row["impl"], *(f"{number:.3g}" for number in numbers), faster, f"{row['floor_ms'] / row['median_ms']:.2f}")


def write_json(path: Path, value: Any) -> None:
    """Write a report atomically; what is no finite number is null."""
    import json

    from contrastkit.checkpoint import write_text

    write_text(path, json.dumps(_finite(value), indent=2, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(held) for held in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{k}: {_flat(v)}" for k, v in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
