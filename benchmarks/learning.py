"""`python -m benchmarks.learning [--data NAME] [--data-dir DIR] [METHOD[:SEED] ...]`: what each method learns on the
same budget.

Trains each method's `tiny` row for EPOCHS epochs (about ten CPU minutes: five on two cores), evaluates it by kNN and
the linear probe, and appends a row to benchmarks/results/learning-DATA.json. Existing results are skipped and stopped
trainings resumed, so the hours of work can be split. The baselines are the untrained encoder, raw pixels, and the same
encoder trained with labels for as many epochs. Without arguments, everything runs with seed 0. The bar chart is drawn
at the end (`--chart` draws it alone).
"""

import argparse
import json
import math
import os
import statistics
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import RESULTS
from contrastkit import optim
from contrastkit.cards import CARDS
from contrastkit.checkpoint import write_text
from contrastkit.compat import cpu_has_fast_bfloat16
from contrastkit.data import DataSet, Loader, Source, open_data
from contrastkit.evaluate import EvaluationSubject
from contrastkit.evaluate.summary import summarise
from contrastkit.evaluate.supervised import LinearClassifier, train_classifier
from contrastkit.figures import INK, chart, legend
from contrastkit.loading import load
from contrastkit.methods import RECIPES, BuildContext, Recipe
from contrastkit.parts.encoder import Encoder
from contrastkit.run import Run
from contrastkit.training import Options, Plan
from contrastkit.training.launch import launch
from contrastkit.types import Modality

# The method whose untrained tiny encoder it is: MoCo's, and those of the three methods that use another one.
UNTRAINED = {
    "untrained": "moco-v2",
    "untrained CPC v1": "cpc-v1",
    "untrained CPC v2": "cpc-v2",
    "untrained CMC": "cmc",
}
BASELINES = ("raw pixels", *UNTRAINED, "supervised")
METHODS = tuple(
    name
    for name in CARDS
    if (recipe := RECIPES[f"{name}/tiny"]).modality is not Modality.SOUND and not recipe.learns_from_captions
)
EPOCHS = 12  # of all methods; the tiny rows have twice as many


def budgeted(name: str) -> Recipe:
    """The ``tiny`` row of a method on the common budget."""
    return replace(RECIPES[f"{name}/tiny"], epochs=EPOCHS)


def evaluated(data: DataSet, encoder: Encoder | None, size: int) -> dict[str, Any]:
    """kNN and linear accuracy on the test images, in %; None: raw pixels."""
    (summary,) = summarise(EvaluationSubject(data=data, encoders={"encoder": encoder}, size=size)).values()
    return summary.percentages


def supervised(source: Source, recipe: Recipe, seed: int, size: int) -> Encoder:
    """The recipe's encoder trained by SGD with labels, for the recipe's epochs and on its first view."""
    assert source.labels is not None
    torch.manual_seed(seed)
    encoder = recipe.build_encoder(BuildContext.of(source, size))
    classifier = LinearClassifier(encoder, int(source.labels.max()) + 1).to(memory_format=torch.channels_last)
    groups = [optim.ParamGroup(params=list(classifier.parameters()))]
    train_classifier(
        classifier,
        Loader(source, recipe.views[:1], batch=recipe.batch, seed=seed),
        optim.build_optimizer(groups, "sgd", lr=0.1, weight_decay=recipe.weight_decay),
        epochs=recipe.epochs,
        learning_rate=partial(optim.learning_rate, schedule="cosine", base_lr=0.1, warmup=1 / recipe.epochs),
        autocast=partial(torch.autocast, "cpu", torch.bfloat16, enabled=cpu_has_fast_bfloat16()),
    )
    return encoder.eval()


