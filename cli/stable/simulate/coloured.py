"""``contrastkit stable simulate coloured``: images whose colour misleads in the test (Colored MNIST)."""

from pathlib import Path
from typing import Annotated

import typer

from contrastkit.bounds import SHARE
from contrastkit.cli import screen
from contrastkit.cli.files import out_file
from contrastkit.cli.options import DataOptions, OutputOptions, Seed, ValFraction, takes_options
from contrastkit.cli.results import write_reports
from contrastkit.cli.tables import numbers


@takes_options
def coloured(
    *,
    out: Annotated[Path, out_file("the coloured images", ".npz")],
    grey: DataOptions,
    val_fraction: ValFraction = None,
    environments: Annotated[
        str,
        typer.Option(
            help="Probability that colour and label disagree in each environment, the last being the test.",
            metavar="SHARE,...",
        ),
    ] = "0.1,0.2,0.9",
    flip: Annotated[float, typer.Option(help="Probability that the label disagrees with the class."), SHARE] = 0.25,
    seed: Seed = 0,
    output: OutputOptions,
) -> None:
    """Colour grey images so that colour predicts the label better than shape, except in the test (Colored MNIST)."""
    from contrastkit.data import open_data
    from contrastkit.stable.coloured import colour_images

    source = open_data(**vars(grey), val_fraction=val_fraction, seed=seed)
    images = colour_images(source, environments=numbers("--environments", environments), flip=flip, seed=seed)
    images.save(out)
    screen.say(
        f"{out}: {images.n_training:,} training and {images.n_test:,} test images of {images.source}, "
        f"{' against '.join(images.classes)}"
    )
    for agreement in images.agreements():
        screen.say(
            f"{agreement.part}, environment {agreement.environment:g}: "
            f"colour and label agree in {agreement.share:.1%} of the images"
        )
    write_reports(images.as_json(), output.json)
