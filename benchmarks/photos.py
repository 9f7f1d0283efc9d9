"""`python -m benchmarks.photos --data-dir DIR [--domains NAME,..] [--rows NAME,..] [--seeds N]`: what photographs
without labels are worth beside ten labels a class.

DIR holds the sets of benchmarks.photo_sets, and weights/efficientnet_lite0_imagenet.safetensors. Four rows a domain: a
small network from scratch, the same one trained on all training images without labels, published weights, and these
trained on without labels. Each is then fine-tuned on ten labels a class, probed on the same ones, and tested; kNN votes
with all training labels. A seed draws the labels, the initial values and the views. What is measured is skipped and
stopped trainings go on, so the work can be split; rows are appended to benchmarks/results/photos.json, seed by seed.

No number here was chosen on test images: they are those of the recipe, or set beforehand. The rate of "adapted" was
chosen of 0.0003, 0.001 and 0.01, by kNN on a fifth of EuroSAT's training images.
"""

import argparse
import json
import math
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import RESULTS
from benchmarks.photo_sets import DOMAINS, make
from benchmarks.tables import markdown, spread
from contrastkit import train
from contrastkit.checkpoint import write_text
from contrastkit.data import DataSet, open_data
from contrastkit.evaluate import EvaluationSubject, finetune
from contrastkit.evaluate.features import Features
from contrastkit.evaluate.few_labels import FewLabels, choose, drawing_order, folds
from contrastkit.evaluate.linear import linear_probe
from contrastkit.evaluate.neighbours import knn_accuracy
from contrastkit.figures import INK, chart, legend
from contrastkit.loading import load
from contrastkit.parts.build import build_encoder
from contrastkit.parts.encoder import Encoder
from contrastkit.precision import Precision
from contrastkit.starting import open_weights

FILE = RESULTS / "photos.json"
CHART = Path(__file__).parent.parent / "docs" / "photos" / "labels.png"
WEIGHTS = "weights/efficientnet_lite0_imagenet.safetensors"
FEW = FewLabels(labels_per_class=10)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A way to an encoder."""

    encoder: str
    published: bool = False  # whether it starts at the published weights
    epochs: int = 0  # of training without labels
    lr: float | None = None  # of that training; None: the recipe's

    @property
    def precision(self) -> Precision:
        """Depthwise convolutions are faster in float32 on a CPU."""
        return "float32" if self.published else "auto"


SMALL = Row(encoder="resnet18")
PUBLISHED = Row(encoder="timm:tf_efficientnet_lite0", published=True)
ROWS = {
    "from scratch": SMALL,
    "self-supervised": replace(SMALL, epochs=10),
    "published weights": PUBLISHED,
    "adapted": replace(PUBLISHED, epochs=2, lr=0.001),
}
SIZE = 96  # side of the images in pixels, as in simclr's recipe "small", whose numbers are those not named here
RATES = (0.01, 0.03)  # of fine-tuning; one is chosen on held-out labels
EPOCHS = 20  # of fine-tuning
FEATURES: dict[tuple[str, ...], tuple[Features, Features]] = {}  # by data set and row, where no seed takes part


def measure(
    name: str, seed: int, data: DataSet, folder: Path, weights: Path, out: Path, *, finetuned: bool
) -> dict[str, Any]:
    """The accuracies of one row on the test images, in %; ``finetuned``: also after fine-tuning."""
    row, began = ROWS[name], time.process_time()
    resumed = out.exists() or (data.name, name) in FEATURES
    encoder = trained(row, seed, folder, weights, out)
    kind = {"name": row.encoder, "channels": 3, "size": SIZE}
    subject = EvaluationSubject(data=data, encoders={name: encoder}, size=SIZE, kind=kind, batch=64)
    train_features, test_features = features(subject, keep=row.published and not row.epochs)
    chosen, _ = choose(data.train, FEW, seed)
    place = {path: i for i, path in enumerate(data.train.paths)}
    labelled = train_features.subset(torch.tensor([place[path] for path in chosen.paths]))
    splits = folds(labelled.y, drawing_order(chosen, seed))
    n_classes = subject.n_classes
    probe = linear_probe(labelled, test_features, n_classes=n_classes, seeds=[seed], splits=splits)
    result = {
        "row": name,
        "seed": seed,
        "encoder": row.encoder,
        "size": SIZE,
        "epochs": row.epochs,
        "photos": len(train_features.y),
        "labels": len(labelled.y),
        "test": len(test_features.y),
        "finetuned": None,
        "rate": None,
        "probe": 100 * probe.accuracy.top1,
        "knn": 100 * knn_accuracy(train_features, test_features, n_classes=n_classes).top1,
    }
    if finetuned:
        numbers = {"epochs": EPOCHS, "lr": RATES}
        how: dict[str, Any] = {"seeds": 1, "seed": seed, "precision": row.precision, "out": out / "finetune"}
        tuned, _ = finetune(subject, numbers=numbers, few=FEW, **how).results.values()
        result |= {"finetuned": 100 * tuned.accuracy.top1, "rate": tuned.rate}
    return result | {"cpu_minutes": None if resumed else (time.process_time() - began) / 60}


def features(subject: EvaluationSubject, *, keep: bool) -> tuple[Features, Features]:
    """Of the training and the test images; ``keep``: they are the same for the next seed."""
    key = (subject.data.name, *subject.encoders)
    if key not in FEATURES:
        _, *found = next(subject.labelled_features())
        FEATURES[key] = (found[0], found[1])
    return FEATURES[key] if keep else FEATURES.pop(key)


def trained(row: Row, seed: int, folder: Path, weights: Path, out: Path) -> Encoder:
    """The row's encoder, trained without labels if it is."""
    if not row.epochs:
        torch.manual_seed(seed)
        encoder = build_encoder(row.encoder, channels=3, size=SIZE)
        if row.published:
            encoder.load_state_dict(open_weights(str(weights)).match(encoder).state, strict=False)
        return encoder.eval()
    run = out / "run"
    resume = (run / "recipe.json").exists()
    rate: dict[str, Any] = {} if row.lr is None else {"lr": row.lr}
    outcome = train(
        "simclr",
        folder,
        row="small",
        encoder=row.encoder,
        init_from=weights if row.published and not resume else None,
        out=run,
        resume=resume,
        seed=seed,
        size=SIZE,
        epochs=row.epochs,
        precision=row.precision,
        workers=0,
        **rate,
    )
    if outcome.signal is not None:
        raise SystemExit(f"{run}: stopped; repeat the command to resume")
    return load(run)


