"""`python -m benchmarks.causal [TASK ...]`: time weighting, matching and estimates of `contrastkit causal` against the
packages an expert would use, on LaLonde's data and simulated rows, and write benchmarks/results/causal.json, or replace
the rows of some tasks there.

Packages that are not installed are skipped: ebal, empirical-calibration, statsmodels, pymatchit-causal, scikit-learn,
causallib, doubleml, dowhy, econml, lifelines, linearmodels. Each package is timed in a separate process, three times
(once if it takes longer than ten seconds), and reports its gap, the largest |SMD| that its weights leave, or its
estimate, to show that the results are comparable. The estimates are in benchmarks/estimates.py, and those of other
designs than two arms in benchmarks/design_estimates.py.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import RESULTS
from benchmarks.design_estimates import DESIGNS
from benchmarks.estimates import ESTIMATES, Estimate
from contrastkit.causal.diagnostics import balance_table
from contrastkit.causal.matching import Matching
from contrastkit.causal.propensity import Propensity
from contrastkit.causal.sets import NAMED, load
from contrastkit.causal.weighting import EntropyBalancing, InverseProbability
from contrastkit.checkpoint import write_text

LIMIT, LIMIT_OF_ESTIMATES = 120, 300  # seconds until a run is stopped
DATA = {
    "lalonde": "16,177 x 10 (LaLonde, CPS-1)",
    "10000": "10,000 x 20",
    "100000": "100,000 x 20",
    "1000000": "1,000,000 x 20",
}


def rows(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Covariates [n, p], treatment [n] and outcome [n], on which the treatment of simulated rows has an effect of 2."""
    if name == "lalonde":
        frame, _ = load(name, None)
        columns = frame[[*NAMED[name].covariates, NAMED[name].outcome]].to_numpy(np.float64)
        return columns[:, :-1], frame[NAMED[name].treatment].to_numpy() == 1, columns[:, -1]
    g = np.random.default_rng(0)
    x = g.normal(size=(int(name), 20))
    t = g.uniform(size=len(x)) < 1 / (1 + np.exp(1 - 0.5 * x[:, 0] - 0.3 * x[:, 1]))
    return x, t, 2 * t + x @ np.linspace(1, 0, 20) + g.normal(size=len(x))


def ebal(x: Any, t: Any) -> Any:
    from ebal import ebal_bin

    result = ebal_bin(PCA=False, print_level=-1, constraint_tolerance=1e-9).ebalance(t.astype(float), x, x[:, 0])
    w = np.ones(len(t))
    w[~t] = result["w"][~t]
    return w


def empirical_calibration(x: Any, t: Any) -> Any:
    import empirical_calibration as ec

    w = np.ones(len(t))
    w[~t], _ = ec.calibrate(x[~t], x[t], autoscale=True, objective=ec.Objective.ENTROPY)
    return w


def logit(x: Any, t: Any) -> Any:
    import statsmodels.api as sm

    e = sm.Logit(t.astype(float), sm.add_constant(x)).fit(disp=0, method="newton").predict()
    return np.where(t, 1.0, e / (1 - e))


def neighbours(x: Any, t: Any) -> Any:
    """One to one on the logit, with replacement, by a tree of scikit-learn."""
    from sklearn.neighbors import NearestNeighbors

    z = Propensity().fit(x, t).logit_[:, None]
    near = NearestNeighbors(n_neighbors=1, algorithm="kd_tree", n_jobs=-1).fit(z[~t]).kneighbors(z[t])[1][:, 0]
    w = t.astype(float)
    w[~t] = np.bincount(near, minlength=(~t).sum())
    return w


def pymatchit(**options: Any) -> Callable[[Any, Any], Any]:
    def run(x: Any, t: Any) -> Any:
        from pymatchit import MatchIt

        frame = pd.DataFrame(x, columns=[f"x{j}" for j in range(x.shape[1])]).assign(treat=t.astype(int))
        result = MatchIt(frame, method="nearest", **options).fit("treat ~ " + " + ".join(frame.columns[:-1]))
        return result.weights.to_numpy(np.float64)

    return run


