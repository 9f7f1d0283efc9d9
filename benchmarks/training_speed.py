"""`python -m benchmarks.training_speed --data-dir DIR --older DIR [--repeats N]`: an epoch of `contrastkit train` on
CIFAR-10 with the encoder `tiny`, by this code and by a built checkout of an earlier version (0c1a6b5), in turn. Writes
benchmarks/results/training-speed.json: images a second of each epoch, and the share of the time that it waited for
data.
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

METHODS = ("simclr", "moco")


def epoch(method: str, checkout: Path, data_dir: Path) -> dict[str, Any]:
    """What the run of one epoch said of itself."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "contrastkit", "train", method, "--data", "cifar10"]
        command += ["--data-dir", str(data_dir), "--encoder", "tiny", "--epochs", "1", "--monitor-every", "0"]
        command += ["--out", f"{folder}/run"]
        environment = os.environ | {"PYTHONPATH": str(checkout)}
        subprocess.run(command, env=environment, cwd=folder, check=True, capture_output=True)
        metrics = json.loads((Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    return {"images_per_second": metrics["images_per_s"], "waiting": metrics["waiting"], "loss": metrics["loss"]}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--older", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    checkouts = {"ours": Path(__file__).resolve().parents[1], "older": options.older.resolve()}
    rows = []
    for repeat in range(options.repeats):
        for method in METHODS:
            for name, checkout in checkouts.items():
                found = epoch(method, checkout, options.data_dir.resolve())
                rows.append({"method": method, "impl": name, "repeat": repeat, **found})
                print(rows[-1], flush=True)
    write_text(RESULTS / "training-speed.json", json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
