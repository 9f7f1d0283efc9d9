"""``contrastkit embed``: write features to a file."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from contrastkit.cli import screen
from contrastkit.cli.options import OutputOptions, SubjectOptions, out_file, takes_options
from contrastkit.cli.report import write_reports


@takes_options
def embed(
    *,
    subject: SubjectOptions,
    out: Annotated[Path, out_file("the features", ".npz")] = Path("features.npz"),
    split: Annotated[Literal["train", "test", "all"], typer.Option(help="Part of the data set to embed.")] = "all",
    output: OutputOptions,
) -> None:
    """Write the features of a data set to an .npz file.

    Arrays: features [N, D] float32, labels [N] int64 (-1: none), split [N], classes, paths [N], readable [N], and
    environment [N] where an .npz data set has it.
    """
    from contrastkit import evaluate

    opened = subject.open()
    screen.lines(opened.notices)
    with screen.progress() as on_progress:
        embedding = evaluate.embed(opened, split=split, on_progress=on_progress)
    screen.lines(embedding.notices)
    embedding.save(out)
    write_reports(embedding.as_json(), output.json)
    n, d = embedding.features.shape
    screen.say(f"{out}: {n:,} x {d} features of {embedding.data} by {embedding.encoder}")
