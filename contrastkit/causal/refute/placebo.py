"""Checks in which nothing should change, or no effect should appear."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from contrastkit.causal.estimate import Estimator
from contrastkit.causal.estimate.resampling import SHARE, Refits, Sample, effects, stream, subsets
from contrastkit.causal.refute.verdict import DRAWS, Verdict, check_error, digits, fitted
from contrastkit.tables.checks import Bools, Floats
from contrastkit.tables.covariates import Covariates

MOVED = 0.5  # standard errors by which the estimate may move


def placebo_treatment(
    X: Covariates,
    t: Bools,
    y: Floats,
    first: Estimator,
    *,
    weights: Floats | None = None,
    clusters: NDArray[np.int64] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Verdict:
    """Permute the treatment, which removes its effect: passes if zero is in the central 95 % of the estimates, and
    within four standard errors of their mean."""
    g = stream(seed, "placebo")
    refits = effects(first, (Sample(X, g.permutation(t), y, weights, clusters) for _ in range(draws)))
    estimates = refits.estimates
    mean, sd = float(estimates.mean()), float(estimates.std())
    low, high = (float(v) for v in np.quantile(estimates, (0.025, 0.975)))
    passed = low <= 0 <= high and abs(mean) <= 4 * sd / math.sqrt(len(estimates))
    sentence = (
        f"permuted treatments have effects of {digits(mean)} on average, 95 % of them from {digits(low)} "
        f"to {digits(high)}{refusals(refits)}: {'no effect, as expected' if passed else 'there should be none'}"
    )
    numbers = {"mean": mean, "low": low, "high": high, "refused": refits.refused, "with_prior": refits.with_prior}
    return Verdict("placebo treatment", passed, sentence, numbers)


def random_cause(
    X: Covariates,
    t: Bools,
    y: Floats,
    first: Estimator,
    *,
    weights: Floats | None = None,
    clusters: NDArray[np.int64] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Verdict:
    """Add a covariate of N(0, 1) noise: passes if the mean estimate moves by less than half its standard error."""
    g = stream(seed, "cause")
    noisy = (X.with_column(g.normal(size=len(X)), "noise") for _ in range(draws))
    samples = (Sample(more, t, y, weights, clusters) for more in noisy)
    return _unmoved("random common cause", "adding a covariate of pure noise", first, samples)


def subset(
    X: Covariates,
    t: Bools,
    y: Floats,
    first: Estimator,
    *,
    weights: Floats | None = None,
    clusters: NDArray[np.int64] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Verdict:
    """Draw 80 % of each arm, or of the clusters, without replacement: passes if the mean estimate moves by less than
    half its standard error."""
    what = f"leaving out {1 - SHARE:.0%} of the {'units' if clusters is None else 'clusters'}"
    return _unmoved("subset", what, first, subsets(Sample(X, t, y, weights, clusters), draws, seed))


def _unmoved(name: str, what: str, first: Estimator, samples: Iterable[Sample]) -> Verdict:
    check_error(first)
    refits = effects(first, samples)
    estimates = refits.estimates
    moved = float(estimates.mean()) - first.effect_
    passed = abs(moved) < MOVED * first.se_
    sentence = (
        f"{what} moves the estimate by {digits(moved)} on average{refusals(refits)}, {abs(moved) / first.se_:.2f} "
        f"standard errors: {'less' if passed else 'not less'} than {MOVED:g}"
    )
    numbers = {
        "mean": float(estimates.mean()), "sd": float(estimates.std()), "moved": moved,
        "refused": refits.refused, "with_prior": refits.with_prior,
    }  # fmt: skip
    return Verdict(name, passed, sentence, numbers)


def placebo_outcome(
    name: str,
    X: Any,
    Y: ArrayLike,
    T: ArrayLike,
    first: Estimator,
    *,
    weights: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
    seed: int = 0,
) -> Verdict:
    """An outcome that the treatment cannot have affected (a negative control; Lipsitch, Tchetgen Tchetgen & Cohen
    2010): passes if the 95 % interval of the effect on it covers zero."""
    fit = fitted(first, X, T, Y, sample_weight=weights, clusters=clusters, seed=seed)
    check_error(fit)
    low, high = fit.interval()
    passed = low <= 0 <= high
    sentence = (
        f"the effect on {name}, which the treatment cannot have affected, is {digits(fit.effect_)} ({digits(low)} to "
        f"{digits(high)}): " + ("the interval covers zero" if passed else "the arms differ beyond the covariates")
    )
    numbers = {"outcome": name, "effect": fit.effect_, "se": fit.se_, "low": low, "high": high}
    return Verdict("placebo outcome", passed, sentence, numbers)


def refusals(refits: Refits) -> str:
    said = {"refused": refits.refused, "with a prior for the propensity model": refits.with_prior}
    return f" ({', '.join(f'{count} {what}' for what, count in said.items() if count)})" if any(said.values()) else ""
