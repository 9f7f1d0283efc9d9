"""Differences in means over groups and strata of matched units."""

from typing import Any

import numpy as np
from sklearn.base import clone

from contrastkit.causal.estimate.base import Estimator, clustered
from contrastkit.causal.estimate.means import Means, stratified_influences, weighted_means
from contrastkit.causal.matching import FullMatching
from contrastkit.causal.strata import InStrata
from contrastkit.errors import UserError
from contrastkit.tables.checks import Bools, Floats
from contrastkit.tables.covariates import Covariates


class Grouped(Estimator):
    """The difference in means under the weights of full matching.

    The standard error is that of the weighted regression of Y on T with the groups as clusters, since the units of a
    group are alike in what they were matched on (Abadie & Spiess 2022; they show it for matching without replacement).
    It takes the weights as fixed. Larger clusters replace the groups, if each holds whole groups.

    Args:
        matching: the matching; by default that of :class:`contrastkit.causal.matching.FullMatching`.
    """

    has_means = True
    resamplable = False

    def __init__(self, matching: FullMatching | None = None) -> None:
        self.matching = matching

    def _fit(self, X: Covariates, t: Bools, y: Floats) -> None:
        self.matching_: Any = clone(FullMatching() if self.matching is None else self.matching).fit(X, t)
        self.weights_, self.estimand_ = self.matching_.weights_, self.matching_.estimand_
        strata = self.matching_.strata_
        matched = strata >= 0
        if self._groups is not None:
            pairs = np.unique(np.stack([strata, self._groups])[:, matched], axis=1)
            if pairs.shape[1] > strata.max() + 1:
                raise UserError("groups of full matching have units of several clusters: match within them by --exact")
        self.effect_, self.influence_ = self._compared(weighted_means(self.weights_, (t, ~t), y))
        if self.influence_ is None or strata.max() == 0:
            self.influence_ = None
            self.error_remarks_.append("a single group has no standard error")
        elif self._groups is None:
            self.se_ = clustered(self.influence_[matched], strata[matched])
            self.error_remarks_.append("the standard error is clustered by group, and takes the weights as fixed")


class InSubclasses(Estimator):
    """The average difference in means within strata, by the weights of the strata.

    The standard error is that of a stratified sample. It takes the strata as given, and so is too wide where covariates
    explain the outcome within them. Where a unit is alone of its arm in a stratum, it is that of the weighted
    regression of Y on T, which is wider.

    Args:
        matching: :class:`contrastkit.causal.subclasses.Subclasses` or
            :class:`contrastkit.causal.coarsened.CoarsenedExact`.
    """

    has_means = True
    resamplable = False

    def __init__(self, matching: InStrata) -> None:
        self.matching = matching

    def _fit(self, X: Covariates, t: Bools, y: Floats) -> None:
        self.matching_: Any = clone(self.matching).fit(X, t)
        self.weights_, self.estimand_ = self.matching_.weights_, self.matching_.estimand_
        means = weighted_means(self.weights_, (t, ~t), y)
        influences = stratified_influences(self.weights_, self.matching_.strata_, (t, ~t), y)
        if np.isfinite(influences).all():
            means = Means(means.values, influences)
            self.error_remarks_.append("the standard error takes the strata as given, and may be too wide")
        else:
            self.error_remarks_.append(
                "the standard error is that of weights that are given, and may be too wide: a stratum has one unit of "
                "an arm"
            )
        self.effect_, self.influence_ = self._compared(means)
