"""`python -m benchmarks.learning [--data NAME] [--data-dir DIR] [METHOD[:SEED] ...]`: what each method learns on one
budget.

Trains each method's `tiny` row for EPOCHS epochs (about ten CPU minutes: five on two cores), judges it by kNN and the
linear probe, and appends a row to benchmarks/results/learning-DATA.json; what is measured already is skipped and what
was stopped goes on, so that hours of work can be done piece by piece. Beside the methods: the untrained encoder, raw
pixels, and the same encoder trained with labels for as many epochs. Without names, all of them with seed 0. At the end
the bar chart is drawn and the table printed, CIFAR-10's into the README too (`--table` alone does just that).
"""

import argparse
import json
import math
import os
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.table import README, RESULTS, between
from contrastkit import names, optim
from contrastkit.checkpoint import write_text, write_with
from contrastkit.data import DataSet, Loader, Source, open_data
from contrastkit.evaluate.judge import judge
from contrastkit.methods import RECIPES, BuildContext, Recipe
from contrastkit.parts.encoder import Encoder
from contrastkit.run import load
from contrastkit.train import Options, image_size, train
from contrastkit.types import Modality

# Whose tiny encoder stays as drawn: MoCo's is that of all but three, which are compared with their own.
UNTRAINED = {
    "untrained": "moco-v2",
    "untrained CPC v1": "cpc-v1",
    "untrained CPC v2": "cpc-v2",
    "untrained CMC": "cmc",
}
BASELINES = ("raw pixels", *UNTRAINED, "supervised")
METHODS = tuple(
    dict.fromkeys(
        name for name in names.METHODS.values() if RECIPES[f"{name}/tiny"].modality is not Modality.SOUND
    )
)
BEGIN, END = "<!-- python -m benchmarks.learning --table -->", "<!-- end of learning -->"
EPOCHS = 12  # for all; the tiny rows themselves have twice as many


def budgeted(name: str) -> Recipe:
    """The ``tiny`` row of a method on the budget of all."""
    return replace(RECIPES[f"{name}/tiny"], epochs=EPOCHS)


def judged(data: DataSet, encoder: Encoder | None, size: int) -> dict[str, Any]:
    """kNN and linear accuracy on the test images, in %; None stands for raw pixels."""
    found = judge(encoder, data, size=size)
    return {
        "knn": 100 * found.knn.top1,
        "linear": 100 * found.linear.accuracy.top1,
        "linear_std": 100 * (found.linear.std or 0.0),
    }


def supervised(source: Source, recipe: Recipe, seed: int, size: int) -> Encoder:
    """The recipe's encoder trained with labels for its epochs on the first of its views, by SGD."""
    assert source.labels is not None
    torch.manual_seed(seed)
    encoder = recipe.build_encoder(BuildContext(channels=source.channels, size=size, images=len(source)))
    model = nn.Sequential(encoder, nn.Linear(encoder.dim, int(source.labels.max()) + 1))
    model = model.to(memory_format=torch.channels_last)
    loader = Loader(source, recipe.views[:1], batch=recipe.batch, seed=seed)
    groups = [optim.ParamGroup(params=list(model.parameters()))]
    optimizer = optim.build_optimizer(groups, "sgd", lr=0.1, weight_decay=recipe.weight_decay)
    steps, step = recipe.epochs * loader.steps_per_epoch, 0
    for epoch in range(recipe.epochs):
        for batch in loader.batches(epoch * loader.steps_per_epoch, (epoch + 1) * loader.steps_per_epoch):
            rate = optim.learning_rate(step / steps, schedule="cosine", base_lr=0.1, warmup=1 / recipe.epochs)
            with torch.autocast("cpu", torch.bfloat16, enabled=torch.cpu._is_avx512_bf16_supported()):
                logits = model(batch.views[0].to(memory_format=torch.channels_last))
            F.cross_entropy(logits.float(), batch.label).backward()
            optim.apply_schedule(optimizer, step / steps, rate)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
    return encoder.eval()


def measure(name: str, seed: int, data: DataSet, options: Options, runs: Path) -> dict[str, Any]:
    """One row: a method or a baseline, trained where it is to be trained, and judged."""
    source = data.train
    recipe = budgeted(UNTRAINED.get(name, name if name in METHODS else "moco-v2"))
    size = image_size(recipe, source.size)
    row: dict[str, Any] = {"method": name, "seed": seed, "epochs": 0, "cpu_minutes": None}
    if name == "raw pixels":
        return row | judged(data, None, size)
    if name in UNTRAINED:
        torch.manual_seed(seed)
        encoder = recipe.build_encoder(BuildContext(channels=source.channels, size=size, images=len(source)))
        return row | judged(data, encoder.eval(), size)
    out, began = runs / f"{name}-{seed}", time.process_time()
    resume = (out / "recipe.json").exists()
    if name == "supervised":
        encoder = supervised(data.pretrain, recipe, seed, size)
    else:
        outcome = train(f"{name}/tiny", recipe, options, out=out, resume=resume, data=data)
        if not outcome.finished or outcome.signalled:
            raise SystemExit(f"{name}: stopped; the same command goes on")
        encoder = load(out)
    row |= {"epochs": EPOCHS, "cpu_minutes": None if resume else (time.process_time() - began) / 60}
    return row | judged(data, encoder, size)


