"""`python -m benchmarks.learning [--data NAME] [--data-dir DIR] [METHOD[:SEED] ...]`: what each method learns on one
budget.

Trains each method's `tiny` row, judges it by kNN and the linear probe, and appends a row to
benchmarks/results/learning-DATA.json; what is measured already is skipped and what was stopped goes on, so that hours
of work can be done piece by piece. Beside the methods: the untrained encoder, raw pixels, and the same encoder trained
with labels for as many epochs. Without names, all of them with seed 0. At the end learning-DATA.md and its bar chart
are written anew (`--table` alone does just that).
"""

import argparse
import functools
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.table import RESULTS
from contrastkit import names, optim
from contrastkit.checkpoint import write_text, write_with
from contrastkit.data import DataSet, Loader, Source, open_data
from contrastkit.evaluate.features import encode, raw_pixels
from contrastkit.evaluate.knn import knn
from contrastkit.evaluate.probe import linear_probe
from contrastkit.methods import RECIPES, Recipe
from contrastkit.parts.encoder import Encoder, build_encoder
from contrastkit.run import load
from contrastkit.train import Options, image_size, train

BASELINES = ("raw pixels", "untrained", "supervised")
METHODS = tuple(dict.fromkeys(name for name in names.METHODS.values() if f"{name}/tiny" in RECIPES))


def budget() -> Recipe:
    """The recipe whose encoder, epochs and views stand for all: the baselines follow it."""
    return RECIPES["moco-v2/tiny"]


def judged(train_part: Source, test: Source, encoder: Encoder | None, size: int) -> dict[str, Any]:
    """kNN (k = 20, T = 0.1) and linear accuracy on the test images, in %; None stands for raw pixels."""
    make = (
        functools.partial(raw_pixels, size=size) if encoder is None else functools.partial(encode, encoder, size=size)
    )
    of_train, of_test = make(train_part), make(test)
    assert train_part.labels is not None
    classes = int(train_part.labels.max()) + 1
    probe = linear_probe(of_train, of_test, n_classes=classes)
    return {
        "knn": 100 * knn(of_train, of_test, n_classes=classes).top1,
        "linear": 100 * probe.accuracy.top1,
        "linear_std": 100 * (probe.std or 0.0),
    }


def supervised(source: Source, seed: int, size: int) -> tuple[Encoder, float]:
    """The encoder trained with labels for the budget's epochs on one of its views, by SGD, and the seconds it took."""
    recipe = budget()
    assert source.labels is not None
    torch.manual_seed(seed)
    encoder = build_encoder(recipe.encoder, channels=source.channels, size=size)
    model = nn.Sequential(encoder, nn.Linear(encoder.dim, int(source.labels.max()) + 1))
    model = model.to(memory_format=torch.channels_last)
    loader = Loader(source, recipe.views[:1], batch=recipe.batch, seed=seed)
    groups = [optim.ParamGroup(params=list(model.parameters()))]
    optimizer = optim.build_optimizer(groups, "sgd", lr=0.1, weight_decay=recipe.weight_decay)
    steps, step, began = recipe.epochs * loader.steps_per_epoch, 0, time.perf_counter()
    for epoch in range(recipe.epochs):
        for batch in loader.epoch(epoch):
            rate = optim.learning_rate(step / steps, schedule="cosine", base_lr=0.1, warmup=1 / recipe.epochs)
            with torch.autocast("cpu", torch.bfloat16, enabled=torch.cpu._is_avx512_bf16_supported()):
                logits = model(batch.views[0].to(memory_format=torch.channels_last))
            F.cross_entropy(logits.float(), batch.label).backward()
            optim.apply_schedule(optimizer, step / steps, rate)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
    return encoder.eval(), time.perf_counter() - began


def measure(name: str, seed: int, data: DataSet, options: Options, runs: Path) -> dict[str, Any]:
    """One row: a method or a baseline, trained where it is to be trained, and judged."""
    source, test = data.train, data.test
    assert test is not None
    size = image_size(budget(), source.size)
    row: dict[str, Any] = {"method": name, "seed": seed, "epochs": 0, "seconds": 0.0}
    if name == "raw pixels":
        return row | judged(source, test, None, size)
    if name == "untrained":
        torch.manual_seed(seed)
        encoder = build_encoder(budget().encoder, channels=source.channels, size=size)
        return row | judged(source, test, encoder.eval(), size)
    if name == "supervised":
        encoder, seconds = supervised(data.pretrain, seed, size)
        return row | {"epochs": budget().epochs, "seconds": seconds} | judged(source, test, encoder, size)
    recipe, out = RECIPES[f"{name}/tiny"], runs / f"{name}-{seed}"
    resume = (out / "recipe.json").exists()
    outcome = train(f"{name}/tiny", recipe, options, out=out, resume=resume, data=data)
    row |= {"epochs": recipe.epochs, "seconds": outcome.seconds}
    return row | judged(source, test, load(out), image_size(recipe, source.size))


def table(rows: list[dict[str, Any]]) -> str:
    """A line for each method, over its seeds; the untrained encoder is the yardstick."""
    lines = [
        "| method | seeds | epochs | training, s | kNN | above untrained | linear probe |",
        "|---|---|---|---|---|---|---|",
    ]
    untrained = statistics.fmean([row["knn"] for row in rows if row["method"] == "untrained"] or [float("nan")])
    for name in (*BASELINES, *METHODS):
        seeds = [row for row in rows if row["method"] == name]
        if seeds:
            found = {key: [row[key] for row in seeds] for key in ("knn", "linear", "seconds")}
            gain = f"{statistics.fmean(found['knn']) - untrained:+.1f}" if name != "untrained" else ""
            seconds = f"{statistics.fmean(found['seconds']):,.0f}" if seeds[0]["epochs"] else ""
            cells = (
                name,
                len(seeds),
                seeds[0]["epochs"] or "",
                seconds,
                spread(found["knn"]),
                gain,
                spread(found["linear"]),
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


def write_tables() -> None:
    """learning-DATA.md and its bar chart, from learning-DATA.json."""
    for path in RESULTS.glob("learning-*.json"):
        rows, data = json.loads(path.read_text()), path.stem.removeprefix("learning-")
        chart(rows, path.with_suffix(".png"))
        text = f"# What is learned on {data}\n\n{table(rows)}\n\n![bars]({path.stem}.png)\n"
        write_text(path.with_suffix(".md"), text)


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
        rows = json.loads(path.read_text()) if path.exists() else []
        if any((row["method"], row["seed"]) == (name, int(seed or 0)) for row in rows):
            print(f"{word}: measured already")
            continue
        assert data is not None
        options = Options(data=asked.data, data_dir=asked.data_dir, seed=int(seed or 0), monitor_every=6)
        row = measure(name, int(seed or 0), data, options, asked.runs)
        print(f"{word}: {row}", flush=True)
        write_text(path, json.dumps([*rows, row], indent=1) + "\n")
    write_tables()


if __name__ == "__main__":
    main()
