"""`python -m benchmarks.stable_images --data-dir DIR [--seeds N] [--only BEGINNING;..]`: what holds on images of
another environment.

Two sets. Coloured digits (contrastkit.stable.coloured, of the embedded digits as they are): in training the colour
disagrees with the label for two shares of the images, the case, and in the test for 10, 50 and 90 %. PACS, DIR/pacs:
art, cartoons, photographs and sketches, each held out in turn, the case. DIR also holds
weights/efficientnet_lite0_imagenet.safetensors.

Encoders: `tiny` from scratch; the same after MoCo on the training images, of PACS those of all four environments,
without labels; of PACS also EfficientNet-Lite0 with ImageNet's weights, frozen and tuned. On frozen features a linear
probe, and one under the weights of `stable reweight` (rff). LEARNERS, of each encoder, train all layers: erm, irm,
groupdro, and stablenet as published, by the batch, and by the whole sample.

The numbers are those of the recipes `tiny`, and of EfficientNet those of DomainBed for small images, with EPOCHS
epochs, views of SIZE pixels and no flips of digits. The epochs were chosen by accuracy in training, though after a
first run with five had been tested. What is measured is skipped and stopped trainings go on, so the hours of work can
be split.
Rows are appended to benchmarks/results/stable-images.json.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from benchmarks import RESULTS
from benchmarks.tables import markdown
from contrastkit import load_classifier, train
from contrastkit.checkpoint import write_text
from contrastkit.data import open_data
from contrastkit.evaluate import EvaluationSubject, embed, probe
from contrastkit.evaluate.by_environment import ByEnvironment
from contrastkit.evaluate.classified import classified
from contrastkit.methods import SUPERVISED
from contrastkit.npz import write_npz
from contrastkit.run import CLASSIFIER, METRICS, RECIPE
from contrastkit.stable import table as tables
from contrastkit.stable import workflow
from contrastkit.stable.coloured import colour_images

FILE = RESULTS / "stable-images.json"
WEIGHTS, PUBLISHED = "weights/efficientnet_lite0_imagenet.safetensors", "timm:tf_efficientnet_lite0"
CASES: dict[str, tuple[str, ...]] = {
    "digits": ("0.05,0.15", "0.1,0.2", "0.2,0.3"),  # shares of disagreement in training, the strongest colour first
    "pacs": ("art_painting", "cartoon", "photo", "sketch"),  # held out
}
TESTED = (0.1, 0.5, 0.9)  # shares of disagreement in the test
TRAINED: dict[str, tuple[str, str]] = {  # learner -> method, row
    "ERM": ("erm", "tiny"),
    "IRM": ("irm", "tiny"),
    "GroupDRO": ("groupdro", "tiny"),
    "StableNet, published": ("stablenet", "tiny"),
    "StableNet, whole sample": ("stablenet", "tiny-whole"),
}
PROBES = ("probe", "stable probe")
FROZEN, TUNED = "EfficientNet, frozen", "EfficientNet, tuned"
LEARNERS: dict[str, tuple[str, ...]] = {  # encoder -> what is trained with it
    "from scratch": (*PROBES, *TRAINED),
    "MoCo": (*PROBES, "ERM", "StableNet, whole sample"),
    FROZEN: PROBES,
    TUNED: ("ERM", "StableNet, published"),
}
ENCODERS = {"digits": ("from scratch", "MoCo"), "pacs": tuple(LEARNERS)}
EPOCHS, PRETRAINING = 20, 30
SIZE = {"digits": 16, "pacs": 32}
EFFICIENT_SIZE = 64  # of EfficientNet's images
ADAM = ("batch", "optimizer", "lr", "weight_decay", "schedule", "warmup_epochs")  # DomainBed's numbers, of erm/32
TUNING: dict[str, Any] = {"encoder": PUBLISHED, "size": EFFICIENT_SIZE, "epochs": 2}
TUNING |= {name: getattr(SUPERVISED["erm/32"], name) for name in ADAM}


def coloured(case: str, seed: int, folder: Path) -> Path:
    """An .npz of coloured digits: the training images of two environments, the test images under each share."""
    path = folder / f"digits-{case}-{seed}.npz"
    if path.exists():
        return path
    shares, grey = tuple(map(float, case.split(","))), open_data("digits")
    parts = [colour_images(grey, environments=(*shares, e), seed=seed).arrays for e in TESTED]
    arrays = {name: array for name, array in parts[0].items() if not name.startswith("test_")}
    tests = [name for name in parts[0] if name.startswith("test_")]
    folder.mkdir(parents=True, exist_ok=True)
    write_npz(path, arrays | {name: np.concatenate([part[name] for part in parts]) for name in tests})
    return path


def data_of(name: str, case: str, seed: int, folder: Path, work: Path) -> dict[str, Any]:
    """The arguments that open a set: of PACS, with one environment held out."""
    if name == "digits":
        return {"data": str(coloured(case, seed, work / "sets"))}
    return {"data": f"{folder / 'pacs'}/ENVIRONMENT/CLASS", "test_part": case}


def trained(out: Path, method: str, **how: Any) -> None:
    """A training, resumed if it has begun."""
    resume = (out / RECIPE).exists()
    if resume:
        how = {key: value for key, value in how.items() if key in ("data", "test_part")}
    if train(method, out=out, resume=resume, **how).signal is not None:
        raise SystemExit(f"{out}: stopped; repeat the command to resume")


def numbers(name: str, seed: int, epochs: int) -> dict[str, Any]:
    """What all trainings on a set share."""
    flips = {"flip_p": 0.0} if name == "digits" else {}
    return {"encoder": "tiny", "size": SIZE[name], "seed": seed, "epochs": epochs, "monitor_every": 0, **flips}


def pretrained(name: str, case: str, seed: int, how: dict[str, Any], work: Path, epochs: int) -> Path:
    """The run of MoCo: on the training images of coloured digits, on all four environments of PACS, once for all."""
    run = work / "moco" / (f"digits-{case}-{seed}" if name == "digits" else f"pacs-{seed}")
    trained(run, "moco", data=how["data"], row="tiny", **numbers(name, seed, epochs))
    return run


def probed(
    encoder: str, learner: str, name: str, seed: int, how: dict[str, Any], run: Path | None, weights: Path, work: Path
) -> tuple[ByEnvironment, float | None]:
    """A linear probe on frozen features, and the effective share of the sample under its weights."""
    opened: dict[str, Any] = {"run": run} if run is not None else {"encoder": "tiny", "size": SIZE[name], "seed": seed}
    if encoder == FROZEN:
        opened = {"encoder": PUBLISHED, "init_from": str(weights), "size": EFFICIENT_SIZE}
    subject = EvaluationSubject.open(**opened, **how, workers=0)
    file = None
    if learner == "stable probe":
        work.mkdir(parents=True, exist_ok=True)
        file = work / "weights.csv"
        embed(subject, split="train", out=work / "features.npz")
        rows = tables.read(work / "features.npz")
        ids = rows.row_ids()
        assert ids is not None
        w = workflow.reweight(rows, "rff", seed=seed).reweighting.weights
        pd.DataFrame(ids.columns() | {"weight": w}).to_csv(file, index=False)
    report = probe(subject, seeds=1, seed=seed, weights=file)
    (result,) = report.probe.values()
    assert result.environments is not None
    used = report.weights
    return result.environments, None if used is None else used.effective / used.images


def measure(
    name: str, case: str, encoder: str, learner: str, seed: int, *, folder: Path, work: Path, epochs: int, before: int
) -> dict[str, Any]:
    """Accuracies in % by environment of the test, and the effective share of the sample, or of the last batches."""
    how = data_of(name, case, seed, folder, work)
    out = work / f"{name}-{case}-{encoder}-{learner}-{seed}".replace(" ", "-")
    run = pretrained(name, case, seed, how, work, before) if encoder == "MoCo" else None
    share: float | None = None
    if learner in PROBES:
        found, share = probed(encoder, learner, name, seed, how, run, folder / WEIGHTS, out)
    else:
        method, row = TRAINED[learner]
        recipe = {"row": row, "init_from": run, **numbers(name, seed, epochs)}
        if encoder == TUNED:
            recipe |= {**TUNING, "init_from": folder / WEIGHTS}
            epochs = recipe["epochs"]
        trained(out, method, **how, **recipe)
        share = json.loads((out / METRICS).read_text().splitlines()[-1]).get("ess")
        classifier = load_classifier(out / CLASSIFIER)
        result = classified(classifier, open_data(**how), size=classifier.size, max_bad=0.0)
        assert result is not None and result.environments is not None
        found = result.environments
    environments = {place: 100 * each.top1 for place, each in found.environments.items()}
    return {"environments": environments, "effective": share, "epochs": epochs, "pretraining": before}


def names(seeds: int) -> Iterator[tuple[str, str, str, str, int]]:
    """All measurements, seed by seed."""
    for seed, (name, cases) in ((s, each) for s in range(seeds) for each in CASES.items()):
        for case, encoder in ((c, e) for c in cases for e in ENCODERS[name]):
            yield from ((name, case, encoder, learner, seed) for learner in LEARNERS[encoder])


def table() -> str:
    """A line for each set, encoder and learner: average, deviation and worst over the environments of the test, of PACS
    over those held out; means over the seeds, with 95 % intervals by Student's t."""
    rows, lines = measured(), []
    for name, encoder in ((n, e) for n in CASES for e in ENCODERS[n]):
        cases: tuple[str | None, ...] = CASES[name] if name == "digits" else (None,)
        for case, learner in ((c, each) for c in cases for each in LEARNERS[encoder]):
            own = [r for r in rows if (r["set"], r["encoder"], r["learner"]) == (name, encoder, learner)]
            own = [r for r in own if case in (None, r["case"])]
            seeds: dict[int, dict[str, float]] = {}
            for row in own:
                seeds.setdefault(row["seed"], {}).update(row["environments"])
            shares = [list(each.values()) for each in seeds.values() if case or len(each) == len(CASES[name])]
            if shares:
                over: tuple[Callable[[list[float]], float], ...] = (statistics.fmean, statistics.pstdev, min)
                cells = [interval([each(share) for share in shares]) for each in over]
                lines.append([f"{name} {case or ''}".strip(), encoder, learner, str(len(shares)), *cells])
    head = ("set", "encoder", "learner", "seeds", "average", "deviation", "worst")
    return markdown(head, lines)


