"""`python -m benchmarks.confounders NAME=FEATURES.npz ...`: images as confounders. Writes benchmarks/results/
confounders.json.

The digit in each image affects treatment and outcome, but only the image is observed: digits from 5 on are treated with
probability 0.7 and have an outcome higher by 4, others with 0.3; the treatment adds 2. The files come from `contrastkit
embed --split test` on the same labelled images; adjustment for the true labels is added for comparison.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import RESULTS
from contrastkit.causal.compare import estimators
from contrastkit.causal.form import embedded
from contrastkit.checkpoint import write_text

COMPONENTS, DRAWS, TRUTH = 64, 20, 2.0
WAYS = ("naive", "matching", "entropy", "aipw")


def measure(files: dict[str, Path]) -> list[dict[str, Any]]:
    """A row for each file and estimator: the mean and standard deviation of its estimates over the draws."""
    with np.load(next(iter(files.values()))) as archive:
        large = archive["labels"] >= 5
    covariates: dict[str, Any] = {"the digit itself": large[:, None].astype(np.float64)}
    covariates |= {name: embedded(path, len(large), COMPONENTS) for name, path in files.items()}
    rows = []
    for name, X in covariates.items():
        estimates: dict[str, list[float]] = {way: [] for way in WAYS}
        for seed in range(DRAWS):
            g = np.random.default_rng(seed)
            t = g.uniform(size=len(large)) < np.where(large, 0.7, 0.3)
            y = TRUTH * t + 4 * large + g.normal(size=len(large))
            for way in WAYS:
                estimates[way].append(estimators("ATT")[way].fit(X, t, y).effect_)
        rows += [
            {"covariates": name, "way": way, "mean": float(np.mean(v)), "sd": float(np.std(v))}
            for way, v in estimates.items()
        ]
        print(name, {way: round(float(np.mean(v)), 2) for way, v in estimates.items()}, flush=True)
    return rows


def main() -> None:
    files = dict(argument.split("=", 1) for argument in sys.argv[1:])
    rows = measure({name: Path(path) for name, path in files.items()})
    write_text(RESULTS / "confounders.json", json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
