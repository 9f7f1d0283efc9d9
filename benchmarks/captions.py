"""`python -m benchmarks.captions --data-dir DIR [--sets NAME,..] [--rows NAME;..] [--seeds N]`: what small sets of
images with captions teach, and how much of two transformers images and captions can share.

DIR holds the sets, folders of images with captions. Each row trains on a set's training images, then retrieves captions
by its test images and these by their captions, beside a regression from the words of captions to the same features.
--weights FILE, of an EfficientNet-Lite0, adds rows that begin from them; --zero-shot FOLDER, of folders of images,
the classes of these by their names. What is measured is skipped and stopped trainings go on, so the work can be split;
rows are appended to benchmarks/results/captions.json, run by run.

No number here was chosen on test images: they are those of the recipe, but for the epochs and the size of images and
patches. Tuned weights, too, are trained at the recipe's rate, which is right for texts: at a tenth of it, texts learn
next to nothing in ten epochs, and retrieval on Flickr8k was not above chance.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks import RESULTS
from benchmarks.tables import Rows, markdown, spread
from contrastkit import train
from contrastkit.checkpoint import write_text
from contrastkit.evaluate import EvaluationSubject, retrieve, zero_shot
from contrastkit.evaluate.ranking import Retrieval
from contrastkit.loading import load_method
from contrastkit.memory import keep_freed_memory
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
PUBLISHED: dict[str, Any] = {"encoder": "timm:tf_efficientnet_lite0", "size": 96, "epochs": 10}
FROM_WEIGHTS: dict[str, tuple[str, dict[str, Any]]] = {
    "clip, EfficientNet-Lite0, frozen": ("clip", PUBLISHED | {"frozen": True}),
    "clip, EfficientNet-Lite0, tuned": ("clip", PUBLISHED),
}
ORDER = [*ROWS, *FROM_WEIGHTS]


def measure(
    name: str, data: Path, seed: int, out: Path, *, weights: Path | None, zero: Path | None, val_fraction: float | None
) -> dict[str, Any]:
    """Parameters, recall at 10 both ways in % with its interval, and the seconds of the training."""
    method, numbers = (ROWS | FROM_WEIGHTS)[name]
    numbers = {"size": SIZE, "epochs": EPOCHS} | numbers
    resume, began = Run.exists(out), time.process_time()
    if val_fraction is not None:
        numbers["val_fraction"] = val_fraction
    start = weights if name in FROM_WEIGHTS and not resume else None
    outcome = train(
        method, data, init_from=start, row="tiny", out=out, resume=resume, seed=seed, workers=0, device="cpu",
        monitor_every=0, **numbers,
    )  # fmt: skip
    if outcome.signal is not None:
        raise SystemExit(f"{out}: stopped; repeat the command to resume")
    seconds = None if resume else time.process_time() - began
    trained = load_method(out)
    assert isinstance(trained, CLIP)
    report = retrieve(EvaluationSubject.open(out, workers=0, device="cpu"), baselines=True)
    words = report.bag_of_words
    assert words is not None
    recalls = {way: _recalled(report.retrieval[way]) | {"words": 100 * words.retrieval[way].recall[K]} for way in WAYS}
    sizes = dict(zip(("images", "texts", "both"), parameters(trained.online, trained.text), strict=True))
    row = {"row": name, "data": data.name, "seed": seed, "epochs": numbers["epochs"], "size": numbers["size"]}
    row |= {"cpu_seconds": seconds, "parameters": sizes, "k": K, **recalls}
    if zero is not None:
        told = zero_shot(EvaluationSubject.open(out, data=str(zero), workers=0, device="cpu"))
        interval = [100 * end for end in told.accuracy.interval]
        row["zero_shot"] = {"data": told.data, "top1": 100 * told.accuracy.top1, "interval": interval}
    return row


def _recalled(retrieval: Retrieval) -> dict[str, Any]:
    recall, interval, chance = retrieval.recall[K], retrieval.interval[K], retrieval.chance[K]
    return {"recall": 100 * recall, "interval": [100 * end for end in interval], "chance": 100 * chance}


def table() -> str:
    """A line for each set and row: means over the seeds, of the intervals, too."""
    lines, rows = [], sorted(measured(), key=lambda row: (row["data"], ORDER.index(row["row"])))
    for data, name in dict.fromkeys((row["data"], row["row"]) for row in rows):
        seeds = [row for row in rows if (row["data"], row["row"]) == (data, name)]
        seconds = [row["cpu_seconds"] for row in seeds if row["cpu_seconds"] is not None]
        total, shared = sum(seeds[0]["parameters"].values()), seeds[0]["parameters"]["both"]
        took = f"{statistics.fmean(seconds):.0f}" if seconds else ""
        cells = [_interval([row[way] for row in seeds], "recall") for way in WAYS]
        both = {
            key: " / ".join(spread([row[way][key] for row in seeds]) for way in WAYS) for key in ("chance", "words")
        }
        told = _interval([row["zero_shot"] for row in seeds if "zero_shot" in row], "top1")
        sizes = (f"{total / 1e6:.2f}", f"{shared / 1e6:.2f}")
        lines.append([data, name, *sizes, str(seeds[0]["epochs"]), str(len(seeds)), *cells, *both.values(), told, took])
    head = ("images", "model", "parameters, M", "shared, M", "epochs", "seeds", *(f"{way}, R@{K}" for way in WAYS))
    return markdown((*head, "chance", "by words", "zero-shot", "CPU s"), lines)


def _interval(seeds: Rows, key: str) -> str:
    if not seeds:
        return ""
    low, high = (statistics.fmean(seed["interval"][end] for seed in seeds) for end in (0, 1))
    return f"{spread([seed[key] for seed in seeds])} ({low:.1f} to {high:.1f})"


def measured() -> Rows:
    return json.loads(FILE.read_text()) if FILE.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data-dir", type=Path, required=True, help="folder of the sets")
    parser.add_argument("--sets", default="flickr8k", help="folders of images with captions, divided by commas")
    parser.add_argument("--weights", type=Path, help="file of an EfficientNet-Lite0: adds its rows")
    parser.add_argument("--zero-shot", type=Path, help="folders of images in DIR, told by the names of these")
    parser.add_argument("--rows", help=f"divided by semicolons: {'; '.join(ORDER)}")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("runs/benchmark-captions"), help="folder of the runs")
    parser.add_argument("--val-fraction", type=float, help="of a set without a test part: share of images to test on")
    args = parser.parse_args()
    keep_freed_memory()
    known = ORDER if args.weights else list(ROWS)
    names = [name.strip() for name in args.rows.split(";")] if args.rows else known
    if unknown := {*names} - {*known}:
        parser.error(f"unknown: {'; '.join(sorted(unknown))} (rows: {'; '.join(known)})")
    done = {(row["data"], row["row"], row["seed"]) for row in measured()}
    for seed, data, name in ((s, d, n) for s in range(args.seeds) for d in args.sets.split(",") for n in names):
        if (data, name, seed) in done:
            continue
        folder = f"{data}-{name}-{seed}".replace(", ", "-").replace(" ", "-")
        zero = args.zero_shot and args.data_dir / args.zero_shot
        how = {"weights": args.weights, "zero": zero, "val_fraction": args.val_fraction}
        result = measure(name, args.data_dir / data, seed, args.work / folder, **how)
        print(json.dumps(result), flush=True)
        write_text(FILE, json.dumps([*measured(), result], indent=1) + "\n")


if __name__ == "__main__":
    main()
