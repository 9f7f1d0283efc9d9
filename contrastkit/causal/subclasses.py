"""Subclasses of the propensity score."""

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from contrastkit.causal.estimand import population
from contrastkit.causal.propensity import EQUAL_SCORES, Propensity
from contrastkit.causal.strata import InStrata
from contrastkit.errors import UserError
from contrastkit.tables.checks import Bools, Floats, as_treatment
from contrastkit.tables.covariates import Covariates
from contrastkit.tables.ties import cells, settled


class Subclasses(InStrata):
    """Strata between quantiles of the propensity score (Rosenbaum & Rubin 1984), as in MatchIt.

    A stratum without units of an arm takes them from its neighbours (:func:`filled`), so that no unit is dropped.

    Args:
        estimand: the population between whose quantiles strata lie, and whose distribution over them both arms get.
        strata: their number; fewer where quantiles coincide.
        propensity: propensity model.

    Attributes: those of :class:`contrastkit.causal.strata.InStrata`. moved_: int, the number of units that were moved
        to a stratum other than that of their score. propensity_: the fitted model.

    Raises:
        UserError: an arm has fewer units than there are strata.
    """

    def __init__(
        self, estimand: Literal["ATT", "ATC", "ATE"] = "ATT", *, strata: int = 6, propensity: Propensity | None = None
    ) -> None:
        self.estimand = estimand
        self.strata = strata
        self.propensity = propensity

    def fit(self, X: Any, T: ArrayLike) -> Self:
        X = Covariates.of(X)
        t = as_treatment(T, len(X))
        target = population(self.estimand, t)
        self.propensity_ = clone(Propensity() if self.propensity is None else self.propensity).fit(X, t)
        e = settled(self.propensity_.scores_, EQUAL_SCORES)
        own = between_quantiles(e, target, self.strata)
        strata = filled(own, t, e)
        self.moved_ = int((strata != own).sum())
        self._keep(strata, t)
        return self


def between_quantiles(e: Floats, target: Bools, strata: int) -> NDArray[np.int64]:
    """The stratum of each unit [n], from 0, between the quantiles of the scores e [n] of the target population, bool
    [n]. A stratum begins with the scores at its cut; where quantiles coincide there are fewer than ``strata``.

    Raises:
        UserError: fewer than one stratum.
    """
    if strata < 1:
        raise UserError(f"{strata} strata: use 1 or more")
    cuts = np.unique(np.quantile(e[target], np.linspace(0, 1, strata + 1)[1:-1]))
    return cells(e, cuts, EQUAL_SCORES)


def filled(strata: NDArray[np.int64], t: Bools, e: Floats) -> NDArray[np.int64]:
    """The strata [n], numbered from 0, of units with scores e [n], such that each has a unit of both arms: by the rule
    of MatchIt's ``min.n = 1``.

    For each arm, the lowest stratum without it takes the unit of nearest score from the first stratum that has any, on
    the side with more units to spare, each counted by the inverse of how many strata it is away; and so on.

    Raises:
        UserError: an arm has fewer units than there are strata.
    """
    strata, k = np.unique(strata, return_inverse=True)[1].reshape(-1).astype(np.int64), len(np.unique(strata))
    for arm, name in ((t, "treated"), (~t, "untreated")):
        if arm.sum() < k:
            raise UserError(f"{k} strata with units are more than the {arm.sum()} {name} units: use fewer --strata")
        while not (count := np.bincount(strata[arm], minlength=k)).all():
            empty = int(np.argmin(count > 0))
            others = np.delete(np.arange(k), empty)
            spare = float((np.maximum(count[others] - 1, 0) / (others - empty)).sum())  # negative below
            below = empty == k - 1 or (empty > 0 and spare <= 0)
            giving = empty - 1 if below else empty + 1 + int(np.argmax(count[empty + 1 :] > 0))
            units = np.flatnonzero(arm & (strata == giving))
            strata[units[e[units].argmax() if below else e[units].argmin()]] = empty
    return strata