def table(rows: list[dict[str, Any]]) -> str:
    """A line for each method, over its seeds; its encoder untrained is the yardstick."""
    lines = [
        "| method | seeds | epochs | CPU minutes | kNN | above untrained | linear probe |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in (*BASELINES, *METHODS):
        seeds = [row for row in rows if row["method"] == name]
        if seeds:
            own = next((u for u, method in UNTRAINED.items() if method == name), "untrained")
            yardstick = [row["knn"] for row in rows if row["method"] == own]
            gain = statistics.fmean(row["knn"] for row in seeds) - statistics.fmean(yardstick or [math.nan])
            minutes = [row["cpu_minutes"] for row in seeds if row["cpu_minutes"] is not None]
            cells = (
                name,
                len(seeds),
                seeds[0]["epochs"] or "",
                f"{statistics.fmean(minutes):.1f}" if minutes else "",
                spread([row["knn"] for row in seeds]),
                "" if name in UNTRAINED else f"{gain:+.1f}",
                spread([row["linear"] for row in seeds]),
            )
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    """The mean, and the standard deviation over seeds where there are several."""
    mean = f"{statistics.fmean(values):.1f}"
    return f"{mean} +- {statistics.stdev(values):.1f}" if len(values) > 1 else mean


def chart(rows: list[dict[str, Any]], path: Path) -> None:
    """Bars of kNN and linear accuracy."""
    from matplotlib.figure import Figure

    shown = [name for name in (*BASELINES, *METHODS) if any(row["method"] == name for row in rows)]
    figure = Figure(figsize=(8, 0.42 * len(shown) + 1), layout="constrained")
    axis = figure.subplots()
    for offset, key, label in ((-0.2, "knn", "kNN"), (0.2, "linear", "linear probe")):
        values = [[row[key] for row in rows if row["method"] == name] for name in shown]
        errors = [statistics.stdev(v) if len(v) > 1 else 0.0 for v in values]
        places = [i + offset for i in range(len(shown))]
        axis.barh(places, [statistics.fmean(v) for v in values], 0.4, xerr=errors, label=label)
    axis.set_yticks(range(len(shown)), shown)
    axis.invert_yaxis()
    axis.set_xlabel("top-1 accuracy on the test images, %")
    axis.grid(axis="x", alpha=0.3)
    axis.legend(loc="lower right")
    write_with(path, lambda file: figure.savefig(file, format="png", dpi=110))


def section() -> str:
    """What stands between the README's marks."""
    return table(measured(RESULTS / "learning-cifar10.json"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", nargs="*", metavar="METHOD[:SEED]", help=f"{', '.join((*BASELINES, *METHODS))}")
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("CONTRASTKIT_DATA"))
    parser.add_argument("--runs", type=Path, default=Path("runs/learning"), help="where the run folders go")
    parser.add_argument("--table", action="store_true", help="measure nothing, write the table and the chart")
    asked = parser.parse_args()
    path = RESULTS / f"learning-{asked.data}.json"
    wanted = [] if asked.table else asked.what or [*BASELINES, *METHODS]
    for word in wanted:
        name, _, seed = word.partition(":")
        if name not in (*BASELINES, *METHODS) or not (seed or "0").isdigit():
            parser.error(f"'{word}' is none of {', '.join((*BASELINES, *METHODS))}, or those with :SEED")
    data = open_data(asked.data, data_dir=asked.data_dir) if wanted else None
    for word in wanted:
        name, _, seed = word.partition(":")
        if any((row["method"], row["seed"]) == (name, int(seed or 0)) for row in measured(path)):
            print(f"{word}: measured already")
            continue
        assert data is not None
        options = Options(data=asked.data, data_dir=asked.data_dir, seed=int(seed or 0), monitor_every=6)
        row = measure(name, int(seed or 0), data, options, asked.runs)
        print(f"{word}: {row}", flush=True)
        write_text(path, json.dumps([*measured(path), row], indent=1) + "\n")
    chart(measured(path), path.with_suffix(".png"))
    print(table(measured(path)))
    if asked.data == "cifar10":
        write_text(README, between(README.read_text(), BEGIN, END, section()))


def measured(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text()) if path.exists() else []


if __name__ == "__main__":
    main()
