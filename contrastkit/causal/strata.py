"""Units that are compared within strata: of matching in groups, of scores, or of coarsened covariates."""

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from contrastkit.causal.estimand import of_matched, population
from contrastkit.tables.checks import Bools, Floats


class InStrata(BaseEstimator):
    """The base of what matches units in strata. After ``fit(X, T)`` it has

    Attributes:
        strata_: int64 [n], the stratum of each unit, from 0; -1 for units without one.
        weights_: float64 [n], see :func:`stratum_weights`. dropped_: int64, the rows of the target population without a
            stratum. estimand_: the estimand after dropping them.
    """

    estimand: str

    def _keep(self, strata: NDArray[np.int64], t: Bools) -> None:
        """Keep those of the strata [n], numbered from 0 (-1: none), that have units of both arms, at least one."""
        number = np.unique(strata, return_inverse=True)[1].reshape(-1)
        one, other = (np.bincount(number, arm) for arm in (t, ~t))
        matched = ((one > 0) & (other > 0))[number] & (strata >= 0)
        kept = np.unique(np.where(matched, strata, -1), return_inverse=True)[1].reshape(-1) - (not matched.all())
        self.strata_ = np.where(matched, kept, -1).astype(np.int64)
        self.weights_ = stratum_weights(self.strata_, t, self.estimand)
        self.dropped_ = np.flatnonzero(population(self.estimand, t) & ~matched)
        self.estimand_ = of_matched(self.estimand, self.dropped_)


def stratum_weights(strata: NDArray[np.int64], t: Bools, estimand: str) -> Floats:
    """Weights [n] that give each arm of T [n] the distribution of the target population over the strata [n], as in
    MatchIt: of a unit of an arm a in stratum s, N_s / n_as, where N_s counts the treated (ATT), the untreated (ATC) or
    all units (ATE) of s; then scaled to mean 1 over the units of the arm that have a stratum. 0 for the others.

    Args:
        strata: int64, each with units of both arms; -1 for none.
    """
    target, w = population(estimand, t), np.zeros(len(t))
    totals = np.bincount(strata[target & (strata >= 0)], minlength=strata.max() + 1)
    for arm in (t & (strata >= 0), ~t & (strata >= 0)):
        w[arm] = (totals / np.bincount(strata[arm], minlength=len(totals)))[strata[arm]]
        w[arm] /= w[arm].mean()
    return w