def table() -> str:
    """A line for each domain and row: means over the seeds, with standard deviations."""
    rows, lines = measured(), []
    for domain, name in ((d, n) for d in DOMAINS for n in ROWS):
        seeds = [row for row in rows if (row["domain"], row["row"]) == (domain, name)]
        if not seeds:
            continue
        minutes = [row["cpu_minutes"] for row in seeds if row["cpu_minutes"] is not None]
        time_taken = f"{statistics.fmean(minutes):.1f}" if minutes else ""
        accuracies = (
            spread([row[key] for row in seeds if row[key] is not None]) for key in ("finetuned", "probe", "knn")
        )
        lines.append([domain, name, str(ROWS[name].epochs or ""), str(len(seeds)), *accuracies, time_taken])
    head = (
        "photos",
        "encoder",
        "epochs without labels",
        "seeds",
        "fine-tuned",
        "probe",
        "kNN, all labels",
        "CPU minutes",
    )
    return markdown(head, lines)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Bars of the probe's accuracy, a group of encoders for each domain."""
    most, names = max(row["seed"] for row in rows) + 1, [n for n in ROWS if any(row["row"] == n for row in rows)]
    note = f"Linear probe on ten labels a class. Bars: means over up to {most} seeds; lines: +- one standard deviation."
    with chart(path, "Top-1 accuracy on the test images with ten labels a class", height=3.6, note=note) as figure:
        axes = figure.subplots()
        for i, name in enumerate(names):
            probes = [
                [row["probe"] for row in rows if (row["domain"], row["row"]) == (domain, name)] for domain in DOMAINS
            ]
            means = [statistics.fmean(values) if values else math.nan for values in probes]
            deviations = [statistics.stdev(values) if len(values) > 1 else math.nan for values in probes]
            places = [place + 0.2 * (i - (len(names) - 1) / 2) for place in range(len(DOMAINS))]
            bars = {"ecolor": INK, "capsize": 2, "elinewidth": 1}
            axes.bar(places, means, 0.2, yerr=deviations, error_kw=bars, label=name)
        axes.set_xticks(range(len(DOMAINS)), DOMAINS)
        axes.set(ylabel="top-1, %", ylim=(0, 100), xlim=(-0.5, len(DOMAINS) - 0.5))
        axes.grid(visible=False, axis="x")
        legend(figure)


def measured() -> list[dict[str, Any]]:
    return json.loads(FILE.read_text()) if FILE.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data-dir", type=Path, required=True, help="folder of the published sets and weights")
    parser.add_argument("--domains", default=",".join(DOMAINS))
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("runs/benchmark-photos"), help="folder of sets and runs")
    parser.add_argument("--no-finetune", action="store_true", help="only probe and kNN, which take a minute a row")
    args = parser.parse_args()
    domains, names = args.domains.split(","), args.rows.split(",")
    if unknown := {*domains} - {*DOMAINS} | {*names} - {*ROWS}:
        parser.error(f"unknown: {', '.join(sorted(unknown))} (domains: {', '.join(DOMAINS)}; rows: {', '.join(ROWS)})")
    complete = [row for row in measured() if row["finetuned"] is not None or args.no_finetune]
    done = {(row["domain"], row["row"], row["seed"]) for row in complete}
    for seed, domain, name in ((s, d, n) for s in range(args.seeds) for d in domains for n in names):
        if (domain, name, seed) in done:
            continue
        for line in make(domain, args.data_dir, args.work / "sets"):
            print(line)
        folder, out = args.work / "sets" / domain, args.work / f"{domain}-{name}-{seed}".replace(" ", "-")
        data = open_data(str(folder))
        result = {"domain": domain} | measure(
            name, seed, data, folder, args.data_dir / WEIGHTS, out, finetuned=not args.no_finetune
        )
        print(json.dumps(result), flush=True)
        others = [row for row in measured() if (row["domain"], row["row"], row["seed"]) != (domain, name, seed)]
        write_text(FILE, json.dumps([*others, result], indent=1) + "\n")
    draw(measured(), CHART)


if __name__ == "__main__":
    main()
