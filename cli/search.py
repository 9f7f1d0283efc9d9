"""``contrastkit search``: the images nearest to a query, an image or a text."""

from pathlib import Path
from typing import Annotated

import typer

from contrastkit.bounds import COUNT
from contrastkit.cli import screen
from contrastkit.cli.files import out_file
from contrastkit.cli.options import GalleryOptions, OutputOptions, takes_options
from contrastkit.cli.results import write_reports, write_sheet

TABLES = 5  # of so many queries


@takes_options
def search(
    *,
    gallery: GalleryOptions,
    query: Annotated[
        list[str],
        typer.Option(
            help="Image, folder of images or, with a run of clip, text to search for; may be given several times.",
            metavar="IMG|TEXT",
        ),
    ],
    k: Annotated[int | None, typer.Option(help="Number of images to find for each query \\[10]."), COUNT] = None,
    sheet: Annotated[
        Path | None, out_file("a picture sheet", ".png", default="RUN/search.png, else search.png")
    ] = None,
    output: OutputOptions,
) -> None:
    """Find the images of a data set that are nearest to a query, an image or a text (clip).

    By cosine similarity of the features, compared with every image.
    """
    from contrastkit import explore
    from contrastkit.explore.searching import draw_search

    with screen.progress() as on_progress:
        images = gallery.gallery(on_progress)
        report = explore.search(images, query, k=k, on_progress=on_progress)
    screen.lines((*images.subject.notices, *report.notices))
    for name, found in list(report.matches.items())[:TABLES]:
        screen.table(
            f"{name}: nearest of {report.images:,} images of {report.data}, features by {report.encoder}",
            ("image", "cosine", "class"),
            [(match.name, f"{match.similarity:.4f}", match.label) for match in found],
        )
    if len(report.matches) > TABLES:
        screen.say(f"{len(report.matches) - TABLES:,} more queries: --json FILE has them all")
    reports = images.subject.reports
    write_sheet("pictures", lambda file: draw_search(report, images, file), sheet, reports, "search.png")
    write_reports(report.as_json(), output.json, reports and reports / "search.json")
