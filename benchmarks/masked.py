"""`python -m benchmarks.masked --data-dir DIR [--sets NAME,..] [--seeds N]`: what MAE's training is worth, in minutes.

DIR holds CIFAR-10 (torchvision's layout) and imagenette224. Of each set a part of the labels is used. "mae": the row
`tiny` is trained on all training images without labels, then fine-tuned on the labels. "from scratch": the same vision
transformer is trained on the same labels for as many epochs as take as many CPU minutes as both of that together.
Both have the numbers of FINETUNING, with layer decay for the trained one alone; no number was chosen on test images.
A seed draws labels, initial values and views. Processor time is counted, on one thread, so other work on the machine
hardly matters. What is measured is skipped; rows are appended to benchmarks/results/masked.json.
"""

import argparse
import json
import shutil
import statistics
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import RESULTS
from benchmarks.tables import markdown, spread
from contrastkit import train
from contrastkit.checkpoint import write_text
from contrastkit.evaluate import EvaluationSubject, finetune
from contrastkit.evaluate.few_labels import FewLabels
from contrastkit.memory import keep_freed_memory
from contrastkit.parts.build import build_encoder

FILE = RESULTS / "masked.json"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A data set, and how long is trained on it.

    Attributes:
        numbers: of the recipe `tiny`, replaced.
        labels: labelled training images of each class.
        pretraining, epochs: without labels, and of fine-tuning.
    """

    labels: int
    pretraining: int
    epochs: int
    numbers: dict[str, Any] = field(default_factory=dict)


SETS = {
    "cifar10": Setting(labels=500, pretraining=5, epochs=20),
    "imagenette224": Setting(
        labels=20,
        pretraining=40,
        epochs=40,
        numbers={"size": 96, "patch_size": 12, "batch": 64},
    ),
}
FINETUNING: dict[str, Any] = {
    "optimizer": "adamw", "nesterov": False, "lr": (0.001,), "weight_decay": 0.05, "crop_min": 0.3,
}  # fmt: skip
LAYER_DECAY = 0.75
WARMUP = 0.1  # of the epochs


def measure(setting: Setting, seed: int, data: str, data_dir: Path, run: Path) -> dict[str, Any]:
    """Accuracies on the test images in %, and processor time in minutes."""
    shutil.rmtree(run, ignore_errors=True)  # of a stopped measurement, whose time is not known
    began = time.process_time()
    options: dict[str, Any] = {"data_dir": data_dir, "seed": seed, "workers": 0, "precision": "float32"}
    train("mae", data, out=run, row="tiny", epochs=setting.pretraining, monitor_every=0, **options, **setting.numbers)
    pretraining = (time.process_time() - began) / 60
    subject = EvaluationSubject.open(run, workers=0)
    tuned, probe, minutes = finetuned(subject, setting, seed, setting.epochs, layer_decay=LAYER_DECAY)
    epochs = round(setting.epochs * (pretraining + minutes) / minutes)
    torch.manual_seed(seed)
    assert subject.kind is not None
    scratch = replace(subject, encoders={"from scratch": build_encoder(**subject.kind)})
    from_scratch, _, of_scratch = finetuned(scratch, setting, seed, epochs)
    return {
        "seed": seed,
        "labels": setting.labels,
        "pretraining_epochs": setting.pretraining,
        "epochs": setting.epochs,
        "scratch_epochs": epochs,
        "minutes": pretraining + minutes,
        "scratch_minutes": of_scratch,
        "finetuned": tuned,
        "scratch": from_scratch,
        "probe": probe,
    }


def finetuned(
    subject: EvaluationSubject, setting: Setting, seed: int, epochs: int, **numbers: Any
) -> tuple[float, float, float]:
    """Top-1 of fine-tuning and of a linear probe in %, and the processor time of the fine-tuning in minutes."""
    clock = [time.process_time()]  # at each line: before the training, and after its test
    report = finetune(
        subject,
        numbers={**FINETUNING, "epochs": epochs, "warmup_epochs": WARMUP * epochs, **numbers},
        few=FewLabels(labels_per_class=setting.labels),
        seeds=1,
        seed=seed,
        precision="float32",
        on_line=lambda line: clock.append(time.process_time()),
    )
    tuned, probe = report.results.values()
    return 100 * tuned.accuracy.top1, 100 * probe.accuracy.top1, (clock[2] - clock[1]) / 60


def table() -> str:
    """A line a set: means over the seeds, with standard deviations."""
    rows, lines = measured(), []
    for name in SETS:
        seeds = [row for row in rows if row["set"] == name]
        if not seeds:
            continue
        first = seeds[0]
        minutes = [f"{statistics.fmean(row[key] for row in seeds):.1f}" for key in ("minutes", "scratch_minutes")]
        accuracies = [spread([row[key] for row in seeds]) for key in ("finetuned", "scratch", "probe")]
        epochs = f"{first['pretraining_epochs']} + {first['epochs']}"
        scratch = str(round(statistics.fmean(row["scratch_epochs"] for row in seeds)))
        lines.append([name, str(first["labels"]), str(len(seeds)), epochs, scratch, " / ".join(minutes), *accuracies])
    head = (
        "images",
        "labels a class",
        "seeds",
        "epochs: mae + fine-tuning",
        "from scratch",
        "CPU minutes",
        "mae, fine-tuned",
        "from scratch",
        "mae, linear probe",
    )
    return markdown(head, lines)


def measured() -> list[dict[str, Any]]:
    return json.loads(FILE.read_text()) if FILE.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data-dir", type=Path, required=True, help="folder of CIFAR-10 and imagenette224")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("runs/benchmark-masked"), help="folder of the runs")
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    names = args.sets.split(",")
    if unknown := {*names} - {*SETS}:
        parser.error(f"unknown: {', '.join(sorted(unknown))} (sets: {', '.join(SETS)})")
    for seed, name in ((s, n) for s in range(args.seeds) for n in names):
        if any((row["set"], row["seed"]) == (name, seed) for row in measured()):
            continue
        data = name if name == "cifar10" else str(args.data_dir / name)
        result = {"set": name} | measure(SETS[name], seed, data, args.data_dir, args.work / f"{name}-{seed}")
        print(json.dumps(result), flush=True)
        write_text(FILE, json.dumps([*measured(), result], indent=1) + "\n")


if __name__ == "__main__":
    main()
