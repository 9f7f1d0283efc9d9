"""`python -m benchmarks.confounders FOLDER [NAME=FEATURES.npz ...]`: images as confounders. Without files, writes a
study: FOLDER/images.npz, coloured digits, and FOLDER/table.csv, a row for each of their test images, in order. With
files of `contrastkit embed --split test` on these images (several of them joined by commas), measures what adjustment
for each leaves of the confounding, and writes benchmarks/results/confounders.json.

Four things that are seen in an image, and nothing else, decide on treatment and outcome: whether the digit is 5 or
more, how thick its stroke is, its colour, from blue to red, and its brightness. Each that takes part has standard
deviation 1, and adds SLOPE times itself to the logit of the treatment, and STRENGTH times itself to the outcome; the
treatment adds EFFECT. The images stay, treatment and outcome are drawn anew. Adjustment for the four things themselves
is added for comparison.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.special import expit

from benchmarks import RESULTS
from contrastkit.causal.compare import estimators
from contrastkit.causal.form import Form
from contrastkit.checkpoint import write_text
from contrastkit.data import ArraySource, open_data
from contrastkit.npz import write_npz

COMPONENTS, DRAWS = 64, 20
EFFECT, SLOPE, STRENGTH = 2.0, 0.6, 1.0
FACTORS = ("digit", "thickness", "colour", "brightness")
WAYS = ("naive", "ols", "matching", "entropy", "aipw", "dml")
ONE = "entropy"  # of confounders that are alone
Array = Any


def drawn(labels: Array, seed: int) -> pd.DataFrame:
    """The four things of n images of digits, each of mean 0 and standard deviation 1, but for the digit, -1 or 1."""
    g, n, wide = np.random.default_rng(seed), len(labels), np.sqrt(3)
    values = {name: g.uniform(-wide, wide, n) for name in FACTORS[1:]}
    return pd.DataFrame({"digit": np.where(labels >= 5, 1.0, -1.0)} | values)


def pictures(grey: Array, factors: pd.DataFrame) -> Array:
    """uint8 [n, H, W, 3] of grey digits [n, H, W]: the thickest stroke is the largest value of 3 x 3 pixels, the
    thinnest that of the image; the dimmest has 40 % of the light of the brightest."""
    share = {name: factors[name].to_numpy()[:, None, None] / np.sqrt(12) + 0.5 for name in FACTORS[1:]}
    thick = F.max_pool2d(torch.from_numpy(grey).float()[:, None], 3, stride=1, padding=1)[:, 0].numpy()
    ink = (share["thickness"] * thick + (1 - share["thickness"]) * grey) * (0.4 + 0.6 * share["brightness"])
    channels = [ink * share["colour"], 0.3 * ink, ink * (1 - share["colour"])]
    return np.stack(channels, -1).round().astype(np.uint8)


def study(folder: Path) -> None:
    """Write the images and, of those of the test part, the four things, the treatment and the outcome."""
    data, arrays = open_data("affdigits"), dict[str, Array]()
    for prefix, source in (("", data.train), ("test_", data.test)):
        assert isinstance(source, ArraySource) and source.labels is not None
        labels = source.labels.numpy()
        factors = drawn(labels, len(prefix))
        images = pictures(source.images[:, 0].numpy(), factors)
        arrays |= {f"{prefix}images": images, f"{prefix}labels": labels}
    folder.mkdir(parents=True, exist_ok=True)
    write_npz(folder / "images.npz", arrays)
    t, y = world(factors.to_numpy(), 0)
    factors.assign(treated=t.astype(int), outcome=y).to_csv(folder / "table.csv", index=False)


def world(confounders: Array, seed: int) -> tuple[Array, Array]:
    """Treatment and outcome under confounders [n, p]."""
    g, total = np.random.default_rng([seed, 1]), confounders.sum(1)  # not the draws of the things themselves
    t = g.uniform(size=len(total)) < expit(SLOPE * total)
    return t, EFFECT * t + STRENGTH * total + g.normal(size=len(total))


def measure(factors: pd.DataFrame, files: dict[str, list[str]], draws: int) -> list[dict[str, Any]]:
    """A row for each set of confounders, covariates and estimator: bias and deviation of its estimates over the draws,
    and how many of its 95 % intervals hold the truth."""
    form, n = Form(components=COMPONENTS), len(factors)
    covariates = {"these things themselves": form.of(factors, FACTORS, n).X}
    covariates |= {name: form.of(factors, paths, n).X for name, paths in files.items()}
    rows = []
    for confounders, ways in [*(((name,), ("naive", ONE)) for name in FACTORS), (FACTORS, WAYS)]:
        of_these = factors[list(confounders)].to_numpy()
        for name, X in covariates.items():
            found: dict[str, list[tuple[float, bool]]] = {way: [] for way in ways}
            for seed in range(draws):
                t, y = world(of_these, seed)
                for way in ways:
                    fitted = estimators("ATT")[way].fit(X, t, y)
                    low, high = fitted.interval()
                    found[way].append((fitted.effect_ - EFFECT, low <= EFFECT <= high))
            for way, each in found.items():
                errors, held = np.array(each).T
                row = {"confounders": confounders, "covariates": name, "way": way, "draws": draws}
                row |= {"bias": float(errors.mean()), "deviation": float(errors.std()), "covered": int(held.sum())}
                print(row, flush=True)
                rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("files", nargs="*", metavar="NAME=FEATURES.npz")
    parser.add_argument("--draws", type=int, default=DRAWS)
    args = parser.parse_args()
    if not args.files:
        return study(args.folder)
    given = (text.split("=", 1) for text in args.files)
    files = {name: paths.split(",") for name, paths in given}
    rows = measure(pd.read_csv(args.folder / "table.csv")[list(FACTORS)], files, args.draws)
    write_text(RESULTS / "confounders.json", json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
