"""`python -m benchmarks.scaled_decoding --data DIR [--epochs N] [--seeds N] [--sizes N ...]`: does decoding JPEGs at a
half or a quarter of their sides (`--scaled-decoding`) harm what is learned? MoCo v2, `tiny`, on the photographs of a
folder seen at 24 and 48 pixels, with it and without, by kNN on the test part. Appends to
benchmarks/results/scaled-decoding.json; what is there already is skipped.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import RESULTS
from contrastkit.checkpoint import write_text

SIZES = [24, 48]
FILE = RESULTS / "scaled-decoding.json"


def knn(data: Path, size: int, scaled: bool, seed: int, epochs: int) -> dict[str, Any]:
    """Accuracy of a run by kNN in %."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    with tempfile.TemporaryDirectory() as folder:
        run = f"{folder}/run"
        train = ["train", "moco-v2", "--data", str(data), "--encoder", "tiny", "--size", str(size), "--out", run]
        train += ["--epochs", str(epochs), "--seed", str(seed), "--monitor-every", "0"]
        train += ["--scaled-decoding"] if scaled else []
        for command in (train, ["knn", run]):
            full = [sys.executable, "-m", "contrastkit", *command]
            subprocess.run(full, env=environment, cwd=folder, check=True, capture_output=True)
        (accuracy,) = json.loads(Path(run, "knn.json").read_text())["accuracy"].values()
    row = {"size": size, "scaled": scaled, "seed": seed, "epochs": epochs}
    return row | {"knn": round(100 * accuracy["top1"], 2), "n": accuracy["n"]}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    options = parser.parse_args()
    rows = json.loads(FILE.read_text()) if FILE.exists() else []
    done = {(row["size"], row["scaled"], row["seed"], row["epochs"]) for row in rows}
    for size in options.sizes:
        for seed in range(options.seeds):
            for scaled in (False, True):
                if (size, scaled, seed, options.epochs) not in done:
                    rows.append(knn(options.data.resolve(), size, scaled, seed, options.epochs))
                    print(rows[-1], flush=True)
                    write_text(FILE, json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
