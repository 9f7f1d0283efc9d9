"""``contrastkit transfer segment``: segmentation by frozen feature maps."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from contrastkit.bounds import BATCH, COUNT, POSITIVE, SIDE, TEMPERATURE
from contrastkit.cli import screen
from contrastkit.cli.options import takes_options
from contrastkit.cli.results import share
from contrastkit.cli.transfer.options import TransferOptions
from contrastkit.errors import UserError

if TYPE_CHECKING:
    from contrastkit.transfer import LinearRecipe, Retrieval, SegmentReport


@dataclass(frozen=True, kw_only=True)
class ProtocolOptions:
    """The protocol and its numbers."""

    protocol: Annotated[
        Literal["retrieval", "linear"],
        typer.Option(
            help="retrieval: patches take the labels of the nearest training patches; linear: batch norm and a 1 x 1 "
            "convolution are trained."
        ),
    ] = "retrieval"
    k: Annotated[int | None, typer.Option(help="retrieval only: number of neighbours \\[30]."), COUNT] = None
    temperature: Annotated[
        float | None,
        typer.Option("--T", help="retrieval only: temperature T of their votes, exp(cosine / T) \\[0.02]."),
        TEMPERATURE,
    ] = None
    memory: Annotated[
        int | None, typer.Option(help="retrieval only: training patches to remember, at most \\[102,400]."), COUNT
    ] = None
    recipe: Annotated[
        Literal["tiny", "dinov3"] | None,
        typer.Option(help="linear only: how the head is trained: minutes on a CPU, or as DINOv3's \\[tiny]."),
    ] = None
    steps: Annotated[int | None, typer.Option(help="linear only: training steps \\[of the recipe]."), COUNT] = None
    batch: Annotated[int | None, typer.Option(help="linear only: images a step \\[of the recipe]."), BATCH] = None
    lr: Annotated[float | None, typer.Option(help="linear only: learning rate \\[of the recipe]."), POSITIVE] = None
    size: Annotated[
        int | None,
        typer.Option(help="Side of the square to which images are resized \\[as trained, but 16 patches or more]."),
        SIDE,
    ] = None

    def numbers(self) -> "tuple[Retrieval, LinearRecipe]":
        """Those of both protocols.

        Raises:
            UserError: some are given of the one that is not asked for.
        """
        from contrastkit.transfer import Retrieval, linear_recipe

        of_retrieval: dict[str, Any] = {"k": self.k, "T": self.temperature, "memory": self.memory}
        changes: dict[str, Any] = {"steps": self.steps, "batch": self.batch, "lr": self.lr}
        others = of_retrieval if self.protocol == "linear" else {"recipe": self.recipe, **changes}
        if given := [name for name, value in others.items() if value is not None]:
            other = "linear" if self.protocol == "retrieval" else "retrieval"
            raise UserError(f"--{given[0]} applies to --protocol {other} only")
        retrieval = Retrieval(**{name: value for name, value in of_retrieval.items() if value is not None})
        return retrieval, linear_recipe(self.recipe or "tiny", **changes)


@takes_options
def segment(
    *,
    data: Annotated[
        Path,
        typer.Option(
            help="Folder in VOC's layout (JPEGImages, SegmentationClass, ImageSets) or that of the Oxford-IIIT pets.",
            metavar="DIR",
        ),
    ],
    options: TransferOptions,
    how: ProtocolOptions,
) -> None:
    """Segment images by an encoder's frozen feature maps.

    The mean intersection over union of the classes (mIoU), with 95 % intervals over the test images.
    """
    from contrastkit.transfer import open_masks
    from contrastkit.transfer import segment as run_segment

    retrieval, linear = how.numbers()
    subject, states = options.open(), options.folder()
    with screen.progress() as on_progress:
        masks = open_masks(data, train=options.train_list, test=options.test_list, on_progress=on_progress)
        screen.lines(masks.notices)
        report = run_segment(
            subject,
            masks,
            protocol=how.protocol,
            retrieval=retrieval,
            linear=linear,
            size=how.size,
            states=states,
            restart=options.restart,
            log=screen.say,
            on_progress=on_progress,
        )
    screen.lines((*subject.notices, *report.notices))
    _print(report, len(masks.train), len(masks.test))
    options.write(f"segment-{masks.name}-{how.protocol}", report, masks.classes, "images, masks and predictions")


def _print(report: "SegmentReport", train: int, test: int) -> None:
    from contrastkit.transfer.segment import CONSTANT

    numbers = ", ".join(f"{name} {value}" for name, value in report.settings.items() if name in ("k", "T", "steps"))
    screen.table(
        f"segmentation of {report.data}, protocol {report.protocol} ({numbers}), {train:,} training and {test:,} test "
        f"images of {report.size} px",
        ("features", "mIoU", "95 % interval", "pixels right", "95 % interval"),
        [(name, *share(each.miou), *share(each.accuracy)) for name, each in report.scores.items()],
    )
    encoders = {name: each.iou for name, each in report.scores.items() if name != CONSTANT}
    screen.table(
        "intersection over union of each class, and its 95 % interval",
        ("class", *(column for name in encoders for column in (name, ""))),
        [
            (name, *(cell for iou in encoders.values() for cell in share(iou[name])))
            for name in next(iter(encoders.values()))
        ],
    )
