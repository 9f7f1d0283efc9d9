"""The result of a check, and the parts that checks share."""

import math
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
    """The result of a check; ``passed`` is None if it cannot be run, for the reason in ``sentence``. ``numbers`` has
    its figures, ready for JSON."""

    name: str
    passed: bool | None
    sentence: str
    numbers: dict[str, Any] = field(default_factory=dict)

    @property
    def word(self) -> str:
        return {True: "PASS", False: "FAIL", None: "NOT RUN"}[self.passed]


def fitted(
    estimator: Estimator,
    X: Any,
    T: ArrayLike,
    Y: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
    seed: int = 0,
) -> Estimator:
    """A fitted clone of the estimator, with its standard error or that of the jackknife
    (:func:`contrastkit.causal.estimate.resampling.fit_with_error`).

    Raises:
        UserError: the data are refused, or the outcome has no randomness left.
    """
    first = fit_with_error(estimator, X, T, Y, sample_weight=sample_weight, clusters=clusters, seed=seed)
    if first.se_ <= 1e-12 * as_column(Y, "the outcome").std():
        raise UserError(
            "the standard error is zero: treatment and covariates determine the outcome; leave covariates out"
        )
    return first


def check_error(first: Estimator) -> None:
    """Raise a UserError if an estimate has no standard error."""
    if math.isnan(first.se_):
        raise UserError("the estimate has no standard error to compare with")


def digits(value: float) -> str:
    """A number with three significant digits, or a whole number from 100 on."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
