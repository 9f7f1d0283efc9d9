"""`python -m benchmarks.coverage [--draws N] [--boost-draws N]`: how often 95 % intervals hold the truth, in simulated
studies with 300 and 2,000 rows and an effect of 2. Writes benchmarks/results/coverage.json, a row for each study,
number of rows, estimand and estimator.

A constant effect shifts estimates and intervals alike: as many hold 0 where there is no effect, so that 100 % less the
coverage is the type-I error. 500 draws take about ten minutes on a core, 100 with boosting twice that.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy.special import expit

from benchmarks import RESULTS
from contrastkit.causal.compare import LINEAR, estimators
from contrastkit.causal.models import Models
from contrastkit.causal.names import Estimand
from contrastkit.checkpoint import write_text
from contrastkit.errors import UserError

ROWS = (300, 2000)
ESTIMANDS: tuple[Estimand, ...] = ("ATE", "ATT")
EFFECT = 2.0
LINES = ("ols", "oaxaca", "matching", "ipw", "overlap", "entropy", "cbps", "aipw")
BOOST = Models("boost", "boost", repeats=1)
Array = Any


def lines(x: Array) -> tuple[Array, Array]:
    """The logit of treatment, and the outcome without it."""
    return 0.8 * x[:, 0] - 0.5, x @ np.arange(1, 4)


def overlap(x: Array) -> tuple[Array, Array]:
    """As above, with little overlap."""
    return 1.5 * x[:, 0] - 0.5, x @ np.arange(1, 4)


def curved_outcome(x: Array) -> tuple[Array, Array]:
    """The logit is linear, the outcome is not."""
    return 0.8 * x[:, 0] - 0.5, np.abs(x[:, 0]) + 2 * x[:, 0] * x[:, 1] + 2 * (x[:, 2] > 0)


def curves(x: Array) -> tuple[Array, Array]:
    """Neither is a line."""
    return x[:, 0] * x[:, 1] + (x[:, 2] > 0) - 0.5, curved_outcome(x)[1]


STUDIES: dict[str, Callable[[Array], tuple[Array, Array]]] = {
    "lines": lines, "little overlap": overlap, "curved outcome": curved_outcome, "curves": curves,
}  # fmt: skip


def draw(study: str, n: int, seed: int) -> tuple[Array, Array, Array]:
    g = np.random.default_rng([seed, n])
    x = g.normal(size=(n, 3))
    logit, outcome = STUDIES[study](x)
    t = g.uniform(size=n) < expit(logit)
    return x, t, EFFECT * t + outcome + g.normal(size=n)


def measure(
    study: str, n: int, estimand: Estimand, names: tuple[str, ...], models: Models, draws: int
) -> Iterator[Any]:
    """A row for each of these estimators, if it is one of this estimand."""
    tried = {name: each for name, each in estimators(estimand, models=models).items() if name in names}
    errors: dict[str, list[float]] = {name: [] for name in tried}
    held = dict.fromkeys(tried, 0)
    for seed in range(draws):
        x, t, y = draw(study, n, seed)
        for name, estimator in tried.items():
            try:
                low, high = estimator.fit(x, t, y).interval()
            except UserError:
                continue
            held[name] += low <= EFFECT <= high
            errors[name].append(estimator.effect_ - EFFECT)
    for name, found in errors.items():
        row = {"study": study, "rows": n, "estimand": estimand, "estimator": name, "draws": draws}
        row |= {"models": models.outcome, "refused": draws - len(found), "covered": held[name] / max(len(found), 1)}
        yield row | {"bias": float(np.mean(found)), "deviation": float(np.std(found))}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--boost-draws", type=int, default=100)
    options = parser.parse_args()
    tried: list[tuple[str, tuple[str, ...], Models, int]] = [(study, LINES, LINEAR, options.draws) for study in STUDIES]
    tried.append(("curves", ("aipw",), BOOST, options.boost_draws))
    rows: list[dict[str, Any]] = []
    for study, names, models, draws in tried:
        for n in ROWS:
            for estimand in ESTIMANDS:
                for row in measure(study, n, estimand, names, models, draws):
                    rows.append(row)
                    print(row, flush=True)
    write_text(RESULTS / "coverage.json", json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
