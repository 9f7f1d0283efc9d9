"""`python -m benchmarks.confounders NAME=FEATURES.npz ...`: images as confounders. Writes benchmarks/results/
confounders.json and the README's table; `--table` alone writes the table of the figures that are there.

Each image's digit decides on treatment and outcome, and only the image is seen: a digit from 5 on is treated with
probability 0.7 and has 4 more of the outcome, others 0.3 and nothing; the treatment adds 2. The files are what
`contrastkit embed --split test` wrote of labelled images, all of the same; the true labels are adjusted for besides.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.table import README, RESULTS, between
from contrastkit.causal.compare import estimators
from contrastkit.causal.study import embedded
from contrastkit.checkpoint import write_text

BEGIN, END = "<!-- python -m benchmarks.confounders -->", "<!-- end of confounders -->"
RESULT = RESULTS / "confounders.json"
COMPONENTS, DRAWS, TRUTH = 64, 20, 2.0
WAYS = ("naive", "matching", "entropy", "aipw")


def measure(files: dict[str, Path]) -> list[dict[str, Any]]:
    """A row for each file and way: the mean and the standard deviation of its estimates over the draws."""
    with np.load(next(iter(files.values()))) as held:
        large = held["labels"] >= 5
    known: dict[str, Any] = {"the digit itself": large[:, None].astype(np.float64)}
    known |= {name: embedded(path, len(large), COMPONENTS) for name, path in files.items()}
    rows = []
    for name, X in known.items():
        found: dict[str, list[float]] = {way: [] for way in WAYS}
        for seed in range(DRAWS):
            g = np.random.default_rng(seed)
            t = g.uniform(size=len(large)) < np.where(large, 0.7, 0.3)
            y = TRUTH * t + 4 * large + g.normal(size=len(large))
            for way in WAYS:
                found[way].append(estimators("ATT")[way].fit(X, t, y).effect_)
        rows += [
            {"covariates": name, "way": way, "mean": float(np.mean(v)), "sd": float(np.std(v))}
            for way, v in found.items()
        ]
        print(name, {way: round(float(np.mean(v)), 2) for way, v in found.items()}, flush=True)
    return rows


def section() -> str:
    """What stands between the README's marks."""
    lines = [f"| adjusted for | {' | '.join(WAYS[1:])} |", "|---" * len(WAYS) + "|"]
    rows = json.loads(RESULT.read_text())
    shown = {(row["covariates"], row["way"]): f"{row['mean']:.2f} +- {row['sd']:.2f}" for row in rows}
    lines.append(f"| nothing | {' | '.join([shown[rows[0]['covariates'], 'naive']] * 3)} |")
    for name in dict.fromkeys(row["covariates"] for row in rows):
        lines.append(f"| {name} | {' | '.join(shown[name, way] for way in WAYS[1:])} |")
    return "\n".join(lines)


def main() -> None:
    if files := dict(given.split("=", 1) for given in sys.argv[1:] if given != "--table"):
        write_text(RESULT, json.dumps(measure({k: Path(v) for k, v in files.items()}), indent=1) + "\n")
    write_text(README, between(README.read_text(), BEGIN, END, section()))


if __name__ == "__main__":
    main()
