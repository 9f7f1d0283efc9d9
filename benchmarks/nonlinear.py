"""`python -m benchmarks.nonlinear [--studies NAME,..] [--draws N]`: aipw with linear models and with boosting on
simulated studies that no line describes. Writes benchmarks/results/nonlinear.json, a row for each study, estimand,
model and draw; those of other studies are kept.

Each study has 50 covariates, of which few matter, and 5,000 rows; errors are from the effect on the population. A draw
takes about two minutes on two cores. Folds are drawn once, and three times, as by default, where once covers too
little.
"""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import expit

from benchmarks import RESULTS
from contrastkit.causal.estimate import AIPW
from contrastkit.causal.models import Models
from contrastkit.causal.names import Estimand
from contrastkit.checkpoint import write_text

ESTIMANDS: tuple[Estimand, ...] = ("ATE", "ATT")
ROWS, COVARIATES, POPULATION = 5_000, 50, 400_000
Array = Any
World = tuple[Array, Array, Array, Array]  # x [n, p], e [n], E[Y(0) | x] [n], effect [n]


def thresholds(n: int, g: np.random.Generator) -> World:
    """Conjunctions, and an exclusive or that no covariate shows alone."""
    x = g.normal(size=(n, COVARIATES))
    both, either = (x[:, 0] > 0) & (x[:, 1] > 0), (x[:, 3] > 0) ^ (x[:, 4] > 0)
    e = expit(-0.8 + 2.2 * both + 1.2 * (x[:, 2] > 0.5) - 1.5 * either)
    return x, e, 3 * both + 2 * (x[:, 2] > 0.5) * (x[:, 5] > 0) - 2 * either, 1.0 + (x[:, 0] > 0)


def interactions(n: int, g: np.random.Generator) -> World:
    """A product, an absolute value and a sine."""
    x = g.normal(size=(n, COVARIATES))
    e = expit(1.2 * x[:, 0] * x[:, 1] + 0.8 * (np.abs(x[:, 2]) - 0.8) + 0.4 * x[:, 3])
    return x, e, 2 * x[:, 0] * x[:, 1] + 2 * np.abs(x[:, 2]) + x[:, 3] + np.sin(2 * x[:, 4]), 1 + 0.5 * x[:, 3]


def poor(n: int, g: np.random.Generator) -> World:
    """A tenth of the scores is within 0.01 of 0 or 1."""
    x = g.uniform(-2, 2, size=(n, COVARIATES))
    corner = (x[:, 1] > 0) & (x[:, 2] > 0)
    e = expit(2.4 * (x[:, 0] ** 2 - 1.3) + 1.5 * corner - 0.5)
    return x, e, 2 * x[:, 0] ** 2 + 3 * corner + x[:, 3], 2 + x[:, 3]


def mixed(n: int, g: np.random.Generator) -> World:
    """Correlated covariates, the last 20 of two values; ramps behind thresholds."""
    loadings = np.random.default_rng(0).normal(size=(5, COVARIATES))  # the population's: of all draws
    x = 0.6 * g.normal(size=(n, 5)) @ loadings / np.sqrt(5) + 0.8 * g.normal(size=(n, COVARIATES))
    x[:, 30:] = x[:, 30:] > 0
    both, ramp = x[:, 30] * x[:, 31], np.maximum(x[:, 0], 0) * (x[:, 1] > 0)
    below = x[:, 32] * (x[:, 2] < 0)
    e = expit(-1 + 1.5 * both + 1.5 * ramp - below + 0.5 * x[:, 3])
    return x, e, 2 * np.exp(0.5 * ramp) + 2 * both - 2 * below + x[:, 3] + x[:, 4], np.where(x[:, 33] > 0, 3.0, 1.0)


def linear(n: int, g: np.random.Generator) -> World:
    """Lines, which boosting must not spoil."""
    x = g.normal(size=(n, COVARIATES))
    return x, expit(0.24 * x[:, :10].sum(1)), x @ np.r_[np.ones(10), np.full(COVARIATES - 10, 0.1)], np.full(n, 2.0)


STUDIES: dict[str, Callable[[int, np.random.Generator], World]] = {
    "thresholds": thresholds, "interactions": interactions, "poor": poor, "mixed": mixed, "linear": linear,
}  # fmt: skip
DEFAULT = "boost, 3 repeats"
MODELS = {
    "linear": Models(repeats=1),
    "boost": Models("boost", "boost", repeats=1),
    DEFAULT: Models("boost", "boost"),
}
REPEATED = (("thresholds", "ATT"), ("mixed", "ATT"))


def draw(study: str, seed: int, n: int = ROWS) -> tuple[Array, Array, Array, dict[str, float]]:
    """Covariates, treatment and outcome of a sample, and the effects in it."""
    g = np.random.default_rng([seed, len(study)])
    x, e, m0, effect = STUDIES[study](n, g)
    t = g.uniform(size=n) < e
    return x, t, m0 + t * effect + g.normal(size=n), {"ATE": effect.mean(), "ATT": np.average(effect, weights=e)}


def measure(studies: list[str], draws: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    truths = {study: draw(study, 99_999, POPULATION)[3] for study in studies}
    for seed in range(draws):
        for study, truth in truths.items():
            x, t, y, _ = draw(study, seed)
            for name, models in MODELS.items():
                for estimand in ESTIMANDS:
                    if name == DEFAULT and (study, estimand) not in REPEATED:
                        continue
                    start = time.perf_counter()
                    outcome, propensity = models.of_outcome(), models.of_propensity()
                    aipw = AIPW(estimand, model=outcome, propensity=propensity, **models.cross_fitting).fit(x, t, y)
                    row: dict[str, Any] = {"study": study, "estimand": estimand, "models": name, "seed": seed}
                    row |= {"error": aipw.effect_ - truth[estimand], "se": aipw.se_}
                    rows.append(row | {"seconds": round(time.perf_counter() - start, 2)})
                    print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--studies", default=",".join(STUDIES))
    parser.add_argument("--draws", type=int, default=20)
    args = parser.parse_args()
    studies, file = args.studies.split(","), RESULTS / "nonlinear.json"
    if unknown := {*studies} - {*STUDIES}:
        parser.error(f"unknown: {', '.join(sorted(unknown))} (studies: {', '.join(STUDIES)})")
    others = [row for row in json.loads(file.read_text()) if row["study"] not in studies]
    rows = sorted(others + measure(studies, args.draws), key=lambda row: list(STUDIES).index(row["study"]))
    write_text(file, json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
