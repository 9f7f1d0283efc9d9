"""``contrastkit retrieve``: retrieval of one view of an image by another."""

from pathlib import Path
from typing import Annotated

import typer

from contrastkit.cli import screen
from contrastkit.cli.options import EncodingOptions, OutputOptions, takes_options
from contrastkit.cli.results import percent, write_reports


@takes_options
def retrieve(
    *,
    run: Annotated[Path, typer.Argument(help="Run folder of a cmc training.", metavar="RUN")],
    method: Annotated[
        str | None,
        typer.Option(
            help="File and name of the run's method, if it was trained with a file.", metavar="PATH/TO/FILE.PY:NAME"
        ),
    ] = None,
    encoding: EncodingOptions,
    output: OutputOptions,
) -> None:
    """Evaluate how well one view or modality of an image retrieves another (cmc)."""
    from contrastkit import evaluate

    subject = encoding.open(run=run)
    screen.lines(subject.notices)
    with screen.progress() as on_progress:
        report = evaluate.retrieve(subject, method=method, on_progress=on_progress)
    screen.lines(report.notices)
    rows = [
        (name, *map(percent, pair.recall.values()), f"{pair.median_rank:g}") for name, pair in report.retrieval.items()
    ]
    one = next(iter(report.retrieval.values()))
    chance = ("chance", *(percent(one.chance(k)) for k in one.recall), f"{(one.n + 1) / 2:g}")
    screen.table(
        f"retrieval on {report.data}, {one.n:,} test images",
        ("query -> key", *(f"recall@{k}" for k in one.recall), "median rank"),
        [*rows, chance],
    )
    write_reports(report.as_json(), output.json, subject.reports and subject.reports / "retrieval.json")