def interval(values: list[float]) -> str:
    """The mean, and where there are several values its 95 % interval by Student's t."""
    mean, n = statistics.fmean(values), len(values)
    if n == 1:
        return f"{mean:.1f}"
    half = float(student.ppf(0.975, n - 1)) * statistics.stdev(values) / n**0.5
    return f"{mean:.1f} ({mean - half:.1f} to {mean + half:.1f})"


def measured() -> list[dict[str, Any]]:
    return json.loads(FILE.read_text()) if FILE.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/stable-images"), help="folder of sets and runs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="", help="beginnings of names such as digits/0.1,0.2/MoCo, separated by ;")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="with labels")
    parser.add_argument("--pretraining", type=int, default=PRETRAINING, help="epochs of MoCo")
    args = parser.parse_args()
    for what in names(args.seeds):
        title = "/".join(map(str, what))
        if not title.startswith(tuple(args.only.split(";"))):
            continue
        if any(row["name"] == title for row in measured()):
            print(f"{title}: already measured")
            continue
        began = time.process_time()
        row = measure(*what, folder=args.data_dir, work=args.work, epochs=args.epochs, before=args.pretraining)
        minutes = (time.process_time() - began) / 60
        keys = dict(zip(("set", "case", "encoder", "learner", "seed"), what, strict=True))
        print(f"{title}: {row}", flush=True)
        row = {"name": title, **keys, **row, "cpu_minutes": minutes}
        write_text(FILE, json.dumps([*measured(), row], indent=1) + "\n")


if __name__ == "__main__":
    main()
