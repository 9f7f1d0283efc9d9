"""``contrastkit ablate``: the trainings of a debate, published and measured side by side."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from contrastkit.cli import screen
from contrastkit.cli.options import Data, DataDir, Debug, Device, Download, Json, Seed, ValFraction, Workers, where
from contrastkit.cli.report import write_json

from contrastkit.names import DEFAULT_DATA


def ablate(
    what: Annotated[
        Literal["byol-norm"],
        typer.Argument(help="byol-norm: does BYOL need batch norm? Seven trainings (Fetterman & Albrecht 2020)."),
    ],
    data: Data = None,
    data_dir: DataDir = None,
    download: Download = False,
    val_fraction: ValFraction = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="This row of the recipe; else the images and the encoder choose.", metavar="ROW"),
    ] = None,
    encoder: Annotated[str | None, typer.Option(help="tiny, a torchvision ResNet, or timm:NAME.")] = None,
    epochs: Annotated[int | None, typer.Option(help="The budget of each training; else the recipe's.", min=1)] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate of all of them; else the recipe's.", min=0)] = None,
    monitor_every: Annotated[int, typer.Option(help="Epochs between looks at kNN and collapse; 0: never.", min=0)] = 1,
    workers: Workers = None,
    device: Device = "auto",
    seed: Seed = 0,
    out: Annotated[
        Path | None, typer.Option(help="The folder of all runs; else runs/ablate-byol-norm-DATA.", metavar="FOLDER")
    ] = None,
    json: Json = None,
    debug: Debug = False,
) -> None:
    """Run the trainings of a debate, row by row; the same command again goes on where it was left."""
    from contrastkit.cli.train import choose, resolved

    from contrastkit.ablation import REPORT, byol_norm
    from contrastkit.data import default_workers
    from contrastkit.methods.byol import ABLATION
    from contrastkit.train import Options

    options = Options(
        data=resolved(data or DEFAULT_DATA),
        data_dir=where(data_dir),
        download=download,
        val_fraction=val_fraction,
        device=device,
        seed=seed,
        monitor_every=monitor_every,
    )
    opened = options.open_data()
    options = replace(options, workers=default_workers(opened.pretrain) if workers is None else workers)
    given = {"encoder": encoder, "epochs": epochs, "lr": lr}
    name, base = choose("byol", {key: value for key, value in given.items() if value is not None}, opened, recipe)
    folder = out or Path("runs") / f"ablate-{what}-{Path(opened.name).stem}"
    screen.say(f"{len(ABLATION)} rows of {name} on {opened.name}, {base.epochs} epochs each; folder {folder}")
    rows: list[dict[str, Any]] = []
    with screen.TrainingScreen() as watch:
        for row in byol_norm(name, base, options, opened, out=folder, watch=watch):
            rows.append(row)
            screen.say(f"{row['name']}: kNN {row['knn']:.1f} %, linear {row['linear']:.1f} %")
    screen.table(
        f"BYOL and batch norm: linear accuracy as published, and on {opened.name}",
        ("", "published", "measured", "kNN", "effective rank", "training, s"),
        [_shown(row) for row in rows],
    )
    screen.say("published: Fetterman & Albrecht 2020, STL-10, ResNet-18, 10 epochs; measured: top-1 in %")
    screen.say(
        f"all of it is in {folder / REPORT}"
        if len(rows) == len(ABLATION)
        else f"{len(rows)} of {len(ABLATION)} rows are measured: the same command goes on"
    )
    if json is not None:
        write_json(json, rows)


def _shown(row: dict[str, Any]) -> tuple[str, ...]:
    linear = f"{row['linear']:.1f} +- {row['linear_std']:.1f}"
    rank = "" if row["rank"] is None else f"{row['rank']:.1f}"
    return (row["name"], f"{row['published']:.1f}", linear, f"{row['knn']:.1f}", rank, f"{row['seconds']:,.0f}")
