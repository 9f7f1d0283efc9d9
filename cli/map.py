"""``contrastkit map``: features in the plane."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from contrastkit.bounds import COUNT, MAPPED
from contrastkit.cli import screen
from contrastkit.cli.files import out_file
from contrastkit.cli.options import GalleryOptions, OutputOptions, takes_options
from contrastkit.cli.results import percent, write_evaluation, write_sheet


@takes_options
def map(
    *,
    gallery: GalleryOptions,
    images: Annotated[int, typer.Option(help="Images on the map, drawn by --seed if there are more."), MAPPED] = 5000,
    colour: Annotated[
        Literal["class", "cluster"] | None,
        typer.Option(help="What the colours stand for \\[class; cluster without labels]."),
    ] = None,
    k: Annotated[
        int | None,
        typer.Option("--K", "-K", help="Number of clusters to colour by \\[as of 'contrastkit cluster']."),
        COUNT,
    ] = None,
    out: Annotated[Path | None, out_file("the place of each image", ".csv")] = None,
    sheet: Annotated[Path | None, out_file("the map", ".png", default="RUN/map.png, else map.png")] = None,
    output: OutputOptions,
) -> None:
    """Draw a map of a data set on which similar images are near.

    UMAP where umap-learn is installed, else t-SNE; as points, coloured by class or cluster, and as pictures.
    """
    from contrastkit import explore
    from contrastkit.explore.projection import draw_map, write_map

    with screen.progress() as on_progress:
        shown = gallery.gallery(on_progress)
        report = explore.project(shown, images=images, colour=colour, k=k, seed=gallery.seed, on_progress=on_progress)
    screen.lines((*shown.subject.notices, *report.notices))
    screen.table(
        f"map of {report.data}, features by {report.encoder}",
        ("method", "images", "coloured by", "10 nearest kept", "at random"),
        [(report.method, f"{len(report.rows):,}", report.colour, percent(report.kept), percent(report.chance))],
    )
    if out is not None:
        write_map(report, shown, out)
        screen.say(f"places: {out}")
    reports = shown.subject.reports
    drawn = write_sheet("map", lambda file: draw_map(report, shown, file), sheet, reports, "map.png")
    write_evaluation(report.as_json(), shown.subject, output.json, reports and reports / "map.json", drawn)
