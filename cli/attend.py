"""``contrastkit attend``: what an encoder sees where in an image."""

from pathlib import Path
from typing import Annotated

import typer

from contrastkit.bounds import SHARE, SIDE
from contrastkit.checkpoint import write_json
from contrastkit.cli import screen
from contrastkit.cli.files import out_file
from contrastkit.cli.options import Device, OutputOptions, takes_options


@takes_options
def attend(
    *,
    run: Annotated[Path, typer.Argument(help="Run folder written by 'contrastkit train'.", metavar="RUN")],
    images: Annotated[list[Path], typer.Argument(help="Image files.", metavar="IMG...")],
    size: Annotated[
        int | None, typer.Option(help="Side to which images are resized; more gives finer maps \\[as trained]."), SIDE
    ] = None,
    at: Annotated[
        tuple[float, float],
        typer.Option(help="Place of the patch to compare with, from the left and from above.", metavar="X Y"),
        SHARE,
    ] = (0.5, 0.5),
    device: Device = "auto",
    out: Annotated[Path | None, out_file("the maps", ".npz")] = None,
    sheet: Annotated[Path, out_file("a picture sheet", ".png")] = Path("attend.png"),
    output: OutputOptions,
) -> None:
    """Show what the encoder of a run sees where in an image.

    Its patches in colours by principal components, their similarity to one of them, and, of a vision transformer, the
    attention of the class token in the last layer, by head.
    """
    import math

    from contrastkit import explore
    from contrastkit.explore.attending import draw_maps

    report = explore.attend(run, images, size=size, at=at, device=device)
    screen.lines(report.notices)
    h, w = report.grid
    rows = []
    for i, name in enumerate(report.names):
        row = [name, f"{h} x {w}", f"{report.similarity[i].mean():.3f}"]
        if report.entropy is not None:
            row.append(f"{report.entropy[i].min():.2f} - {report.entropy[i].max():.2f} of {math.log2(h * w):.2f}")
        rows.append(row)
    attended = ("entropy of the heads, bits",) if report.entropy is not None else ()
    screen.table(
        f"patches of {report.encoder}, images of {report.size} px",
        ("image", "patches", "mean cosine to the chosen patch", *attended),
        rows,
    )
    if report.attention is None:
        screen.say("no attention: the encoder is no vision transformer with a class token")
    if out is not None:
        report.save(out)
        screen.say(f"maps: {out}")
    if output.json is not None:
        write_json(output.json, report.as_json())
    draw_maps(report, sheet)  # last: too many images for a sheet fail here
    screen.say(f"pictures: {sheet}")
