"""``contrastkit views``: images as the network sees them."""

from pathlib import Path
from typing import Annotated

import typer

from contrastkit.bounds import Interval
from contrastkit.cli import screen
from contrastkit.cli.options import DataOptions, Debug, Seed, takes_options, writable
from contrastkit.names import VIEW_NAMES

ROWS = Interval(1, 1000)


@takes_options
def views(
    *,
    name: Annotated[str, typer.Argument(help=f"Name of the augmentations: {', '.join(VIEW_NAMES)}.", metavar="VIEWS")],
    which: DataOptions,
    images: Annotated[int, typer.Option(help="Number of images, one per row of the sheet."), ROWS] = 8,
    draws: Annotated[int, typer.Option(help="Random draws of each view."), ROWS] = 4,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="PNG file to write.", metavar="FILE", callback=writable)] = Path(
        "sheet.png"
    ),
    debug: Debug = False,
) -> None:
    """Draw a sheet of images and their random views, as the network sees them."""
    from contrastkit.augment import named_views, sheet
    from contrastkit.checkpoint import write_with
    from contrastkit.data import open_data
    from contrastkit.errors import UserError

    rows = named_views(name)
    data = open_data(**vars(which))
    source = data.pretrain
    if not source.modality.has_pixels:
        raise UserError(f"{source.name} has {source.modality.plural}, which cannot be drawn: give a data set of images")
    pixels, index = source.take(source.order(seed, 0)[:images])
    picture = sheet(pixels, rows, index=index, epochs=draws, seed=seed)
    write_with(out, lambda file: picture.save(file, format="png"))
    screen.lines(data.notices)
    screen.say(f"{out}: {images} images of {source.name}, each with its views by '{name}' to the right")
