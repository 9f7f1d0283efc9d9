"""`python -m benchmarks.survival [--draws N]`: how often 95 % intervals of survival, restricted means and hazard ratios
hold the truth, in simulated studies of 400 rows. Writes benchmarks/results/survival.json, a row for each estimand,
method and quantity. 400 draws take about seven minutes on a core.
"""

import argparse
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import expit

from benchmarks import RESULTS
from benchmarks.tables import markdown, results
from contrastkit.causal.study import Study
from contrastkit.causal.survival import SurvivalEffects, compare_survival
from contrastkit.checkpoint import write_text
from contrastkit.tables.covariates import Covariates

ROWS = 400
AT = (6.0, 12.0)
QUANTITIES = (
    "survival at 6, treated", "survival at 6, untreated", "survival at 12, treated", "survival at 12, untreated",
    "difference at 6", "difference at 12", "difference of mean times to 12", "log hazard ratio",
)  # fmt: skip
CASES: tuple[tuple[Any, Any], ...] = (("ATE", "ipw"), ("ATE", "entropy"), ("ATT", "ipw"), ("ATT", "entropy"))
FOLLOWED = 24.0  # follow-up
EFFECT = -0.5  # on the log hazard, of a unit


def rates(x: Any, t: Any) -> Any:
    return 0.1 * np.exp(x @ [0.7, 0.4] + EFFECT * t)


def lifetimes(n: int, seed: int = 0) -> tuple[Any, Any, Any, Any]:
    """Covariates, a treatment confounded by the first, times that are exponential given both, and events; censoring is
    independent of all."""
    g = np.random.default_rng([seed, 3])
    x = g.normal(size=(n, 2))
    t = g.uniform(size=n) < expit(0.7 * x[:, 0] - 0.3)
    times, censored = g.exponential(size=n) / rates(x, t), np.minimum(25 * g.exponential(size=n), FOLLOWED)
    return x, t, np.minimum(times, censored), times <= censored


def truth(estimand: str, at: Any, horizon: float) -> tuple[Any, float, float]:
    """The survival of both arms [K, 2], the difference of restricted means, and the log hazard ratio that solves the
    score of the Cox model in the limit, with arms of their sizes; by quadrature over covariates and times."""
    nodes, mass = np.polynomial.hermite_e.hermegauss(40)
    x = np.stack(np.meshgrid(nodes, nodes), axis=-1).reshape(-1, 2)
    p, e = np.outer(mass, mass).ravel() / mass.sum() ** 2, expit(0.7 * x[:, 0] - 0.3)
    w = p * e / (p @ e) if estimand == "ATT" else p
    u = np.linspace(0, FOLLOWED, 481)
    hazards = [rates(x, arm) for arm in (1, 0)]
    S = np.array([[w @ np.exp(-rate * v) for v in u] for rate in hazards])
    f = np.array([[w @ (rate * np.exp(-rate * v)) for v in u] for rate in hazards])
    share = np.array([[p @ e], [1 - p @ e]])

    def score(beta: float) -> float:
        risk = share * S * np.exp(np.array([[beta], [0]]))
        events = share * f
        return float(np.trapezoid(np.exp(-u / 25) * (events[0] - events.sum(0) * risk[0] / risk.sum(0)), u))

    until = u <= horizon
    mean = float(np.trapezoid((S[0] - S[1])[until], u[until]))
    return S[:, np.searchsorted(u, at)].T, mean, brentq(score, -3, 3)


def study(x: Any, t: Any, times: Any, events: Any, **columns: Any) -> Study:
    frame = pd.DataFrame({"t": np.asarray(t).astype(int), "months": times, "died": events, **columns})
    return Study(
        X=Covariates.of(x), T=np.asarray(t) == 1, Y=frame.died.to_numpy(), treatment="t", outcome="died", time="months",
        covariates={}, frame=frame, source="table",
    )  # fmt: skip


def estimates(found: SurvivalEffects) -> list[float]:
    """Survival of both arms at each time, its differences, that of the restricted means, and the log hazard ratio."""
    shares = [arm.survival[k].survival for k in range(len(found.differences)) for arm in found.arms]
    contrasts = [effect.effect for _, effect in found.differences]
    return [*shares, *contrasts, found.restricted_mean_difference.effect, float(np.log(found.hazard_ratio.ratio))]


def errors(found: SurvivalEffects) -> list[float]:
    """Their standard errors."""
    shares = [arm.survival[k].se for k in range(len(found.differences)) for arm in found.arms]
    contrasts = [effect.se for _, effect in found.differences]
    return [*shares, *contrasts, found.restricted_mean_difference.se, found.hazard_ratio.se]


def ends(found: SurvivalEffects) -> list[tuple[float, float]]:
    """Of their intervals."""
    shares = [(arm.survival[k].low, arm.survival[k].high) for k in range(len(found.differences)) for arm in found.arms]
    effects = [*(effect for _, effect in found.differences), found.restricted_mean_difference]
    log = (float(np.log(found.hazard_ratio.low)), float(np.log(found.hazard_ratio.high)))
    return [*shares, *((effect.low, effect.high) for effect in effects), log]


def measure(estimand: Any, by: Any, draws: int) -> Iterator[dict[str, Any]]:
    S, mean, log = truth(estimand, AT, AT[1])
    known = np.array([*S.ravel(), *(S[:, 0] - S[:, 1]), mean, log])
    found = [
        compare_survival(study(*lifetimes(ROWS, seed)), by, estimand=estimand, at=AT, horizon=AT[1])
        for seed in range(draws)
    ]
    off, se = np.array([estimates(each) for each in found]) - known, np.array([errors(each) for each in found])
    held = np.array(
        [[low <= value <= high for (low, high), value in zip(ends(each), known, strict=True)] for each in found]
    )
    for k, quantity in enumerate(QUANTITIES):
        spread = float(off[:, k].std(ddof=1))
        row = {"estimand": estimand, "method": by, "quantity": quantity, "draws": draws}
        row |= {"covered": float(held[:, k].mean()), "bias": float(off[:, k].mean()) / spread}
        yield row | {"error": float(se[:, k].mean()) / spread}


def table() -> str:
    """For each quantity, the share of intervals that hold the truth, and the mean standard error and the bias over the
    spread."""
    measured = results("survival")
    cases = list(dict.fromkeys((row["estimand"], row["method"]) for row in measured))
    cells = {
        (
            row["quantity"],
            row["estimand"],
            row["method"],
        ): f"{row['covered']:.1%}, {row['error']:.2f}, {row['bias']:+.2f}"
        for row in measured
    }
    quantities = dict.fromkeys(row["quantity"] for row in measured)
    rows = [[quantity, *(cells[quantity, *case] for case in cases)] for quantity in quantities]
    return markdown(("quantity", *(f"{estimand}, {by}" for estimand, by in cases)), rows)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=400)
    draws = parser.parse_args().draws
    rows = [row for case in CASES for row in measure(*case, draws)]
    write_text(RESULTS / "survival.json", json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
