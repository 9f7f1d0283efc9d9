"""``contrastkit ablate``: a published ablation, measured again."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from contrastkit.bounds import BATCH, EPOCHS, NOT_NEGATIVE, PERIOD
from contrastkit.cli import screen
from contrastkit.cli.options import DataOptions, Device, OutputOptions, Seed, ValFraction, Workers, takes_options
from contrastkit.cli.results import write_reports

if TYPE_CHECKING:
    from contrastkit.ablation import AblationRow


@takes_options
def ablate(
    *,
    what: Annotated[
        Literal["byol-norm"],
        typer.Argument(help="byol-norm: does BYOL need batch norm? Seven trainings (Fetterman & Albrecht 2020)."),
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
        Path | None, typer.Option(help="Folder for all runs \\[runs/ablate-byol-norm-DATA].", metavar="FOLDER")
    ] = None,
    output: OutputOptions,
) -> None:
    """Repeat a published ablation: one training for each of its rows.

    After an interruption the same command resumes.
    """
    from contrastkit.ablation import REPORT, byol_norm
    from contrastkit.training.plan import plan, replaced
    from contrastkit.training.series import as_recorded

    numbers = {"encoder": encoder, "epochs": epochs, "batch": batch, "lr": lr}
    numbers = {name: value for name, value in numbers.items() if value is not None}
    options = {
        **vars(dataset), "val_fraction": val_fraction, "device": device, "seed": seed,
        "monitor_every": monitor_every, "workers": workers,
    }  # fmt: skip
    options = {name: value for name, value in options.items() if value is not None}
    base = plan("byol", options, change=replaced(numbers), encoder=encoder, row=recipe)
    folder = out or Path("runs") / f"ablate-{what}-{Path(base.data.name).stem}"
    base = as_recorded(base, folder / REPORT, replaced(numbers), method="byol", row=recipe)
    screen.say(f"{base.name} on {base.data.name}, {base.recipe.epochs} epochs per row; folder {folder}")
    rows: list[AblationRow] = []
    try:
        with screen.TrainingScreen() as reporter:
            for row in byol_norm(base, out=folder, reporter=reporter):
                rows.append(row)
                screen.say(f"{row.name}: kNN {row.knn:.1f} %, linear {row.linear:.1f} %")
    finally:  # also after a signal
        if rows:
            _show(rows, base.data.name, folder)
            write_reports(list(map(asdict, rows)), output.json)


def _show(rows: "list[AblationRow]", data: str, folder: Path) -> None:
    """Print the table and the sources of its numbers."""
    from contrastkit.ablation import BYOL_NORM, REPORT

    screen.table(
        f"BYOL and batch norm: linear accuracy as published, and on {data}",
        ("", "published", "measured", "kNN", "effective rank", "training, s"),
        list(map(_cells, rows)),
    )
    screen.say("published: Fetterman & Albrecht 2020, STL-10, ResNet-18, 10 epochs; measured: top-1 in %")
    if len(rows) == len(BYOL_NORM):
        screen.say(f"full report: {folder / REPORT}")
    else:
        screen.say(f"{len(rows)} of {len(BYOL_NORM)} rows measured so far: repeat the command to resume")


def _cells(row: "AblationRow") -> tuple[str, ...]:
    linear = f"{row.linear:.1f} +- {row.linear_std:.1f}"
    rank = "" if row.rank is None else f"{row.rank:.1f}"
    return (row.name, f"{row.published:.1f}", linear, f"{row.knn:.1f}", rank, f"{row.seconds:,.0f}")
