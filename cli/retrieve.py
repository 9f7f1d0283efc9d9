"""``contrastkit retrieve``: retrieval of one view of an image by another, of captions and of images."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contrastkit.cli import screen
from contrastkit.cli.options import EncodingOptions, OutputOptions, takes_options
from contrastkit.cli.results import interval, percent, write_evaluation

if TYPE_CHECKING:
    from contrastkit.evaluate.ranking import Retrieval


@takes_options
def retrieve(
    *,
    run: Annotated[Path, typer.Argument(help="Run folder of a cmc or clip training.", metavar="RUN")],
    method: Annotated[
        str | None,
        typer.Option(
            help="File and name of the run's method, if it was trained with a file.", metavar="PATH/TO/FILE.PY:NAME"
        ),
    ] = None,
    baselines: Annotated[
        bool,
        typer.Option(
            "--baselines",
            help="With a run of clip, also rank by ridge regression on the words of captions, without its text tower.",
        ),
    ] = False,
    encoding: EncodingOptions,
    output: OutputOptions,
) -> None:
    """Evaluate how well one view or modality retrieves another (cmc), or images captions and captions images (clip)."""
    from contrastkit import evaluate

    subject = encoding.open(run=run)
    screen.lines(subject.notices)
    with screen.progress() as on_progress:
        report = evaluate.retrieve(subject, method=method, baselines=baselines, on_progress=on_progress)
    screen.lines(report.notices)
    pairs = list(report.retrieval.items())
    rows: list[tuple[str, ...]] = []
    linear = {} if report.bag_of_words is None else report.bag_of_words.retrieval
    for (name, pair), (_, following) in zip(pairs, [*pairs[1:], (None, None)], strict=True):
        rows += _rows(name, pair) + (_rows("  bag of words", linear[name]) if name in linear else [])
        if following is None or following.chance != pair.chance:
            rows.append(("  chance", *map(percent, pair.chance.values()), f"{pair.chance_rank:g}"))
    one = pairs[0][1]
    screen.table(
        f"retrieval on {report.data}, {one.queries:,} test images",
        ("query -> key", *(f"recall@{k}" for k in one.recall), "median rank"),
        rows,
    )
    write_evaluation(report.as_json(), subject, output.json, subject.reports and subject.reports / "retrieval.json")


def _rows(name: str, pair: "Retrieval") -> list[tuple[str, ...]]:
    return [
        (name, *map(percent, pair.recall.values()), f"{pair.median_rank:g}"),
        ("  95 % interval", *map(interval, pair.interval.values()), ""),
    ]
