"""``contrastkit shards index``: keep the index of tars from elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

from contrastkit.cli import screen
from contrastkit.cli.options import Debug, takes_options


@takes_options
def index(
    *,
    folder: Annotated[
        Path, typer.Argument(help="Folder of tars on a disk, or of parts such as train/ and val/.", metavar="DIR")
    ],
    debug: Debug = False,
) -> None:
    """Write an index beside tars that have none, so that their headers are read only once."""
    from contrastkit.data.checks import write_indexes

    with screen.working("reading the headers of the tars"):
        written = write_indexes(folder)
    for path, found in written.items():
        screen.lines(f"{path}: {notice}" for notice in found.notices)
        screen.say(
            f"{path}: {len(found.names):,} images in {len(found.shards):,} shards, {len(found.classes):,} classes"
            + ("" if found.captions is None else ", captions")
        )
