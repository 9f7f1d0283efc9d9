"""``contrastkit duplicates``: images that are copies of one another."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contrastkit.bounds import COSINE
from contrastkit.checkpoint import write_json
from contrastkit.cli import screen
from contrastkit.cli.files import out_file
from contrastkit.cli.options import GalleryOptions, OutputOptions, takes_options
from contrastkit.cli.results import write_reports, write_sheet

if TYPE_CHECKING:
    from contrastkit.explore import DuplicatesReport
    from contrastkit.explore.copies import Kind

ROWS = 20  # of the table
LISTED = 100_000  # pairs in the run's own report


@takes_options
def duplicates(
    *,
    gallery: GalleryOptions,
    threshold: Annotated[
        float, typer.Option(help="Least cosine of the features of a pair, from -1 to 1."), COSINE
    ] = 0.95,
    out: Annotated[Path | None, out_file("all pairs", ".csv")] = None,
    sheet: Annotated[
        Path | None, out_file("a picture sheet", ".png", default="RUN/duplicates.png, else duplicates.png")
    ] = None,
    output: OutputOptions,
) -> None:
    """Find images of a data set that are copies of one another.

    Pairs whose features are similar, in groups that they connect. Pixels tell copies, also resized, recompressed and
    mirrored ones, from pictures that are merely similar.
    """
    from contrastkit import explore
    from contrastkit.explore.duplication import draw_duplicates, write_pairs

    with screen.progress() as on_progress:
        images = gallery.gallery(on_progress)
        report = explore.duplicates(images, threshold, on_progress=on_progress)
    screen.lines((*images.subject.notices, *report.notices))
    _show(report)
    if out is not None:
        write_pairs(report, out)
        screen.say(f"pairs: {out}")
    reports = images.subject.reports
    if report.groups:  # else there is nothing to draw
        write_sheet("pictures", lambda file: draw_duplicates(report, images, file), sheet, reports, "duplicates.png")
    if reports:
        own = reports / "duplicates.json"
        write_reports(report.as_json(LISTED), None, own)
        if len(report.pairs) > LISTED:
            screen.say(f"{own} lists the first {LISTED:,} pairs: --out FILE.csv or --json FILE has them all")
    if output.json is not None:
        write_json(output.json, report.as_json())


def _show(report: "DuplicatesReport") -> None:
    rows = []
    for number, group in enumerate(report.groups[:ROWS], start=1):
        cosines = [pair.similarity for pair in group.pairs]
        span = f"{min(cosines):.3f} - {max(cosines):.3f}"
        rows.append((str(number), str(len(group.rows)), _counted(group.kinds), span, report.names[group.rows[0]]))
    what = f"duplicates in {report.data}, {report.images:,} images, cosine >= {report.threshold:g}"
    screen.table(f"{what}, features by {report.encoder}", ("group", "images", "pairs", "cosine", "first image"), rows)
    how = "all pairs compared" if report.exact else "approximate: an index of faiss may have missed pairs"
    screen.say(f"{len(report.pairs):,} pairs ({how}): {_counted(report.counts) or 'none'}")
    if crossing := report.crossing:
        screen.say(f"{crossing.total():,} of them are of a training and a test image: {_counted(crossing)}")
    if len(report.groups) > ROWS:
        screen.say(f"{len(report.groups) - ROWS:,} more groups: --out FILE.csv or --json FILE has them all")


def _counted(kinds: "Counter[Kind]") -> str:
    from contrastkit.explore.copies import Kind

    return ", ".join(f"{kinds[kind]:,} {kind}" for kind in Kind if kinds[kind])
