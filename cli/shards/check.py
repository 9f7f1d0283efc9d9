"""``contrastkit shards check``: compare tars with their index."""

from typing import Annotated

import typer

from contrastkit.cli import screen
from contrastkit.cli.options import Debug, takes_options
from contrastkit.errors import UserError


@takes_options
def check(
    *,
    folder: Annotated[
        str, typer.Argument(help="Folder of tars, or of parts such as train/ and val/, or its URL.", metavar="DIR|URL")
    ],
    debug: Debug = False,
) -> None:
    """Read every tar and say what differs from its index, one line each; the exit code is then 2."""
    from contrastkit.data.checks import check_shards
    from contrastkit.data.shards import folder_of

    with screen.progress() as on_progress:
        problems, n = check_shards(folder_of(folder), on_progress)
    screen.lines(problems)
    if problems:
        raise UserError(f"{folder} is not as its index says: make the shards anew, or mend what is named above")
    screen.say(f"{folder}: {n:,} images are as the index says")