def matched(**options: Any) -> Callable[[Any, Any], Any]:
    return lambda x, t: Matching(**options).fit(x, t).weights_


# task -> package -> function of x and t that returns weights [n]
WEIGHTS: dict[str, dict[str, Callable[[Any, Any], Any]]] = {
    "entropy balancing": {
        "contrastkit": lambda x, t: EntropyBalancing().fit(x, t).weights_,
        "ebal": ebal,
        "empirical-calibration": empirical_calibration,
    },
    "inverse propensity": {
        "contrastkit": lambda x, t: InverseProbability().fit(x, t).weights_,
        "statsmodels": logit,
    },
    "matching, propensity, with replacement": {
        "contrastkit": matched(),
        "scikit-learn": neighbours,
        "pymatchit": pymatchit(replace=True),
    },
    "matching, propensity, without replacement": {
        "contrastkit": matched(replacement=False),
        "pymatchit": pymatchit(),
    },
    "matching, Mahalanobis, with replacement": {
        "contrastkit": matched(metric="mahalanobis"),
        "pymatchit": pymatchit(replace=True, distance="mahalanobis"),
    },
}
ESTIMATING = ESTIMATES | DESIGNS
TASKS = WEIGHTS | ESTIMATING
SKIPPED = {("matching, Mahalanobis, with replacement", "1000000")}  # too slow: no tree helps in 20 dimensions
SKIPPED |= {(task, "lalonde") for task in ESTIMATING}  # it has no overlap for the ATE


def time_one(task: str, way: str, data: str) -> dict[str, Any]:
    """Time one package in this process: seconds, gap or estimate, and memory beyond that of the data."""
    x, t, y = rows(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run = (lambda: WEIGHTS[task][way](x, t)) if task in WEIGHTS else (lambda: ESTIMATING[task][way](x, t, y))
    seconds: list[float] = []
    while len(seconds) < 3 and sum(seconds) < 10:
        start = time.perf_counter()
        found = run()
        seconds.append(time.perf_counter() - start)
    extra = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    result = found._asdict() if isinstance(found, Estimate) else {"gap": balance_table(x, t, found).worst}
    return {"seconds": median(seconds), **result, "extra_mib": extra / 1024}


def measure(tasks: list[str]) -> list[dict[str, Any]]:
    results = []
    for task in tasks:
        ways = TASKS[task]
        limit = LIMIT_OF_ESTIMATES if task in ESTIMATING else LIMIT
        for data in DATA:
            if (task, data) in SKIPPED:
                continue
            for way in ways:
                command = [sys.executable, "-m", "benchmarks.causal", "--one", task, way, data]
                row: dict[str, Any] = {"task": task, "data": data, "way": way}
                try:
                    process = subprocess.run(command, capture_output=True, text=True, timeout=limit)
                    if process.returncode:
                        row["note"] = (process.stderr.strip().splitlines() or ["MemoryError: killed"])[-1]
                        if "MemoryError" in row["note"]:
                            row["note"] = "out of memory"
                        if "ModuleNotFoundError" in row["note"]:
                            continue
                    else:
                        row |= json.loads(process.stdout.strip().splitlines()[-1])
                except subprocess.TimeoutExpired:
                    row["note"] = f"more than {limit} s"
                print(row, flush=True)
                results.append(row)
    return results


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("tasks", nargs="*", metavar="TASK", help="; ".join(TASKS))
    parser.add_argument("--one", nargs=3, metavar=("TASK", "WAY", "DATA"))
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(time_one(*arguments.one)))
        return
    tasks, path = arguments.tasks or [*TASKS], RESULTS / "causal.json"
    if unknown := {*tasks} - {*TASKS}:
        parser.error(f"unknown: {', '.join(unknown)}")
    kept = [row for row in json.loads(path.read_text()) if row["task"] not in tasks] if path.exists() else []
    found = sorted([*kept, *measure(tasks)], key=lambda row: [*TASKS].index(row["task"]))
    write_text(path, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
