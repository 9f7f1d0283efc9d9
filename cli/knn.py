"""``contrastkit knn``: nearest-neighbour accuracy of frozen features."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from contrastkit.bounds import COUNT, TEMPERATURE
from contrastkit.cli import screen
from contrastkit.cli.files import out_file
from contrastkit.cli.held_out import report_each, require_none_drawn
from contrastkit.cli.options import Baselines, ConfusionFile, OutputOptions, SubjectOptions, takes_options
from contrastkit.cli.results import (
    counts,
    interval,
    percent,
    print_environments,
    report_classes,
    write_evaluation,
    write_picture,
)
from contrastkit.names import EACH


@takes_options
def knn(
    *,
    subject: SubjectOptions,
    baselines: Baselines = False,
    k: Annotated[int, typer.Option(help="Number of neighbours."), COUNT] = 20,
    temperature: Annotated[
        float, typer.Option("--T", help="Temperature T of a neighbour's vote, exp(cosine / T)."), TEMPERATURE
    ] = 0.1,
    confusion: ConfusionFile = None,
    neighbours: Annotated[
        Path | None, out_file("a sheet of test images and their neighbours", ".png", default="RUN/knn-neighbours.png")
    ] = None,
    output: OutputOptions,
) -> None:
    """Evaluate frozen features by k-nearest neighbours.

    Neighbours by cosine similarity vote with weights exp(cosine / T) (Wu et al. 2018); nothing is trained.
    --hold-out each: each environment of DIR/ENVIRONMENT/CLASS in turn, by the images of the others.
    """
    from contrastkit import evaluate
    from contrastkit.evaluate.knn_report import neighbour_sheet

    vote: dict[str, Any] = {"k": k, "T": temperature}
    if subject.test_part == EACH:
        require_none_drawn(confusion=confusion, neighbours=neighbours)
        return report_each("kNN", subject, baselines, output, lambda part, _: evaluate.knn(part, **vote))
    opened = subject.open(baselines=baselines)
    screen.lines(opened.notices)
    with screen.progress() as on_progress:
        report = evaluate.knn(opened, **vote, on_progress=on_progress)
    screen.lines(report.notices)
    screen.table(
        f"kNN on {report.data}, k = {k}, T = {temperature:g}, {counts(opened)}",
        ("features", "top-1", "95 % interval", "top-5"),
        [(name, percent(a.top1), interval(a.interval), percent(a.top5)) for name, a in report.accuracy.items()],
    )
    print_environments(f"kNN on {report.data}", report.environments)
    own = opened.reports
    first = next(iter(report.accuracy))
    title = f"kNN by {first} on {report.data}"
    modality = opened.data.train.modality
    report_classes(title, report.per_class[first], confusion, own and own / "knn-confusion.png", items=modality.plural)
    drawn = None
    if modality.has_pixels:
        sheet = partial(neighbour_sheet, report=report, subject=opened)
        drawn = write_picture("neighbours", sheet, neighbours, own and own / "knn-neighbours.png")
    write_evaluation(report.as_json(), opened, output.json, own and own / "knn.json", drawn)
