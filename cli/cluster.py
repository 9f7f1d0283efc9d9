"""``contrastkit cluster``: k-means of features."""

from pathlib import Path
from typing import Annotated

import typer

from contrastkit.bounds import COUNT
from contrastkit.cli import screen
from contrastkit.cli.files import out_file
from contrastkit.cli.options import GalleryOptions, OutputOptions, takes_options
from contrastkit.cli.results import percent, write_reports, write_sheet


@takes_options
def cluster(
    *,
    gallery: GalleryOptions,
    k: Annotated[
        int | None,
        typer.Option("--K", "-K", help="Number of clusters \\[that of the classes; 10 without labels]."),
        COUNT,
    ] = None,
    out: Annotated[Path | None, out_file("the cluster of each image", ".csv")] = None,
    sheet: Annotated[
        Path | None, out_file("a picture sheet", ".png", default="RUN/cluster.png, else cluster.png")
    ] = None,
    output: OutputOptions,
) -> None:
    """Group the images of a data set by k-means of their features.

    Labels are not used; where there are some, purity, NMI and ARI say how the clusters agree with them.
    """
    from contrastkit import explore
    from contrastkit.explore.clustering import draw_clusters, write_clusters

    with screen.progress() as on_progress:
        images = gallery.gallery(on_progress)
        report = explore.cluster(images, k, seed=gallery.seed, on_progress=on_progress)
    screen.lines((*images.subject.notices, *report.notices))
    screen.table(
        f"clusters of {report.data}, {len(report.rows):,} images, features by {report.encoder}",
        ("cluster", "images", "mean cosine", "commonest class", "its share"),
        [
            (str(number), f"{each.size:,}", f"{each.similarity:.3f}", each.label, percent(each.share))
            for number, each in enumerate(report.clusters, start=1)
        ],
    )
    if agreement := report.agreement:
        screen.say(
            f"with the classes of {agreement.n:,} images: purity {percent(agreement.purity)}, NMI {agreement.nmi:.3f} "
            f"(by chance {agreement.nmi_chance:.3f}), ARI {agreement.ari:.3f}"
        )
    if out is not None:
        write_clusters(report, images, out)
        screen.say(f"clusters: {out}")
    reports = images.subject.reports
    write_sheet("pictures", lambda file: draw_clusters(report, images, file), sheet, reports, "cluster.png")
    write_reports(report.as_json(), output.json, reports and reports / "cluster.json")
