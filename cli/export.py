"""``contrastkit export``: a run's encoder for torchvision, timm, torch or ONNX."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from contrastkit.bounds import SAMPLES
from contrastkit.cli import screen
from contrastkit.cli.files import writable
from contrastkit.cli.options import OutputOptions, takes_options
from contrastkit.cli.results import write_reports


@takes_options
def export(
    *,
    run: Annotated[Path, typer.Argument(help="Run folder written by 'contrastkit train'.", metavar="RUN")],
    to: Annotated[
        Literal["torchvision", "timm", "torch", "onnx"],
        typer.Option(help="Library that takes the encoder: weights under its names, or a program of torch or ONNX."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write the encoder to this FILE, and its model card to FILE.md \\[in the run folder].",
            metavar="FILE",
            callback=writable,
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(help="Side of the input images in pixels; of sounds, length in samples \\[as trained]."),
        SAMPLES,
    ] = None,
    output: OutputOptions,
) -> None:
    """Write a run's encoder for use without contrastkit.

    Prints the lines that load it, which were run: the largest difference from the encoder's own features is shown. A
    model card in Markdown says what was trained on what, how to load it, and the results in the run folder.
    """
    from contrastkit.export import export_encoder
    from contrastkit.export.card import facts

    with screen.working(f"exporting {run}"):
        exported = export_encoder(run, to=to, out=out, size=size)
    screen.lines(exported.notices)
    files = [("file", str(exported.out)), ("model card", str(exported.card))]
    screen.pairs(f"{run} for {to}", [*files, *facts(exported)])
    screen.say(f"\n{exported.code}")
    write_reports(exported.as_json(), output.json)
