"""``contrastkit bench-input``: how fast images are read, decoded and augmented, beside other libraries."""

import itertools
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from contrastkit.bounds import SIDE, Interval
from contrastkit.cli import screen
from contrastkit.cli.options import DataOptions, OutputOptions, takes_options
from contrastkit.cli.results import write_reports
from contrastkit.names import VIEW_NAMES

if TYPE_CHECKING:
    from contrastkit.bench.input import Speed

IMAGES = Interval(1, 10_000)


@takes_options
def bench_input(
    *,
    which: DataOptions,
    views: Annotated[
        str, typer.Option(help=f"Name of the augmentations: {', '.join(VIEW_NAMES)}.", metavar="VIEWS")
    ] = "moco-v2",
    size: Annotated[
        int | None, typer.Option(help="Side of the largest views, the others in proportion \\[as named]."), SIDE
    ] = None,
    images: Annotated[int, typer.Option(help="Number of images, drawn from the set."), IMAGES] = 64,
    output: OutputOptions,
) -> None:
    """Time reading, decoding and augmenting images on one thread, beside other libraries."""
    from contrastkit.augment import named_views
    from contrastkit.bench.input import Sample
    from contrastkit.data import open_data

    rows = named_views(views)
    data = open_data(**vars(which))
    screen.lines(data.notices)
    sample = Sample.of(data.pretrain, rows, images=images, size=size)
    sides = ", ".join(
        f"{len(list(equal))} x {side} px" for side, equal in itertools.groupby(v.size for v in sample.views)
    )
    screen.say(f"{len(sample.source)} images of {data.pretrain.name}, views of '{views}': {sides}; one thread")
    speeds = []
    for stage, group in itertools.groupby(sample.speeds(), key=lambda speed: speed.stage):
        speeds += (measured := list(group))
        _table(stage, measured)  # once it is measured
    write_reports(list(map(asdict, speeds)), output.json)


def _table(stage: str, measured: "Sequence[Speed]") -> None:
    """Print one stage, the fastest implementation first, and why others are not there."""
    rates = {speed.impl: speed.images_per_second for speed in measured if speed.images_per_second is not None}
    screen.table(
        stage,
        ("", "images/s", "IQR", "speedup of ours"),
        [
            (
                speed.impl,
                f"{rates[speed.impl]:,.0f}",
                f"{speed.iqr:.0%}",
                "" if speed.impl == "ours" else f"{rates['ours'] / rates[speed.impl]:.2f}x",
            )
            for speed in sorted(measured, key=lambda speed: -rates.get(speed.impl, 0))
            if speed.impl in rates
        ],
    )
    screen.lines(f"  {speed.impl}: {speed.note}" for speed in measured if speed.note)
