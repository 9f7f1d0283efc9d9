"""`python -m benchmarks.designs [--draws N]`: how often 95 % intervals hold the truth, in simulated studies of risks,
of three arms and of doses, with 400 rows. Writes benchmarks/results/designs.json, a row for each study, quantity and
method. 500 draws take about half an hour on a core, most of it the bootstrap of doses.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from typing import Any, get_args

import numpy as np
import pandas as pd
from scipy.special import expit

from benchmarks import RESULTS
from benchmarks.tables import markdown, results
from contrastkit.causal.arms import compare_arms
from contrastkit.causal.compare import estimators
from contrastkit.causal.dose import dose_response
from contrastkit.causal.names import ArmWeighting, DoseWeighting, Measure
from contrastkit.causal.study import Units
from contrastkit.checkpoint import write_text
from contrastkit.errors import UserError
from contrastkit.tables.covariates import Covariates

ROWS = 400
WAYS = ("glm", "ipw", "entropy", "cbps", "aipw")
AT = (-1.0, 0.0, 1.0)  # doses
BOOTSTRAP = 100
Array = Any
Found = tuple[str, str, float, float, float]  # quantity, method, estimate less truth, and interval less truth


def units(x: Array, t: Array, y: Array) -> Units:
    frame = pd.DataFrame({"t": t, "y": y})
    return Units(
        X=Covariates.of(x), Y=frame.y.to_numpy(), treatment="t", outcome="y", covariates={}, frame=frame, source=""
    )  # fmt: skip


def risks(g: np.random.Generator, n: int = ROWS) -> tuple[Array, Array, Array]:
    """A confounded treatment and outcome of 0 and 1, and both probabilities of the outcome, [n, 2]."""
    x = g.normal(size=(n, 2))
    t = g.uniform(size=n) < expit(0.6 * x[:, 0] - 0.2)
    return x, t, expit(np.column_stack([x @ [1, 0.3] + 0.3, x @ [1, 0.3] - 0.5]))


def of_risks(g: np.random.Generator) -> Iterator[Found]:
    x, t, p = risks(g)
    y = g.uniform(size=len(x)) < np.where(t, p[:, 0], p[:, 1])
    means = risks(np.random.default_rng(0), 10**6)[2].mean(0)
    odds = means / (1 - means)
    truths = {"difference": means[0] - means[1], "ratio": np.log(means[0] / means[1])}
    truths["odds-ratio"] = np.log(odds[0] / odds[1])
    for measure in get_args(Measure):
        for name in WAYS:
            fitted = estimators("ATE")[name].fit(x, t, y, measure=measure)
            low, high = fitted.interval()
            truth = truths[measure]
            yield measure.replace("-", " "), name, fitted.effect_ - truth, low - truth, high - truth


def of_arms(g: np.random.Generator) -> Iterator[Found]:
    """Three arms with the effects 0, 1 and 2.5, larger where the first covariate is."""
    x = g.normal(size=(ROWS, 2))
    p = np.exp(np.column_stack([np.zeros(ROWS), 0.5 * x[:, 0], -0.6 * x[:, 1] + 0.3]))
    t = ((p / p.sum(1, keepdims=True)).cumsum(1) < g.uniform(size=ROWS)[:, None]).sum(1)
    effects = np.array([0.0, 1.0, 2.5])
    y = effects[t] * (1 + 0.5 * x[:, 0]) + x @ [1, 2] + g.normal(size=ROWS)
    for by in get_args(ArmWeighting):
        for together in (False, True):
            contrasts = compare_arms(units(x, t, y), by, simultaneous=together).contrasts
            gaps = []
            for each in contrasts:
                truth = effects[int(each.arm)] - effects[int(each.against)]
                gaps.append((each.effect - truth, each.low - truth, each.high - truth))
            if together:  # the interval that is farthest from holding the truth
                yield ("all contrasts together", by, *max(gaps, key=lambda gap: max(gap[1], -gap[2])))
            else:
                yield from (("a contrast", by, *gap) for gap in gaps)


def of_doses(g: np.random.Generator) -> Iterator[Found]:
    x = g.normal(size=(ROWS, 2))
    t = x @ [0.5, 0.3] + g.normal(size=ROWS)
    y = t + 0.3 * t**2 + x @ [2, 1] + g.normal(size=ROWS)
    for by in get_args(DoseWeighting):
        curve = dose_response(units(x, t, y), by, at=AT, draws=BOOTSTRAP).curve
        for point in curve:
            truth = point.dose + 0.3 * point.dose**2
            yield f"mean at dose {point.dose:g}", by, point.mean - truth, point.low - truth, point.high - truth


STUDIES: dict[str, Callable[[np.random.Generator], Iterator[Found]]] = {
    "risks": of_risks, "three arms": of_arms, "doses": of_doses,
}  # fmt: skip


def measure_study(study: str, draws: int) -> Iterator[dict[str, Any]]:
    found: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    refused = 0
    for seed in range(draws):
        try:
            for quantity, method, error, low, high in STUDIES[study](np.random.default_rng([seed, 7])):
                found.setdefault((quantity, method), []).append((error, low, high))
        except UserError:
            refused += 1
    for (quantity, method), rows in found.items():
        errors, lows, highs = np.array(rows).T
        row = {"study": study, "quantity": quantity, "method": method, "draws": draws, "refused": refused}
        row |= {"covered": float(((lows <= 0) & (highs >= 0)).mean()), "bias": float(errors.mean())}
        yield row | {"deviation": float(errors.std())}


def table() -> str:
    """The share of intervals that hold the truth, a row for each quantity."""
    measured = results("designs")
    methods = list(dict.fromkeys(row["method"] for row in measured))
    shares = {(row["study"], row["quantity"], row["method"]): f"{row['covered']:.1%}" for row in measured}
    rows = [
        [study, quantity, *(shares.get((study, quantity, method), "") for method in methods)]
        for study, quantity in dict.fromkeys((row["study"], row["quantity"]) for row in measured)
    ]
    return markdown(("study", "quantity", *methods), rows)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=500)
    draws = parser.parse_args().draws
    rows = []
    for study in STUDIES:
        for row in measure_study(study, draws):
            rows.append(row)
            print(row, flush=True)
    write_text(RESULTS / "designs.json", json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
