"""``contrastkit transfer detect``: detection by a fine-tuned Faster R-CNN."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from contrastkit.bounds import BATCH, COUNT, COUNT_OR_0, POSITIVE, SIDE, Interval
from contrastkit.cli import screen
from contrastkit.cli.options import takes_options
from contrastkit.cli.results import share
from contrastkit.cli.transfer.options import TransferOptions

if TYPE_CHECKING:
    from contrastkit.transfer import DetectorRecipe, DetectReport


@dataclass(frozen=True, kw_only=True)
class DetectorOptions:
    """The detector and its training."""

    recipe: Annotated[
        Literal["tiny", "moco-voc"],
        typer.Option(help="How the detector is trained: minutes on a CPU, or as MoCo's on VOC."),
    ] = "tiny"
    head: Annotated[
        Literal["fpn", "c4"] | None,
        typer.Option(help="A feature pyramid, or the last stage on each box, as in MoCo \\[of the recipe]."),
    ] = None
    steps: Annotated[int | None, typer.Option(help="Training steps \\[of the recipe]."), COUNT] = None
    batch: Annotated[int | None, typer.Option(help="Images a step \\[of the recipe]."), BATCH] = None
    lr: Annotated[float | None, typer.Option(help="Learning rate \\[of the recipe]."), POSITIVE] = None
    size: Annotated[int | None, typer.Option(help="Shorter side of the images in pixels \\[of the recipe]."), SIDE] = (
        None
    )
    norm: Annotated[
        Literal["trained", "frozen"] | None,
        typer.Option(help="Batch norms of the encoder: trained too, or frozen as the run left them \\[trained]."),
    ] = None
    freeze: Annotated[
        int | None,
        typer.Option(help="Freeze the first layers: 1 the stem, 2 the first stage too, and so on \\[0]."),
        Interval(0, 5),
    ] = None

    def changed(self) -> "DetectorRecipe":
        """The recipe with what else is given."""
        from contrastkit.transfer import detector_recipe

        changes = vars(self).copy()
        return detector_recipe(changes.pop("recipe"), **changes)


@takes_options
def detect(
    *,
    data: Annotated[
        Path,
        typer.Option(
            help="Folder in VOC's layout (JPEGImages, Annotations, ImageSets), or one of several such folders.",
            metavar="DIR",
        ),
    ],
    options: TransferOptions,
    detector: DetectorOptions,
    resamples: Annotated[
        int, typer.Option(help="Draws of the test images for the intervals; 0 gives none."), COUNT_OR_0
    ] = 200,
) -> None:
    """Fine-tune a Faster R-CNN from an encoder.

    COCO's average precision (AP), with 95 % intervals over the test images. A training that was stopped goes on where
    it was when the same command is given again.
    """
    from contrastkit.transfer import detect as run_detect
    from contrastkit.transfer import open_boxes

    recipe = detector.changed()
    subject = options.open()
    boxes = open_boxes(data, train=options.train_list, test=options.test_list)
    screen.lines(boxes.notices)
    states = options.folder()
    with screen.progress() as on_progress:
        report = run_detect(
            subject,
            boxes,
            recipe,
            resamples=resamples,
            states=states,
            restart=options.restart,
            log=screen.say,
            on_progress=on_progress,
        )
    screen.lines((*subject.notices, *report.notices))
    _print(report, len(boxes.train), len(boxes.test))
    options.write(f"detect-{boxes.name}", report, boxes.classes, "images with true and predicted boxes")


def _print(report: "DetectReport", train: int, test: int) -> None:
    settings = report.settings
    screen.table(
        f"detection on {report.data}, {settings['head']}, {settings['steps']:,} steps, {train:,} training and {test:,} "
        f"test images of {settings['size']} px",
        ("encoder", "AP", "95 % interval", "AP50", "95 % interval", "AP75"),
        [(name, *share(each.ap), *share(each.ap50), share(each.ap75)[0]) for name, each in report.scores.items()],
    )
    classes = list(next(iter(report.scores.values())).classes)
    screen.table(
        "AP of each class, and its 95 % interval",
        ("class", *(column for name in report.scores for column in (name, ""))),
        [(name, *(cell for each in report.scores.values() for cell in share(each.classes[name]))) for name in classes],
    )
