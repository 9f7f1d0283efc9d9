"""``contrastkit embed``: write features to a file."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from contrastkit.cli import screen
from contrastkit.cli.files import out_file
from contrastkit.cli.options import OutputOptions, SubjectOptions, takes_options
from contrastkit.cli.results import write_reports


@takes_options
def embed(
    *,
    subject: SubjectOptions,
    out: Annotated[Path, out_file("the features", ".npz, .npy, .csv or .parquet")] = Path("features.npz"),
    split: Annotated[Literal["train", "test", "all"], typer.Option(help="Part of the data set to embed.")] = "all",
    tokens: Annotated[
        bool, typer.Option("--tokens", help="Features of each position of the feature maps, before pooling.")
    ] = False,
    output: OutputOptions,
) -> None:
    """Write the features of a data set to a file.

    .npz: features [N, D] float32 (with --tokens [N, h, w, C]), labels [N] int64 (-1: none), split [N], classes, paths
    [N], readable [N], image_id [N], origin, and environment [N] where the data set has it. .npy: the features alone,
    written as they are made, for more than fit in memory; the rest goes to NAME.rows.npz. .csv, .parquet: a table with
    a row for each image.
    """
    from contrastkit import evaluate

    opened = subject.open()
    screen.lines(opened.notices)
    with screen.progress() as on_progress:
        embedding = evaluate.embed(opened, split=split, tokens=tokens, out=out, on_progress=on_progress)
    screen.lines(embedding.notices)
    write_reports(embedding.as_json(), output.json)
    n, *shape = embedding.features.shape
    made = embedding.origin
    screen.say(f"{out}: {n:,} x {' x '.join(map(str, shape))} features of {made.data} by {made.encoder}")
