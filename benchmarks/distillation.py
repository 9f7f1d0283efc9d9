"""`python -m benchmarks.distillation --data-dir DIR [--seeds N] [--only WORD,..]`: what a teacher adds, on CIFAR-10.

DIR holds CIFAR-10, and weights/cifar10_resnet20.th, a ResNet-20 that was trained on it. Two parts, whose trainings have
names such as crd/tiny/kd/0 and labels/10/0; --only runs those whose name begins with one of its words.

crd     Students (tiny, and a ResNet-8 for CIFAR) of the ResNet-20: alone, by KD, CRD and both, for as many epochs.
labels  SimCLR v2's three steps with 10, 40 and 400 labels a class: pre-training without labels, fine-tuning beside
        training from scratch on the same labels, distillation of the fine-tuned network by all images without labels.

A seed draws the labels, the initial values and the views; the pre-training is one, of seed 0. What is measured is
skipped and stopped trainings go on, so the hours of work can be split. Rows are appended to
benchmarks/results/distillation.json. No number here was chosen on test images: they are those of the recipes `tiny`,
except the epochs, and the rates of fine-tuning, of which one is chosen on held-out labels.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import RESULTS
from benchmarks.tables import markdown, spread
from contrastkit import load_classifier, train
from contrastkit.checkpoint import write_text
from contrastkit.data import DataSet, open_data
from contrastkit.evaluate import EvaluationSubject, finetune
from contrastkit.evaluate.distilled import Distilled, distilled
from contrastkit.evaluate.few_labels import FewLabels
from contrastkit.memory import keep_freed_memory
from contrastkit.run import CLASSIFIER, RECIPE, Run
from contrastkit.teachers import reopen_teacher

FILE = RESULTS / "distillation.json"
WEIGHTS = "weights/cifar10_resnet20.th"
STUDENTS = ("tiny", "cifar-resnet8")
LOSSES = {"ce": "tiny-ce", "kd": "tiny-kd", "crd": "tiny", "crd+kd": "tiny-crd+kd"}  # loss -> row of its recipe
LABELS = (10, 40, 400)  # a class
EPOCHS = 6  # of every distillation
PRETRAINING = 12  # epochs
TUNING = 20  # epochs of fine-tuning and of training from scratch
RATES = (0.01, 0.03)  # of these


def trained(out: Path, method: str, **how: Any) -> None:
    """A training, resumed if it has begun."""
    resume = (out / RECIPE).exists()
    if resume:
        how = {key: value for key, value in how.items() if key in ("data", "data_dir")}
    if train(method, out=out, resume=resume, **how).signal is not None:
        raise SystemExit(f"{out}: stopped; repeat the command to resume")


def of_test(run: Path, data: DataSet) -> Distilled:
    """Student and teacher of a finished run on the test images."""
    teacher, student = Run.open(run).record.teacher, load_classifier(run / CLASSIFIER)
    assert teacher is not None
    result = distilled(student, reopen_teacher(teacher, data), data, size=student.size, max_bad=0.0)
    assert result is not None
    return result


def crd(student: str, loss: str, seed: int, data: DataSet, folder: Path, out: Path, epochs: int) -> dict[str, Any]:
    """A student of the ResNet-20; accuracies in %."""
    teacher = {"teacher": folder / WEIGHTS, "teacher_encoder": "cifar-resnet20"}
    how: dict[str, Any] = {"epochs": epochs, "seed": seed, "monitor_every": 0}
    trained(out, "crd", row=LOSSES[loss], encoder=student, data="cifar10", data_dir=folder, **how, **teacher)
    result = of_test(out, data)
    accuracies = {"top1": 100 * result.student.top1, "teacher": 100 * result.teacher.top1}
    return {"student": student, "loss": loss, "epochs": epochs, **accuracies, "agreement": 100 * result.agreement}


def few_labels(n: int, seed: int, data: DataSet, folder: Path, out: Path, epochs: int, before: int) -> dict[str, Any]:
    """The three steps with n labels a class; accuracies in %."""
    pretrained, tuned = out.parents[1] / "pretrained", out / "finetune"
    how: dict[str, Any] = {"encoder": "tiny", "epochs": before, "monitor_every": 0}
    trained(pretrained, "simclr-v2", data="cifar10", data_dir=folder, **how)
    subject = EvaluationSubject.open(pretrained, data_dir=folder, seed=seed)
    few, numbers = FewLabels(labels_per_class=n), {"epochs": TUNING, "lr": RATES}
    report = finetune(subject, numbers=numbers, few=few, seeds=1, seed=seed, baselines=True, out=tuned)
    by = {name.rpartition(", ")[2]: 100 * each.accuracy.top1 for name, each in report.results.items()}
    how = {"epochs": epochs, "seed": seed, "monitor_every": 0, "teacher": tuned}
    trained(out / "student", "simclr-v2-distill", data="cifar10", data_dir=folder, **how)
    accuracies = {"scratch": by["from scratch"], "probe": by["linear probe"], "finetuned": by["fine-tuned"]}
    student = 100 * of_test(out / "student", data).student.top1
    return {"labels": n, "epochs": epochs, "pretraining": before, **accuracies, "distilled": student}


def names(seeds: int) -> Iterator[str]:
    """All trainings, seed by seed."""
    for seed in range(seeds):
        yield from (f"crd/{student}/{loss}/{seed}" for student in STUDENTS for loss in LOSSES)
        yield from (f"labels/{n}/{seed}" for n in LABELS)


def crd_table() -> str:
    """A line for each student and loss: means over the seeds, with standard deviations."""
    rows, lines = [row for row in measured() if row["name"].startswith("crd/")], []
    for student, loss in ((s, loss) for s in STUDENTS for loss in LOSSES):
        seeds = [row for row in rows if (row["student"], row["loss"]) == (student, loss)]
        if seeds:
            values = (spread([row[key] for row in seeds]) for key in ("top1", "agreement"))
            teacher = f"{seeds[0]['teacher']:.2f}"
            lines.append([student, loss, str(seeds[0]["epochs"]), str(len(seeds)), *values, teacher])
    return markdown(("student", "losses", "epochs", "seeds", "top-1", "answers like the teacher", "teacher"), lines)


def labels_table() -> str:
    """A line for each number of labels: means over the seeds, with standard deviations."""
    rows, lines = [row for row in measured() if row["name"].startswith("labels/")], []
    for n in LABELS:
        if seeds := [row for row in rows if row["labels"] == n]:
            keys = ("scratch", "probe", "finetuned", "distilled")
            lines.append([str(n), str(len(seeds)), *(spread([row[key] for row in seeds]) for key in keys)])
    return markdown(("labels a class", "seeds", "from scratch", "linear probe", "fine-tuned", "distilled"), lines)


def measured() -> list[dict[str, Any]]:
    return json.loads(FILE.read_text()) if FILE.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/distillation"), help="folder for the runs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="", help="beginnings of names, separated by commas")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of every distillation")
    parser.add_argument("--pretraining", type=int, default=PRETRAINING, help="epochs without labels")
    args = parser.parse_args()
    keep_freed_memory()
    data = open_data("cifar10", data_dir=args.data_dir)
    for name in filter(lambda name: name.startswith(tuple(args.only.split(","))), names(args.seeds)):
        if any(row["name"] == name for row in measured()):
            print(f"{name}: already measured")
            continue
        began, (part, *what, seed) = time.process_time(), name.split("/")
        how: dict[str, Any] = {"seed": int(seed), "data": data, "folder": args.data_dir, "epochs": args.epochs}
        out = args.runs / name
        fresh = not out.exists()
        if part == "crd":
            row = crd(what[0], what[1], out=out, **how)
        else:
            row = few_labels(int(what[0]), out=out, before=args.pretraining, **how)
        minutes = (time.process_time() - began) / 60 if fresh else None
        row = {"name": name, "seed": int(seed), **row, "cpu_minutes": minutes}
        print(f"{name}: {row}", flush=True)
        write_text(FILE, json.dumps([*measured(), row], indent=1) + "\n")


if __name__ == "__main__":
    main()
