"""``contrastkit measure``: numbers of a representation without labels, and its accuracy under shift."""

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from contrastkit.bounds import AT_LEAST_2
from contrastkit.cli import screen
from contrastkit.cli.files import out_file
from contrastkit.cli.options import Baselines, OutputOptions, SubjectOptions, takes_options
from contrastkit.cli.results import interval, percent, write_evaluation, write_picture
from contrastkit.errors import UserError

if TYPE_CHECKING:
    from contrastkit.measure import MeasureReport
    from contrastkit.measure.elsewhere import Tested
    from contrastkit.measure.shifting import Shift


CKA, SHIFT = "cka.png", "shift.png"  # in the run's folder


@takes_options
def measure(
    *,
    subject: SubjectOptions,
    baselines: Baselines = False,
    split: Annotated[Literal["train", "test"], typer.Option(help="Part of the data set to measure.")] = "train",
    images: Annotated[int, typer.Option(help="Images of that part, drawn by --seed."), AT_LEAST_2] = 5000,
    views_per_image: Annotated[
        int, typer.Option(help="Views of an image, for LiDAR and alignment (of 1,000 images at most)."), AT_LEAST_2
    ] = 10,
    views: Annotated[
        str | None,
        typer.Option(help="Augmentations for these views \\[the run's own; SimCLR's without a run].", metavar="NAME"),
    ] = None,
    cka: Annotated[
        Path | None, typer.Option(help="Compare the encoder's layers with those of this run.", metavar="RUN")
    ] = None,
    cka_chart: Annotated[Path | None, out_file("the matrix of --cka", ".png", default="RUN/cka.png")] = None,
    shift: Annotated[
        bool,
        typer.Option(
            "--shift", help="Test kNN and linear probe on corrupted test images: five corruptions, five times."
        ),
    ] = False,
    shift_data: Annotated[
        str | None,
        typer.Option(
            help="Test kNN and linear probe on another set with classes of the same names.", metavar="NAME|PATH"
        ),
    ] = None,
    shift_chart: Annotated[
        Path | None, out_file("a plot of accuracy against strength (--shift)", ".png", default="RUN/shift.png")
    ] = None,
    output: OutputOptions,
) -> None:
    """Measure a representation without labels, and with labels its accuracy under shift (--shift, --shift-data)."""
    from contrastkit import measure as library

    _require("--cka RUN", cka is not None, "--cka-chart", cka_chart)
    _require("--shift", shift, "--shift-chart", shift_chart)
    opened = subject.open(baselines=baselines)
    screen.lines(opened.notices)
    with screen.progress() as on_progress:
        report = library.measure(
            opened, split=split, images=images, views_per_image=views_per_image, views=views, cka=cka, shift=shift,
            shift_data=shift_data, data_dir=subject.data_dir, seed=subject.seed, on_progress=on_progress,
        )  # fmt: skip
    screen.lines(report.notices)
    _print_numbers(report)
    if report.shift is not None:
        _print_shift(report.shift, report)
    own, drawn = opened.reports, list[Path]()
    try:  # a picture that fails takes no numbers with it
        for picture in _pictures(report, own, cka_chart, shift_chart):
            drawn.append(picture)
    finally:
        write_evaluation(report.as_json(), opened, output.json, own and own / "measure.json", *drawn)
    for old in [own / name for name in (CKA, SHIFT) if own is not None]:
        if old.exists() and old not in drawn:
            screen.say(f"{old} is of an earlier call, not of this one")


def _pictures(
    report: "MeasureReport", own: Path | None, cka_chart: Path | None, shift_chart: Path | None
) -> Iterator[Path]:
    """Draw them one by one."""
    from contrastkit.measure import shifting, similarity

    if report.cka is not None:
        draw = partial(similarity.cka_chart, result=report.cka)
        if (drawn := write_picture("layers", draw, cka_chart, own and own / CKA)) is not None:
            yield drawn
    if report.shift is not None and report.shift.corrupted:
        draw = partial(shifting.shift_chart, result=report.shift, data=report.data)
        if (drawn := write_picture("accuracy against strength", draw, shift_chart, own and own / SHIFT)) is not None:
            yield drawn


def _require(option: str, given: bool, flag: str, chart: Path | None) -> None:
    if chart is not None and not given:
        raise UserError(f"{flag} draws what {option} computes: add it")


def _print_numbers(report: "MeasureReport") -> None:
    from contrastkit.measure.table import ROWS, written

    what = report.modality.plural
    shown = [key for key in ROWS if any(not math.isnan(getattr(own, key)) for own in report.numbers.values())]
    screen.table(
        f"{report.data}, N = {report.images:,} {report.split} {what}, n = {report.viewed:,} of them "
        f"under {report.views_per_image} views",
        ("number", "range", "better", *report.numbers),
        [(*ROWS[key], *(written(key, getattr(own, key)) for own in report.numbers.values())) for key in shown],
    )


def _print_shift(shift: "Shift", report: "MeasureReport") -> None:
    what = report.modality.plural
    whose = f"; corruptions with the constants of {shift.constants_of}" if shift.corrupted else ""
    for name in shift.clean:
        screen.table(
            f"{name}, trained on {report.data} as it is{whose}; in brackets: 95 % interval; higher is better",
            (f"test {what}", "changed by", "kNN: top-1, %", "linear probe: top-1, %"),
            [(what, how, *_accuracies(tested)) for what, how, tested in shift.rows(name)],
        )
    for name, clean in shift.clean.items():
        knn, probe = shift.mean(name, "knn"), shift.mean(name, "probe")
        if knn is not None and probe is not None:
            screen.say(
                f"{name}: mean of all corruptions: kNN {percent(knn)} ({_points(knn - clean.knn.top1)}), linear probe "
                f"{percent(probe)} ({_points(probe - clean.probe.top1)})"
            )


def _accuracies(tested: "Tested") -> tuple[str, str]:
    knn, probe = (f"{100 * each.top1:.2f} ({interval(each.interval)})" for each in (tested.knn, tested.probe))
    return knn, probe


def _points(difference: float) -> str:
    return f"{100 * difference:+.2f} points"
