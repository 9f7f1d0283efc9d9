"""``contrastkit ablate``: a published ablation, measured again."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from contrastkit.bounds import BATCH, EPOCHS, NOT_NEGATIVE, PERIOD
from contrastkit.cli import screen
from contrastkit.cli.options import DataOptions, Device, OutputOptions, Seed, ValFraction, Workers, takes_options
from contrastkit.cli.results import write_picture, write_reports

if TYPE_CHECKING:
    from contrastkit.ablation import AblationReport, AblationRow
    from contrastkit.training import Plan
    from contrastkit.training.plan import Change


@takes_options
def ablate(
    *,
    what: Annotated[
        Literal["projector", "augmentations", "multi-crop", "dictionary", "siamese", "byol-norm", "norm"],
        typer.Argument(
            help="projector, augmentations (SimCLR); multi-crop (SwAV and SimCLR); dictionary (MoCo's keys and "
            "momentum); siamese (what keeps SimSiam from collapsing); byol-norm, norm (does BYOL need batch norm?)."
        ),
    ],
    dataset: DataOptions,
    val_fraction: ValFraction = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="Row of the recipe \\[chosen to fit the images, the encoder and the device].", metavar="ROW"),
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help="tiny, a torchvision or CIFAR ResNet, or timm:NAME \\[the recipe's].")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of each training \\[the recipe's]."), EPOCHS] = None,
    batch: Annotated[int | None, typer.Option(help="Images per step \\[the recipe's]."), BATCH] = None,
    lr: Annotated[
        float | None, typer.Option(help="Learning rate of every training \\[the recipe's]."), NOT_NEGATIVE
    ] = None,
    monitor_every: Annotated[
        int, typer.Option(help="Epochs between evaluations of kNN accuracy and collapse; 0 disables them."), PERIOD
    ] = 1,
    workers: Workers = None,
    device: Device = "auto",
    seed: Seed = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder for all runs \\[runs/ablate-WHAT-DATA].", metavar="FOLDER")
    ] = None,
    output: OutputOptions,
) -> None:
    """Repeat a published ablation: one training for each of its rows, beside the published results.

    After an interruption the same command resumes.
    """
    from contrastkit.ablation import ABLATIONS, REPORT
    from contrastkit.training.plan import plan, replaced
    from contrastkit.training.series import as_recorded

    numbers = {"encoder": encoder, "epochs": epochs, "batch": batch, "lr": lr}
    numbers = {name: value for name, value in numbers.items() if value is not None}
    options = {
        **vars(dataset), "val_fraction": val_fraction, "device": device, "seed": seed,
        "monitor_every": monitor_every, "workers": workers,
    }  # fmt: skip
    options = {name: value for name, value in options.items() if value is not None}
    method, change = ABLATIONS[what].method, replaced(numbers)
    base = plan(method, options, change=change, encoder=encoder, row=recipe)
    folder = out or Path("runs") / f"ablate-{what}-{Path(base.data.name).stem}"
    base = as_recorded(base, folder / REPORT, change, method=method, row=recipe)
    screen.say(f"{base.name} on {base.data.name}, {base.recipe.epochs} epochs per row; folder {folder}")
    _measure(what, base, change, folder, output.json)


def _measure(what: str, base: "Plan", change: "Change", folder: Path, json: Path | None) -> None:
    """Train and measure the rows, and report those that are measured."""
    from contrastkit.ablation import AblationReport, ablate

    rows: list[AblationRow] = []
    try:
        with screen.TrainingScreen() as reporter:
            for row in ablate(what, base, change, out=folder, reporter=reporter):
                rows.append(row)
                screen.say(f"{row.name}: kNN {row.knn:.1f} %, linear {row.linear:.1f} %")
    finally:  # also after a signal
        if rows:
            _report(AblationReport.of(what, base, rows), folder, json)


def _report(report: "AblationReport", folder: Path, json: Path | None) -> None:
    """Print the table and the source of its numbers, and draw the chart."""
    from contrastkit.ablation import ABLATIONS, CHART, REPORT, draw

    ablation = ABLATIONS[report.ablation]
    screen.table(
        f"{ablation.title}: linear accuracy as published, and on {report.data}",
        ("", "published", "measured", "kNN", "effective rank", "training, s"),
        list(map(_cells, report.rows)),
    )
    screen.say(f"published: {ablation.source}: {ablation.unit}; measured: top-1 in %")
    screen.say(f"its claim: {ablation.claim}")
    if len(report.rows) == len(ablation.rows):
        screen.say(f"full report: {folder / REPORT}")
    else:
        screen.say(f"{len(report.rows)} of {len(ablation.rows)} rows measured so far: repeat the command to resume")
    write_picture("chart", lambda path: draw(report, path), None, folder / CHART)
    write_reports(report.as_json(), json)


def _cells(row: "AblationRow") -> tuple[str, ...]:
    linear = f"{row.linear:.1f} +- {row.linear_std:.1f}"
    rank = "" if row.rank is None else f"{row.rank:.1f}"
    published = f"{row.published:.1f}" if isinstance(row.published, float) else row.published or ""
    return (row.name, published, linear, f"{row.knn:.1f}", rank, f"{row.seconds:,.0f}")
