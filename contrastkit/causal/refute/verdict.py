"""The result of a check, and the parts that checks share."""

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import ArrayLike

from contrastkit.causal.estimate import Estimator
from contrastkit.causal.estimate.resampling import fit_with_error
from contrastkit.errors import UserError
from contrastkit.tables.checks import as_column

DRAWS = 50


@dataclass(frozen=True)
class Verdict:
    """The result of a check; ``numbers`` has its figures, ready for JSON."""

    name: str
    passed: bool
    sentence: str
    numbers: dict[str, Any] = field(default_factory=dict)


def fitted(
    estimator: Estimator,
    X: Any,
    T: ArrayLike,
    Y: ArrayLike,
    *,
    draws: int = DRAWS,
    clusters: ArrayLike | None = None,
    seed: int = 0,
) -> Estimator:
    """A fitted clone of the estimator, with a standard error: that of the jackknife over ``draws`` subsets if it has
    none (:mod:`contrastkit.causal.estimate.resampling`).

    Raises:
        UserError: the data are refused, the outcome has no randomness left, or too many subsets were refused.
    """
    first = fit_with_error(estimator, X, T, Y, subsets=draws, clusters=clusters, seed=seed)
    if not first.se_ > 1e-12 * as_column(Y, "the outcome").std():
        raise UserError(
            "the standard error is zero: treatment and covariates determine the outcome; leave covariates out"
        )
    return first


def digits(value: float) -> str:
    """A number with three significant digits, or a whole number from 100 on."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
