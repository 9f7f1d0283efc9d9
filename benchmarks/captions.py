"""`python -m benchmarks.captions --data-dir DIR [--rows NAME;..] [--seeds N] [--epochs N]`: how much of two
transformers images and captions can share.

DIR holds the sets, folders of images with captions. Each row trains on a set's training photographs and retrieves
captions by its test photographs and these by their captions. What is measured is skipped and stopped trainings go on,
so the work can be split; rows are appended to benchmarks/results/captions.json, run by run.

No number here was chosen on test images: they are those of the recipe, but for the size of the images, and of the
patches, which keeps their number.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import RESULTS
from benchmarks.tables import Rows, markdown
from contrastkit import train
from contrastkit.checkpoint import write_text
from contrastkit.evaluate import EvaluationSubject, retrieve
from contrastkit.loading import load_method
from contrastkit.methods.clip import CLIP
from contrastkit.parts.shared import parameters
from contrastkit.run import Run

FILE = RESULTS / "captions.json"
SIZE, PATCH, EPOCHS, K = 48, 8, 20, 10
WAYS = ("image -> text", "text -> image")
ROWS: dict[str, tuple[str, dict[str, Any]]] = {  # method and what is not the recipe's
    "clip, tiny encoder": ("clip", {}),
    "ms-clip, sharing nothing": ("ms-clip", {"patch_size": PATCH, "share": "none"}),
    "ms-clip, sharing attention": ("ms-clip", {"patch_size": PATCH, "share": "attention"}),
    "ms-clip": ("ms-clip", {"patch_size": PATCH}),
    "ms-clip, early specialisation": ("ms-clip", {"patch_size": PATCH, "early_specialisation": True}),
}


def measure(name: str, data: Path, seed: int, epochs: int, out: Path) -> dict[str, Any]:
    """Parameters, recall at 10 both ways in % with its interval, and the seconds of the training."""
    method, numbers = ROWS[name]
    resume, began = Run.exists(out), time.process_time()
    outcome = train(
        method, data, row="tiny", out=out, resume=resume, seed=seed, size=SIZE, epochs=epochs, workers=0, device="cpu",
        monitor_every=0, **numbers,
    )  # fmt: skip
    if outcome.signal is not None:
        raise SystemExit(f"{out}: stopped; repeat the command to resume")
    seconds = None if resume else time.process_time() - began
    trained = load_method(out)
    assert isinstance(trained, CLIP)
    report = retrieve(EvaluationSubject.open(out, workers=0, device="cpu"))
    recalls = {
        way: {
            "recall": 100 * report.retrieval[way].recall[K],
            "interval": [100 * end for end in report.retrieval[way].interval[K]],
            "chance": 100 * report.retrieval[way].chance[K],
        }
        for way in WAYS
    }
    sizes = dict(zip(("images", "texts", "both"), parameters(trained.online, trained.text), strict=True))
    return {"row": name, "data": data.name, "seed": seed, "epochs": epochs, "size": SIZE, "cpu_seconds": seconds} | {
        "parameters": sizes,
        "k": K,
        **recalls,
    }


def table() -> str:
    """A line for each row: means over the seeds, of the intervals, too."""
    lines, rows = [], measured()
    for name, data, epochs in dict.fromkeys(_settings(rows)):
        seeds = [row for row in rows if (row["row"], row["data"], row["epochs"]) == (name, data, epochs)]
        seconds = [row["cpu_seconds"] for row in seeds if row["cpu_seconds"] is not None]
        total = sum(seeds[0]["parameters"].values())
        shared = seeds[0]["parameters"]["both"]
        took = f"{statistics.fmean(seconds):.0f}" if seconds else ""
        cells = [_recall([row[way] for row in seeds]) for way in WAYS]
        lines.append([name, f"{total / 1e6:.2f}", f"{shared / 1e6:.2f}", str(epochs), str(len(seeds)), *cells, took])
    head = ("model", "parameters, M", "shared, M", "epochs", "seeds")
    return markdown((*head, *(f"{way}, R@{K}" for way in WAYS), "CPU s"), lines)


def _settings(rows: Rows) -> Iterator[tuple[str, str, int]]:
    """Row, set and epochs of each measurement, in the order of the table."""
    order = list(ROWS)
    for row in sorted(rows, key=lambda row: (row["data"], row["epochs"], order.index(row["row"]))):
        yield row["row"], row["data"], row["epochs"]


def _recall(seeds: Rows) -> str:
    low, high = (statistics.fmean(seed["interval"][end] for seed in seeds) for end in (0, 1))
    values = [seed["recall"] for seed in seeds]
    spread = f" +- {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1f}{spread} ({low:.1f} to {high:.1f})"


def measured() -> Rows:
    return json.loads(FILE.read_text()) if FILE.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data-dir", type=Path, required=True, help="folder of the sets")
    parser.add_argument("--sets", default="flickr8k", help="folders of images with captions, divided by commas")
    parser.add_argument("--rows", help=f"divided by semicolons: {'; '.join(ROWS)}")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--work", type=Path, default=Path("runs/benchmark-captions"), help="folder of the runs")
    args = parser.parse_args()
    names = [name.strip() for name in args.rows.split(";")] if args.rows else list(ROWS)
    if unknown := {*names} - {*ROWS}:
        parser.error(f"unknown: {'; '.join(sorted(unknown))} (rows: {'; '.join(ROWS)})")
    done = {(row["row"], row["data"], row["epochs"], row["seed"]) for row in measured()}
    for seed, data, name in ((s, d, n) for s in range(args.seeds) for d in args.sets.split(",") for n in names):
        if (name, data, args.epochs, seed) in done:
            continue
        folder = f"{data}-{name}-{args.epochs}-{seed}".replace(", ", "-").replace(" ", "-")
        result = measure(name, args.data_dir / data, seed, args.epochs, args.work / folder)
        print(json.dumps(result), flush=True)
        write_text(FILE, json.dumps([*measured(), result], indent=1) + "\n")


if __name__ == "__main__":
    main()
