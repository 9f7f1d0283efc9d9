"""``contrastkit zero-shot``: classification by the names of the classes."""

from pathlib import Path
from typing import Annotated

import typer

from contrastkit.cli import screen
from contrastkit.cli.options import ConfusionFile, EncodingOptions, OutputOptions, takes_options
from contrastkit.cli.results import interval, percent, report_classes, write_evaluation


@takes_options
def zero_shot(
    *,
    run: Annotated[Path, typer.Argument(help="Run folder of a clip training.", metavar="RUN")],
    classes: Annotated[
        Path | None,
        typer.Option(
            help="Names of the classes: one class a line, or CLASS<TAB>NAME; synonyms separated by commas \\[the "
            "folders' names, in words].",
            metavar="FILE",
        ),
    ] = None,
    templates: Annotated[
        Path | None,
        typer.Option(
            help='Templates, one a line, with {} where a name goes; their texts are averaged \\["a photo of a {}."].',
            metavar="FILE",
        ),
    ] = None,
    encoding: EncodingOptions,
    confusion: ConfusionFile = None,
    output: OutputOptions,
) -> None:
    """Classify images by the names of their classes (clip).

    No label is trained on: an image is of the class whose names, in words, are nearest to it (Radford et al. 2021).
    """
    from contrastkit import evaluate

    opened = encoding.open(run=run)
    screen.lines(opened.notices)
    with screen.progress() as on_progress:
        report = evaluate.zero_shot(opened, classes=classes, templates=templates, on_progress=on_progress)
    screen.lines(report.notices)
    a, texts = report.accuracy, sum(map(len, report.names.values())) * len(report.templates)
    rows = [("top-1", percent(a.top1), interval(a.interval), percent(report.chance["top1"]))]
    if report.top5_interval is not None:
        rows.append(("top-5", percent(a.top5), interval(report.top5_interval), percent(report.chance["top5"])))
    screen.table(
        f"zero-shot on {report.data}, {a.n:,} images of {len(report.names)} classes, {texts:,} texts",
        ("", "accuracy", "95 % interval", "chance"),
        rows,
    )
    title = f"zero-shot by {run} on {report.data}"
    report_classes(title, report.per_class, confusion, run / "zero-shot-confusion.png")
    write_evaluation(report.as_json(), opened, output.json, run / "zero-shot.json")
