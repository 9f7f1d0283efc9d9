"""Differences in means over groups and strata of matched units."""

from typing import Any

import numpy as np
from sklearn.base import clone

from contrastkit.causal.estimand import population
from contrastkit.causal.estimate.base import Estimator, clustered
from contrastkit.causal.estimate.means import Means, corrected_means, stratified_influences, weighted_means
from contrastkit.causal.matching import FullMatching
from contrastkit.causal.strata import InStrata
from contrastkit.errors import UserError
from contrastkit.tables.checks import Bools, Floats
from contrastkit.tables.covariates import Covariates, design


class Grouped(Estimator):
    """The difference in means under the weights of full matching, with bias correction by default
    (:func:`contrastkit.causal.estimate.means.corrected_means`).

    The standard error is that of the weighted regression of Y on T, or of those on X in each arm, with the groups as
    clusters, since the units of a group are alike in what they were matched on (Abadie & Spiess 2022; they show it for
    matching without replacement). It takes the weights as fixed. Larger clusters replace the groups, if each holds
    whole groups.

    Args:
        matching: the matching; by default that of :class:`contrastkit.causal.matching.FullMatching`.
        bias_correction: adjust for the differences in covariates that the weights leave.
    """

    has_means = True
    resamplable = False

    def __init__(self, matching: FullMatching | None = None, *, bias_correction: bool = True) -> None:
        self.matching = matching
        self.bias_correction = bias_correction

    def _fit(self, X: Covariates, t: Bools, y: Floats) -> None:
        self.matching_: Any = clone(FullMatching() if self.matching is None else self.matching).fit(X, t)
        self.weights_, self.estimand_ = self.matching_.weights_, self.matching_.estimand_
        strata = self.matching_.strata_
        matched = strata >= 0
        if self._groups is not None:
            pairs = np.unique(np.stack([strata, self._groups])[:, matched], axis=1)
            if pairs.shape[1] > strata.max() + 1:
                raise UserError("groups of full matching have units of several clusters: match within them by --exact")
        means = (
            corrected(self.matching_, X, t, y) if self.bias_correction else weighted_means(self.weights_, (t, ~t), y)
        )
        self.effect_, self.influence_ = self._compared(means)
        if self.influence_ is None or strata.max() == 0:
            self.influence_ = None
            self.error_remarks_.append("a single group has no standard error")
        elif self._groups is None:
            self.se_ = clustered(self.influence_[matched], strata[matched])
            self.error_remarks_.append("the standard error is clustered by group, and takes the weights as fixed")


class InSubclasses(Estimator):
    """The average difference in means within strata, by the weights of the strata, with bias correction by default
    (:func:`contrastkit.causal.estimate.means.corrected_means`), whose standard error takes the strata as given.

    Without it, the standard error is that of a stratified sample, and too wide where covariates explain the outcome
    within strata. Where a unit is alone of its arm in a stratum, it is then that of the weighted regression of Y on T,
    which is wider.

    Args:
        matching: :class:`contrastkit.causal.subclasses.Subclasses` or
            :class:`contrastkit.causal.coarsened.CoarsenedExact`.
        bias_correction: adjust for the differences in covariates that the strata leave.
    """

    has_means = True
    resamplable = False

    def __init__(self, matching: InStrata, *, bias_correction: bool = True) -> None:
        self.matching = matching
        self.bias_correction = bias_correction

    def _fit(self, X: Covariates, t: Bools, y: Floats) -> None:
        self.matching_: Any = clone(self.matching).fit(X, t)
        self.weights_, self.estimand_ = self.matching_.weights_, self.matching_.estimand_
        if self.bias_correction:
            means = corrected(self.matching_, X, t, y)
            self.error_remarks_.append("the standard error takes the strata as given")
        else:
            means = self._uncorrected(t, y)
        self.effect_, self.influence_ = self._compared(means)

    def _uncorrected(self, t: Bools, y: Floats) -> Means:
        means = weighted_means(self.matching_.weights_, (t, ~t), y)
        influences = stratified_influences(self.matching_.weights_, self.matching_.strata_, (t, ~t), y)
        if np.isfinite(influences).all():
            self.error_remarks_.append("the standard error takes the strata as given, and may be too wide")
            return Means(means.values, influences)
        self.error_remarks_.append(
            "the standard error takes the weights as given, and may be too wide: a stratum has one unit of an arm"
        )
        return means


def corrected(matching: Any, X: Covariates, t: Bools, y: Floats) -> Means:
    """The corrected means of the matched units of the target population."""
    target = population(matching.estimand, t) & (matching.strata_ >= 0)
    return corrected_means(matching.weights_, (t, ~t), design(X.x), y, target)
