"""``contrastkit embed``: write features to a file."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from contrastkit.cli import screen
from contrastkit.cli.options import OutputOptions, SubjectOptions, takes_options, writable
from contrastkit.cli.report import write_reports


@takes_options
def embed(
    *,
    which: SubjectOptions,
    out: Annotated[Path, typer.Option(help=".npz file to write.", metavar="FILE", callback=writable)] = Path(
        "features.npz"
    ),
    split: Annotated[Literal["train", "test", "all"], typer.Option(help="Part of the data set to embed.")] = "all",
    output: OutputOptions,
) -> None:
    """Write the features of a data set to an .npz file.

    Arrays: features [N, D] float32, labels [N] int64 (-1: none), split [N], classes.
    """
    from contrastkit import evaluate

    subject = which.open()
    screen.lines(subject.notices)
    with screen.progress() as on_progress:
        embedding = evaluate.embed(subject, split=split, on_progress=on_progress)
    embedding.save(out)
    write_reports(embedding.as_json(), output.json)
    n, d = embedding.features.shape
    screen.say(f"{out}: {n:,} x {d} features of {embedding.data} by {embedding.encoder}")
