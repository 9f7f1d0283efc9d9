"""``contrastkit report``: one page on one run or several."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from contrastkit.cli import screen
from contrastkit.cli.files import out_file
from contrastkit.cli.options import OutputOptions, takes_options
from contrastkit.cli.results import write_reports


@takes_options
def report(
    *,
    runs: Annotated[list[Path], typer.Argument(help="Run folders written by 'contrastkit train'.", metavar="RUN...")],
    out: Annotated[
        Path | None, out_file("the page", ".html", default="RUN/report.html; of several ./report.html")
    ] = None,
    output: OutputOptions,
) -> None:
    """Write a page on one run or several: a single HTML file.

    Training, curves, views, accuracies, numbers of the features, neighbours, map, attention, environment, and the
    commands that repeat all that.
    """
    from contrastkit.report import report as written

    page = written(runs, out)
    screen.lines(page.notices)
    screen.say(f"{page.file}: {page.size / 2**20:.1f} MiB, {page.pictures} pictures; open it in a browser")
    write_reports({**asdict(page), "file": str(page.file)}, output.json)
