"""``contrastkit views``: images as the network sees them."""

from pathlib import Path
from typing import Annotated

import typer

from contrastkit.bounds import SEED, Interval
from contrastkit.cli import screen
from contrastkit.cli.files import writable
from contrastkit.cli.options import DataOptions, Debug, takes_options
from contrastkit.names import VIEW_NAMES

ROWS = Interval(1, 1000)


@takes_options
def views(
    *,
    name: Annotated[
        str,
        typer.Argument(
            help=f"A run folder, to see what that training sees, or a name of augmentations: {', '.join(VIEW_NAMES)}.",
            metavar="RUN|VIEWS",
        ),
    ],
    which: DataOptions,
    images: Annotated[int, typer.Option(help="Number of images, one per row of the sheet."), ROWS] = 8,
    draws: Annotated[int, typer.Option(help="Random draws of each view."), ROWS] = 4,
    seed: Annotated[int | None, typer.Option(help="Random seed \\[as trained, else 0]."), SEED] = None,
    out: Annotated[Path, typer.Option(help="PNG file to write.", metavar="FILE", callback=writable)] = Path(
        "sheet.png"
    ),
    debug: Debug = False,
) -> None:
    """Draw a sheet of images and their random views, as the network sees them."""
    from contrastkit.training.seen import Seen

    seen = Seen.open(name, vars(which), seed=seed)
    drawn = seen.sheet(out, images=images, draws=draws)
    screen.lines(seen.notices)
    screen.say(f"{out}: {drawn} images of {seen.source.name}, each with its views by '{seen.name}' to the right")
