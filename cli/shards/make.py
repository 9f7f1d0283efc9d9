"""``contrastkit shards make``: write the image files of a data set into shards."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from contrastkit.bounds import COUNT
from contrastkit.cli import screen
from contrastkit.cli.options import DataOptions, OutputOptions, Workers, takes_options
from contrastkit.cli.results import write_reports

NAMED = 5  # unreadable images of a part that are named


@takes_options
def make(
    *,
    which: DataOptions,
    out: Annotated[Path, typer.Option(help="New or empty folder of the shards.", metavar="DIR")],
    per_shard: Annotated[int, typer.Option(help="Images in a tar."), COUNT] = 1000,
    max_side: Annotated[
        int | None, typer.Option(help="Shrink larger images to this longer side, in pixels \\[none is shrunk]."), COUNT
    ] = None,
    workers: Workers = None,
    output: OutputOptions,
) -> None:
    """Write a folder of images into WebDataset tars, with an index beside them."""
    from contrastkit.data import default_workers, open_data
    from contrastkit.data.pack import make_shards

    data = open_data(**vars(which))
    screen.lines(data.notices)
    if data.train.captions is not None:
        screen.say("the captions of an image are in a .txt beside it, one a line")
    with screen.progress() as on_progress:
        made = make_shards(
            data,
            out,
            per_shard=per_shard,
            max_side=max_side,
            workers=default_workers(data.train) if workers is None else workers,
            on_progress=on_progress,
        )
    for part in made:
        screen.say(f"{part.folder}: {part.images:,} images in {part.shards:,} shards")
        if part.shrunk:
            screen.say(f"  {part.shrunk:,} of them were shrunk to {max_side} pixels (--max-side)")
        if part.recoded > part.shrunk:
            screen.say(f"  {part.recoded - part.shrunk:,} others were neither JPEG nor PNG: they are PNG now")
        if part.unreadable:
            screen.say(f"  {len(part.unreadable):,} images cannot be read and are left out:")
        screen.lines(f"    {path}: {reason}" for path, reason in part.unreadable[:NAMED])
    write_reports([asdict(part) for part in made], output.json)
