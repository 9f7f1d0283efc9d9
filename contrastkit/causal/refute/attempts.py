"""All checks in order."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from contrastkit.causal.estimate import Estimator
from contrastkit.causal.refute.confounding import unobserved_confounder
from contrastkit.causal.refute.hidden_bias import GAMMA, e_value, rosenbaum_bounds
from contrastkit.causal.refute.placebo import placebo_outcome, placebo_treatment, random_cause, subset
from contrastkit.causal.refute.verdict import DRAWS, Verdict
from contrastkit.errors import UserError
from contrastkit.tables.checks import Bools, Floats, as_clusters, as_outcome, as_sample_weights, as_treatment
from contrastkit.tables.covariates import Covariates

Placebo = tuple[str, Any, ArrayLike]  # name, covariates [n, p] and values [n] of a placebo outcome


@dataclass(frozen=True)
class _Case:
    """What the checks take: validated data and the arguments of :func:`refute`."""

    X: Covariates
    t: Bools
    y: Floats
    first: Estimator
    placebo: Placebo | None
    weights: Floats | None
    clusters: NDArray[np.int64] | None
    draws: int
    gamma: float
    seed: int

    @property
    def sampled(self) -> dict[str, Any]:
        return {"weights": self.weights, "clusters": self.clusters, "seed": self.seed}

    @property
    def repeated(self) -> dict[str, Any]:
        return self.sampled | {"draws": self.draws}


def _placebo_outcome(case: _Case) -> Verdict:
    assert case.placebo is not None
    name, X, Y = case.placebo
    return placebo_outcome(name, X, Y, case.t, case.first, **case.sampled)


_PLACEBO_OUTCOME = "placebo outcome"
_CHECKS: dict[str, Callable[[_Case], Verdict]] = {
    "placebo treatment": lambda case: placebo_treatment(case.X, case.t, case.y, case.first, **case.repeated),
    "random common cause": lambda case: random_cause(case.X, case.t, case.y, case.first, **case.repeated),
    "subset": lambda case: subset(case.X, case.t, case.y, case.first, **case.repeated),
    _PLACEBO_OUTCOME: _placebo_outcome,
    "unobserved confounder": lambda case: unobserved_confounder(case.X, case.t, case.y, case.first, **case.sampled),
    "E-value": lambda case: e_value(case.t, case.y, case.first),
    "Rosenbaum bounds": lambda case: rosenbaum_bounds(case.X, case.t, case.y, case.first, gamma=case.gamma),
}


def checks(*, placebo: bool) -> list[str]:
    """The names of the checks of :func:`refute`, in order.

    Args:
        placebo: whether there is a placebo outcome.
    """
    return [name for name in _CHECKS if placebo or name != _PLACEBO_OUTCOME]


def refute(
    X: Any,
    T: ArrayLike,
    Y: ArrayLike,
    first: Estimator,
    *,
    placebo: Placebo | None = None,
    sample_weight: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
    draws: int = DRAWS,
    gamma: float = GAMMA,
    seed: int = 0,
) -> Iterator[Verdict]:
    """Run all checks in order; the verdict on one that cannot be run is None, with the reason.

    Args:
        first: an estimator from :func:`fitted`, whose effect is checked.
        placebo: an outcome that the treatment cannot have affected: its name, the covariates [n, p] to adjust it for,
            which must not determine it, and its values [n]. None skips the check.
        sample_weight: weights [n] of the units in a survey, with which ``first`` was fitted: each check has them too,
            but for the Rosenbaum bounds, which cannot be run then.
        clusters: labels [n] of units that may depend on one another: folds and subsets are of whole clusters, and the
            effect on the placebo outcome has their error.
        gamma: the Gamma that the Rosenbaum bounds must reach.
        seed: random seed.
    """
    X = Covariates.of(X)
    t, y = as_treatment(T, len(X)), as_outcome(Y, len(X))
    groups = None if clusters is None else as_clusters(clusters, len(X))
    weights = None if sample_weight is None else as_sample_weights(sample_weight, len(X))
    case = _Case(X, t, y, first, placebo, weights, groups, draws, gamma, seed)
    for name in checks(placebo=placebo is not None):
        try:
            yield _CHECKS[name](case)
        except UserError as error:
            yield Verdict(name, None, str(error))
