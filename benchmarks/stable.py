"""`python -m benchmarks.stable`: least squares under the weights of `contrastkit.stable.reweight`, tested in
environments where spurious correlations are reversed. Writes benchmarks/results/stable-selection.json.

Cases are the modes and bias rates of Kuang et al. (AAAI 2020): fitted to 2,000 rows without an intercept, tested on
2,000 rows at each of ten rates. Then independent S and V at rate 2.5 in other axes: rotated at random, and principal
components.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks import RESULTS
from contrastkit.checkpoint import write_text
from contrastkit.stable.environments import selection_environments
from contrastkit.stable.predict import evaluate, fit
from contrastkit.stable.reweight import METHODS
from contrastkit.stable.simulate import BETA, ENVIRONMENTS, Mode, selection_bias
from contrastkit.tables.checks import Floats, effective_sample_size

SEEDS, ROWS = range(10), 2000
CASES: tuple[tuple[Mode, float], ...] = (
    ("independent", 1.7),
    ("independent", 2.5),
    ("S-to-V", 1.7),
    ("V-to-S", 1.7),
    ("collinear", 2.5),
)


def turned(X: Floats, seed: int) -> Floats:
    """A random rotation [p, p]."""
    p = X.shape[1]
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(p, p)))[0]


def principal(X: Floats, seed: int) -> Floats:
    """The principal axes of X [p, p], each scaled by its standard deviation."""
    values, vectors = np.linalg.eigh(np.cov(X, rowvar=False, bias=True))
    return vectors / np.sqrt(values)


AXES: dict[str, Callable[[Floats, int], Floats]] = {
    "own": lambda X, seed: np.eye(X.shape[1]),
    "turned": turned,
    "principal": principal,
}


def measure(mode: Mode, r: float, axes: str, methods: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Yield, for each seed and method, the average, deviation and worst error over environments, the L1 distance of the
    coefficients from the truth in the original axes, and the effective sample size."""
    for seed in SEEDS:
        train = selection_bias(ROWS, r=r, mode=mode, seed=seed)
        tests = selection_environments(ENVIRONMENTS, ROWS, mode=mode, seed=seed).samples.values()
        X, Y = np.concatenate([test.X for test in tests]), np.concatenate([test.Y for test in tests])
        Q = AXES[axes](train.X, seed)
        true = np.concatenate([np.resize(BETA, train.stable), np.zeros(train.stable)])
        for method in methods:
            columns = slice(train.stable if method == "oracle" else None)
            Z = (train.X @ Q)[:, columns]
            how = {"seed": seed} if method in ("rff", "srdo") else {}
            w = METHODS[method](Z, **how).weights if method in METHODS else np.ones(ROWS)
            model = fit(Z, train.Y, w, kind="ridge", alpha=0, intercept=False)
            evaluation = evaluate(model, (X @ Q)[:, columns], Y, np.repeat(ENVIRONMENTS, ROWS))
            yield {
                "mode": mode,
                "r": r,
                "axes": axes,
                "method": method,
                "seed": seed,
                "average": evaluation.average,
                "deviation": evaluation.deviation,
                "worst": evaluation.worst,
                "l1": None if method == "oracle" else float(np.abs(Q @ model.coefficients[0] - true).sum()),
                "ess": effective_sample_size(w),
            }


def main() -> None:
    rows: list[dict[str, Any]] = []
    for mode, r in CASES:
        rows += measure(mode, r, "own", ("ols", *METHODS, "oracle"))
    for axes in ("turned", "principal"):
        rows += measure("independent", 2.5, axes, ("ols", *METHODS))
    write_text(RESULTS / "stable-selection.json", json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
