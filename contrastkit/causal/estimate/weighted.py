"""Weighted differences in means."""

import math
from typing import Any, Literal

import numpy as np
from sklearn.base import clone

from contrastkit.causal.estimand import population
from contrastkit.causal.estimate.base import Estimator
from contrastkit.causal.estimate.regression import contrast, mean_influence
from contrastkit.causal.propensity import EQUAL_SCORES, Propensity
from contrastkit.causal.weighting import EntropyBalancing, InverseProbability
from contrastkit.causal.weighting.equations import Equations
from contrastkit.errors import UserError, check_choice
from contrastkit.tables.checks import Bools, Floats
from contrastkit.tables.covariates import Covariates
from contrastkit.tables.ties import cells, settled


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
        self.effect_, self.influence_ = contrast(self.weights_, t, y)
        if self.error == "hc1":
            return
        equations = solves(X, t) if solves else None
        if equations is None:
            self.error_remarks_.append("the standard error takes the weights as fixed, and may be too wide")
        else:
            self.influence_ = stacked(self.weights_, t, y, equations)


def stacked(w: Floats, t: Bools, y: Floats, equations: list[Equations]) -> Floats:
    """The influence [n] of each unit on the difference of weighted means, through its outcome and through the weights.

    The norm of the influences is the standard error of M-estimation; dividing residuals by 1 minus their leverage
    brings it near the jackknife's (MacKinnon & White 1985), which matters where few units have most of the weight.
    """
    own, leverage = np.empty_like(y), np.empty_like(y)
    for arm, sign in ((t, 1), (~t, -1)):
        leverage[arm] = share = w[arm] / w[arm].sum()
        own[arm] = sign * share * (y[arm] - np.average(y[arm], weights=w[arm]))
    influence, residual = own.copy(), own.copy()
    for e in equations:
        moved, pull = e.moves(own)
        influence += e.score * moved
        residual -= np.sign(e.slope) * e.curvature * moved
        leverage = np.maximum(leverage, pull)
    return influence + residual * leverage / (1 - leverage)


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
        if self.strata < 1:
            raise UserError(f"{self.strata} strata: use 1 or more")
        cuts = np.unique(np.quantile(e[target], np.linspace(0, 1, self.strata + 1)[1:-1]))
        s = cells(e, cuts, EQUAL_SCORES)
        w = np.zeros_like(y)
        for k in range(len(cuts) + 1):
            for arm in (t, ~t):
                if not (arm & (s == k)).any():
                    raise UserError(f"stratum {k + 1} of {len(cuts) + 1} has no units of one arm: use fewer strata")
                w[arm & (s == k)] = (target & (s == k)).sum() / (arm & (s == k)).sum()
        self.remarks_.append(
            f"{len(cuts) + 1} strata leave some bias, five about a tenth, of which the interval knows nothing: use "
            "more --strata"
        )
        self.estimand_, self.weights_ = self.estimand, w
        self.effect_, _ = contrast(w, t, y)
        self.influence_ = np.empty_like(y)
        for k in range(len(cuts) + 1):
            share = (target & (s == k)).sum() / target.sum()
            for arm, sign in ((t, 1), (~t, -1)):
                part = arm & (s == k)
                self.influence_[part] = sign * share * mean_influence(y[part], w[part]) if part.sum() > 1 else math.nan
        if np.isnan(self.influence_).any():
            self.error_remarks_.append("a stratum with one unit of an arm has no standard error")
