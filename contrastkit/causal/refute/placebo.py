"""Checks in which nothing should change, or no effect should appear."""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from contrastkit.causal.estimate import Estimator
from contrastkit.causal.estimate.resampling import SHARE, effects, stream, subsets
from contrastkit.causal.refute.verdict import DRAWS, Verdict, digits, fitted
from contrastkit.tables.checks import Bools, Floats
from contrastkit.tables.covariates import Covariates

MOVED = 0.5  # standard errors by which the estimate may move


def placebo_treatment(
    X: Covariates, t: Bools, y: Floats, first: Estimator, *, draws: int = DRAWS, seed: int = 0
) -> Verdict:
    """Permute the treatment, which removes its effect: passes if zero is in the central 95 % of the estimates, and
    within four standard errors of their mean."""
    g = stream(seed, "placebo")
    estimates, refused = effects(first, ((X, g.permutation(t), y) for _ in range(draws)))
    mean, sd = float(estimates.mean()), float(estimates.std())
    low, high = (float(v) for v in np.quantile(estimates, (0.025, 0.975)))
    passed = low <= 0 <= high and abs(mean) <= 4 * sd / math.sqrt(len(estimates))
    sentence = (
        f"permuted treatments have effects of {digits(mean)} on average, 95 % of them from {digits(low)} "
        f"to {digits(high)}{refusals(refused)}: {'no effect, as expected' if passed else 'there should be none'}"
    )
    numbers = {"mean": mean, "low": low, "high": high, "refused": refused}
    return Verdict("placebo treatment", passed, sentence, numbers)


def random_cause(X: Covariates, t: Bools, y: Floats, first: Estimator, *, draws: int = DRAWS, seed: int = 0) -> Verdict:
    """Add a covariate of N(0, 1) noise: passes if the mean estimate moves by less than half its standard error."""
    g = stream(seed, "cause")
    samples = ((X.with_column(g.normal(size=len(X)), "noise"), t, y) for _ in range(draws))
    return _unmoved("random common cause", "adding a covariate of pure noise", first, *effects(first, samples))


def subset(X: Covariates, t: Bools, y: Floats, first: Estimator, *, draws: int = DRAWS, seed: int = 0) -> Verdict:
    """Draw 80 % of each arm without replacement: passes if the mean estimate moves by less than half its standard
    error."""
    estimates, refused = effects(first, subsets((X, t, y), draws, seed))
    return _unmoved("subset", f"leaving out {1 - SHARE:.0%} of the units", first, estimates, refused)


def _unmoved(name: str, what: str, first: Estimator, estimates: Floats, refused: int) -> Verdict:
    moved = float(estimates.mean()) - first.effect_
    passed = abs(moved) < MOVED * first.se_
    sentence = (
        f"{what} moves the estimate by {digits(moved)} on average{refusals(refused)}, {abs(moved) / first.se_:.2f} "
        f"standard errors: {'less' if passed else 'not less'} than {MOVED:g}"
    )
    numbers = {"mean": float(estimates.mean()), "sd": float(estimates.std()), "moved": moved, "refused": refused}
    return Verdict(name, passed, sentence, numbers)


def placebo_outcome(
    name: str,
    X: Any,
    Y: ArrayLike,
    T: ArrayLike,
    first: Estimator,
    *,
    clusters: ArrayLike | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Verdict:
    """An outcome that the treatment cannot have affected (a negative control; Lipsitch, Tchetgen Tchetgen & Cohen
    2010): passes if the 95 % interval of the effect on it covers zero."""
    fit = fitted(first, X, T, Y, draws=draws, clusters=clusters, seed=seed)
    low, high = fit.interval()
    passed = low <= 0 <= high
    sentence = (
        f"the effect on {name}, which the treatment cannot have affected, is {digits(fit.effect_)} ({digits(low)} to "
        f"{digits(high)}): " + ("the interval covers zero" if passed else "the arms differ beyond the covariates")
    )
    numbers = {"outcome": name, "effect": fit.effect_, "se": fit.se_, "low": low, "high": high}
    return Verdict("placebo outcome", passed, sentence, numbers)


def refusals(count: int) -> str:
    return f" ({count} refused)" if count else ""
