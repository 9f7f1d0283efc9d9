"""Weighted differences in means."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from sklearn.base import clone

from contrastkit.causal.estimand import population
from contrastkit.causal.estimate.base import Estimator
from contrastkit.causal.estimate.means import Means, stratified_influences, weighted_means
from contrastkit.causal.propensity import EQUAL_SCORES, Propensity
from contrastkit.causal.strata import stratum_weights
from contrastkit.causal.subclasses import between_quantiles
from contrastkit.causal.weighting import EntropyBalancing, InverseProbability
from contrastkit.causal.weighting.equations import Solved
from contrastkit.errors import UserError, check_choice
from contrastkit.tables.checks import Bools, Floats
from contrastkit.tables.covariates import Covariates
from contrastkit.tables.ties import settled


class Weighted(Estimator):
    """The difference in means under the weights of ``weighting`` (:mod:`contrastkit.causal.weighting`).

    Args:
        weighting: entropy balancing by default.
        error: ``m-estimation`` stacks the estimating equations of the weights and of the weighted means (Stefanski &
            Boos 2002; Lunceford & Davidian 2004), and so knows that the weights were estimated: the part of Y that
            they balance adds only sampling error. As in HC3, residuals are divided by 1 minus the leverage of the unit,
            on the weights or on the mean of its arm. ``hc1`` is the standard error of the weighted regression of Y on
            T, as in most tables. It takes the weights as fixed, and is too wide if they balance what Y depends on.
            Weights that solve no estimating equations have no other, see ``remarks_``.
    """

    takes_sample_weight = True
    has_means = True

    def __init__(self, weighting: Any = None, *, error: Literal["m-estimation", "hc1"] = "m-estimation") -> None:
        self.weighting = weighting
        self.error = error

    def _fit(self, X: Covariates, t: Bools, y: Floats) -> None:
        check_choice("standard error", self.error, ["m-estimation", "hc1"])
        self.weighting_ = clone(EntropyBalancing() if self.weighting is None else self.weighting)
        solves = getattr(self.weighting_, "equations", None)
        if isinstance(self.weighting_, InverseProbability):
            self.weighting_.fit(X, t, self.sample_weight_, clusters=self._groups, prior=self._prior)
            self.prior_ = self.weighting_.propensity_.prior_
        elif solves:
            self.weighting_.fit(X, t, self.sample_weight_)
        elif np.ptp(self.sample_weight_):
            raise UserError("these weights take no sample weights: use ipw, overlap, entropy or cbps")
        else:
            self.weighting_.fit(X, t)
        self.weights_ = self.weighting_.weights_
        self.estimand_ = self.weighting_.estimand_
        self.remarks_ += getattr(self.weighting_, "remarks_", ())
        means = weighted_means(self.weights_, (t, ~t), y)
        if self.error == "m-estimation":
            equations = solves(X, t) if solves else None
            if equations is None:
                self.error_remarks_.append("the standard error takes the weights as fixed, and may be too wide")
            else:
                means = stacked(self.weights_, (t, ~t), y, equations)
        self.effect_, self.influence_ = self._compared(means)


def stacked(w: Floats, arms: Sequence[Bools], y: Floats, equations: Sequence[Solved]) -> Means:
    """The weighted means of y [n] in arms, bool [n] each, and the influence of each unit on them, through its outcome
    and through the weights.

    The norm of the influences is the standard error of M-estimation; dividing residuals by 1 minus their leverage
    brings it near the jackknife's (MacKinnon & White 1985), which matters where few units have most of the weight.
    """
    values, own = np.empty(len(arms)), np.zeros((len(arms), len(y)))
    for k, arm in enumerate(arms):
        values[k] = np.average(y[arm], weights=w[arm])
        own[k, arm] = w[arm] / w[arm].sum() * (y[arm] - values[k])
    return Means(values, carried(own, w, arms, equations))


def carried(own: Floats, w: Floats, arms: Sequence[Bools], equations: Sequence[Solved]) -> Floats:
    """The influence of each unit on K estimates [K, n], with what it does through weights w [n] that solve equations;
    residuals are divided by 1 minus their leverage, see :func:`stacked`.

    Args:
        own: float64 [K, n], the derivatives of the estimates by log w_i.
        equations: none for weights that are given.
    """
    influence, residual, leverage = own.copy(), own.copy(), np.empty_like(w)
    for arm in arms:
        leverage[arm] = w[arm] / w[arm].sum()
    for e in equations:
        through, explained, pull = e.carried(own)
        influence += through
        residual -= explained
        leverage = np.maximum(leverage, pull)
    carried_on: Floats = influence + residual * leverage / (1 - leverage)
    return carried_on


class Stratified(Estimator):
    """The average difference in means within quantiles of the propensity score (Rosenbaum & Rubin 1984 use five).

    Strata leave some of the bias, five of them about a tenth (Cochran 1968), which the standard error does not know. It
    takes the strata as given, and so is too wide where covariates explain the outcome.

    Args:
        estimand: strata are weighted by their treated (ATT), controls (ATC) or all units (ATE).
        strata: number of strata, cut at quantiles of the scores of the target population. Scores that differ only by
            rounding are equal, and a stratum begins with the scores at its cut.
        propensity: propensity model.
    """

    has_means = True

    def __init__(
        self, estimand: Literal["ATE", "ATT", "ATC"] = "ATT", *, strata: int = 5, propensity: Propensity | None = None
    ) -> None:
        self.estimand = estimand
        self.strata = strata
        self.propensity = propensity

    def _fit(self, X: Covariates, t: Bools, y: Floats) -> None:
        score = clone(Propensity() if self.propensity is None else self.propensity)
        e = settled(score.fit(X, t, clusters=self._groups, prior=self._prior).scores_, EQUAL_SCORES)
        self.prior_ = score.prior_
        target = population(self.estimand, t)
        s = between_quantiles(e, target, self.strata)
        strata = int(s.max()) + 1
        for k in range(strata):
            if not ((t & (s == k)).any() and (~t & (s == k)).any()):
                raise UserError(f"stratum {k + 1} of {strata} has no units of one arm: use fewer strata")
        w = stratum_weights(s, t, self.estimand)
        self.remarks_.append(
            f"{strata} strata leave some bias, five about a tenth, of which the interval knows nothing: use more "
            "--strata"
        )
        self.estimand_, self.weights_ = self.estimand, w
        means = weighted_means(w, (t, ~t), y)
        influences = stratified_influences(w, s, (t, ~t), y)
        self.effect_, self.influence_ = self._compared(Means(means.values, influences))
        if np.isnan(influences).any():
            self.error_remarks_.append("a stratum with one unit of an arm has no standard error")