def measure(name: str, seed: int, data: DataSet, options: Options, runs: Path) -> dict[str, Any]:
    """One row of results: train a method or a baseline if necessary, and evaluate it."""
    source = data.train
    recipe = budgeted(UNTRAINED.get(name, name if name in METHODS else "moco-v2"))
    size = recipe.image_size(source.size)
    row: dict[str, Any] = {"method": name, "seed": seed, "epochs": 0, "cpu_minutes": None}
    if name == "raw pixels":
        return row | evaluated(data, None, size)
    if name in UNTRAINED:
        torch.manual_seed(seed)
        encoder = recipe.build_encoder(BuildContext.of(source, size))
        return row | evaluated(data, encoder.eval(), size)
    out, began = runs / f"{name}-{seed}", time.process_time()
    resume = Run.exists(out)
    if name == "supervised":
        encoder = supervised(data.pretrain, recipe, seed, size)
    else:
        outcome = launch(Plan.of(f"{name}/tiny", recipe, options, out, resume=resume, data=data))
        if outcome.signal is not None:
            raise SystemExit(f"{name}: stopped; repeat the command to resume")
        encoder = load(out)
    row |= {"epochs": EPOCHS, "cpu_minutes": None if resume else (time.process_time() - began) / 60}
    return row | evaluated(data, encoder, size)


def draw(rows: list[dict[str, Any]], path: Path, data: str) -> None:
    """Bars of kNN and linear accuracy."""
    names = [name for name in (*BASELINES, *METHODS) if any(row["method"] == name for row in rows)]
    most = max(Counter(row["method"] for row in rows).values())
    note = (
        f"The tiny encoder after {EPOCHS} epochs. Bars: the mean over 1 to {most} seeds; lines: +- one standard "
        "deviation, where there are several."
    )
    title = f"Top-1 accuracy on the test images of {data}"
    with chart(path, title, height=0.36 * len(names) + 1.4, note=note) as figure:
        axes = figure.subplots()
        for offset, key, label in ((-0.2, "knn", "kNN"), (0.2, "linear", "linear probe")):
            values = [[row[key] for row in rows if row["method"] == name] for name in names]
            positions = [i + offset for i in range(len(names))]
            means = [statistics.fmean(v) for v in values]
            deviations = [statistics.stdev(v) if len(v) > 1 else math.nan for v in values]
            bars = {"ecolor": INK, "capsize": 2, "elinewidth": 1}
            axes.barh(positions, means, 0.4, xerr=deviations, error_kw=bars, label=label)
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel="top-1, %", ylim=(len(names) - 0.4, -0.6))
        axes.grid(visible=False, axis="y")
        legend(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", nargs="*", metavar="METHOD[:SEED]", help=f"{', '.join((*BASELINES, *METHODS))}")
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("CONTRASTKIT_DATA"))
    parser.add_argument("--runs", type=Path, default=Path("runs/learning"), help="folder for the runs")
    parser.add_argument("--chart", action="store_true", help="only draw the chart")
    args = parser.parse_args()
    path = RESULTS / f"learning-{args.data}.json"
    requested = [] if args.chart else args.what or [*BASELINES, *METHODS]
    for word in requested:
        name, _, seed = word.partition(":")
        if name not in (*BASELINES, *METHODS) or not (seed or "0").isdigit():
            parser.error(f"'{word}' is unknown (known: {', '.join((*BASELINES, *METHODS))}; optional: :SEED)")
    data = open_data(args.data, data_dir=args.data_dir) if requested else None
    for word in requested:
        name, _, seed = word.partition(":")
        if any((row["method"], row["seed"]) == (name, int(seed or 0)) for row in measured(path)):
            print(f"{word}: already measured")
            continue
        assert data is not None
        options = Options(data=args.data, data_dir=args.data_dir, seed=int(seed or 0), monitor_every=6)
        row = measure(name, int(seed or 0), data, options, args.runs)
        print(f"{word}: {row}", flush=True)
        write_text(path, json.dumps([*measured(path), row], indent=1) + "\n")
    draw(measured(path), path.with_suffix(".png"), args.data)


def measured(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text()) if path.exists() else []


if __name__ == "__main__":
    main()
