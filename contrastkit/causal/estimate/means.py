"""The mean outcomes of the target population under two treatments or more, and the measures that compare them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contrastkit.causal.names import Measure
from contrastkit.causal.weighting.equations import leverages
from contrastkit.errors import UserError
from contrastkit.tables.checks import Bools, Floats

RANGES = {"difference": (-math.inf, math.inf), "ratio": (0.0, math.inf), "odds-ratio": (0.0, 1.0)}  # of means
LOGS = ("ratio", "odds-ratio")  # measures that are estimated as logarithms


@dataclass(frozen=True, eq=False)
class Means:
    """Mean outcomes of the target population under each of K treatments; of two arms, first that of the treated.

    Attributes:
        values: float64 [K].
        influences: float64 [K, n], how far each unit moves each mean; None if unknown.
    """

    values: Floats
    influences: Floats | None

    def contrast(self, measure: Measure, one: int = 0, other: int = 1) -> tuple[float, Floats | None]:
        """Mean ``one`` against mean ``other``: their difference, or the logarithm of their ratio or odds ratio, and how
        far each unit moves it [n], by the delta method.

        Raises:
            UserError: a mean has no ratio, or no odds.
        """
        m = self.values[[one, other]]
        low, high = RANGES[measure]
        if outside := [value for value in m if not low < value < high]:
            what = "ratio" if measure == "ratio" else "odds"
            raise UserError(f"with a mean outcome of {outside[0]:.3g} there is no {what}: use --measure difference")
        if measure == "difference":
            scaled, slopes = m, np.ones(2)
        elif measure == "ratio":
            scaled, slopes = np.log(m), 1 / m
        else:
            scaled, slopes = np.log(m / (1 - m)), 1 / (m * (1 - m))
        influence = None
        if self.influences is not None:
            influence = slopes[0] * self.influences[one] - slopes[1] * self.influences[other]
        return float(scaled[0] - scaled[1]), influence

    def exchanged(self) -> "Means":
        """The means of two arms in the other order."""
        return Means(self.values[::-1], None if self.influences is None else self.influences[::-1])


def check_outcome(measure: Measure, y: Floats) -> None:
    """Check that outcomes y [n] have a ratio of means, or an odds ratio.

    Raises:
        UserError: they have not.
    """
    if measure == "ratio" and (y < 0).any():
        raise UserError("a ratio of mean outcomes needs outcomes of 0 or more: use --measure difference")
    if measure == "odds-ratio" and not ((y == 0) | (y == 1)).all():
        raise UserError("an odds ratio needs an outcome of 0 and 1: use --measure difference or ratio")


def as_reported(measure: Measure, value: float) -> float:
    """A contrast as readers know it: of a logarithm, its exponential."""
    with np.errstate(over="ignore"):
        return float(np.exp(value)) if measure in LOGS else value


def weighted_means(w: Floats, arms: Sequence[Bools], y: Floats) -> Means:
    """The means of y [n] in arms, bool [n] each, with weights w [n]. Of two arms, the norm of the difference of the
    influences is the HC1 standard error of the weighted regression of y on the treatment."""
    n, k = int((w > 0).sum()), len(arms)
    values, influences = np.empty(k), np.zeros((k, len(y)))
    for row, arm in enumerate(arms):
        values[row] = np.average(y[arm], weights=w[arm])
        influences[row, arm] = w[arm] * (y[arm] - values[row]) / w[arm].sum()
    return Means(values, influences * (math.sqrt(n / (n - k)) if n > k else math.nan))


def corrected_means(w: Floats, arms: Sequence[Bools], A: Floats, y: Floats, target: Bools) -> Means:
    """The means of y [n] in arms, bool [n] each, with weights w [n], corrected for what is left of the differences in
    covariates (Rubin 1973; Ho, Imai, King & Stuart 2007): what the linear regression of y on A [n, k] in each arm with
    these weights predicts for the target units, bool [n], or y itself where they are the arm. Influences take the
    weights as fixed, and are divided by 1 minus their leverage, as in HC3.

    Raises:
        UserError: an arm has too few units for the regression.
    """
    values, influences = np.empty(len(arms)), np.zeros((len(arms), len(y)))
    for row, arm in enumerate(arms):
        of_arm = w * arm
        known = np.array_equal(of_arm > 0, target)
        predicted, leverage = (y, np.zeros_like(y)) if known else regression(A, of_arm, y)
        values[row] = predicted[target].mean()
        influences[row] = of_arm / of_arm.sum() * (y - predicted) / (1 - leverage)
        influences[row, target] += (predicted[target] - values[row]) / max(int(target.sum()) - 1, 1)
    return Means(values, influences)


def regression(A: Floats, w: Floats, y: Floats, *, strict: bool = True) -> tuple[Floats, Floats]:
    """What the linear regression of y [n] on A [n, k] with weights w [n] predicts for each unit, and the leverage of
    each on it, [n] both.

    Raises:
        UserError: strictly, no more units have a weight than there are coefficients.
    """
    root = np.sqrt(w)
    beta, _, rank, _ = np.linalg.lstsq(A * root[:, None], y * root, rcond=1e-10)
    if strict and (units := int((w > 0).sum())) <= rank:
        raise UserError(
            f"{units} matched units of an arm cannot identify the {np.linalg.matrix_rank(A)} coefficients of the bias "
            "correction: leave covariates out, or use 'match --no-bias-correction'"
        )
    return A @ beta, leverages(A, w)[1]


def stratified_influences(w: Floats, strata: NDArray[np.int64], arms: Sequence[Bools], y: Floats) -> Floats:
    """How far each unit moves the means of y [n] in arms, bool [n] each, with weights w [n], [K, n], given the stratum
    of each (-1: none), within which an arm's weights are equal: the norm is the standard error of a stratified sample.
    NaN for units that are alone of their arm in a stratum."""
    influences = np.zeros((len(arms), len(y)))
    for row, arm in enumerate(arms):
        s = strata[part := arm & (strata >= 0)]
        n = np.bincount(s)
        with np.errstate(divide="ignore", invalid="ignore"):
            mean, scale = np.bincount(s, y[part]) / n, np.sqrt(n / (n - 1))
            influences[row, part] = w[part] / w[part].sum() * np.where(n > 1, scale, np.nan)[s] * (y[part] - mean[s])
    return influences
