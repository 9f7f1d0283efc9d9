"""``contrastkit shards check``: compare tars with their index."""

from pathlib import Path
from typing import Annotated

import typer

from contrastkit.cli import screen
from contrastkit.cli.options import Debug, takes_options
from contrastkit.errors import UserError


@takes_options
def check(
    *,
    folder: Annotated[Path, typer.Argument(help="Folder of tars, or of parts such as train/ and val/.", metavar="DIR")],
    debug: Debug = False,
) -> None:
    """Read every tar and say what differs from its index, one line each; the exit code is then 2."""
    from contrastkit.data.shards import check_shards

    with screen.progress() as on_progress:
        problems, n = check_shards(folder, on_progress)
    screen.lines(problems)
    if problems:
        raise UserError(f"{folder} is not as its index says: make the shards anew, or mend what is named above")
    screen.say(f"{folder}: {n:,} images are as the index says")
