"""Weighted differences in means."""

import math
from typing import Any, Literal, get_args

import numpy as np
from sklearn.base import clone

from contrastkit.causal.estimand import population
from contrastkit.causal.estimate.base import Estimator
from contrastkit.causal.estimate.regression import contrast
from contrastkit.causal.names import Error
from contrastkit.causal.propensity import EQUAL_SCORES, Propensity
from contrastkit.causal.weighting import EntropyBalancing
from contrastkit.errors import UserError, check_choice
from contrastkit.tables.checks import Bools, Floats, effective_sample_size
from contrastkit.tables.covariates import Covariates, design
from contrastkit.tables.ties import cells, settled


class Weighted(Estimator):
    """The difference in means under the weights of ``weighting`` (:mod:`contrastkit.causal.weighting`).

    Args:
        weighting: entropy balancing by default.
        error: ``balanced``, for entropy balancing, accounts for the weights being estimated (the sandwich of both
            steps; Zhao & Percival 2017, Sec. 3): the part of Y that balanced terms explain adds only sampling error.
            ``hc1``, used for all other weights, is the standard error of the weighted regression of Y on T, as in most
            tables. It treats the weights as fixed, and is too wide if they balance what Y depends on.
    """

    def __init__(self, weighting: Any = None, *, error: Error = "balanced") -> None:
        self.weighting = weighting
        self.error = error

    def _fit(self, X: Covariates, t: Bools, y: Floats) -> None:
        check_choice("standard error", self.error, get_args(Error))
        self.weighting_ = clone(EntropyBalancing() if self.weighting is None else self.weighting).fit(X, t)
        self.weights_ = self.weighting_.weights_
        self.estimand_ = self.weighting_.estimand_
        self.effect_, self.se_ = contrast(self.weights_, t, y)
        if self.error == "balanced" and isinstance(self.weighting_, EntropyBalancing):
            self.se_ = self._balanced(self.weighting_, t, y)

    def _balanced(self, weighting: EntropyBalancing, t: Bools, y: Floats) -> float:
        """The root of the sum of squared influences of the units."""
        A, w, target = design(weighting.terms_), weighting.weights_, population(weighting.estimand, t)
        share = target / target.sum()
        influence = -share * self.effect_
        for arm, sign in ((t, 1), (~t, -1)):
            root = np.sqrt(w[arm])
            beta, _, rank, _ = np.linalg.lstsq(A[arm] * root[:, None], y[arm] * root, rcond=1e-10)
            fit, ess = A @ beta, effective_sample_size(w[arm])
            if ess <= rank:
                return math.nan
            # Residuals of a fit to few units are too small; as in HC1, with the effective sample size.
            residuals = (y - fit) * math.sqrt(ess / (ess - rank))
            influence = influence + sign * (share * fit + arm * w * residuals / w[arm].sum())
        return float(np.linalg.norm(influence))


class Stratified(Estimator):
    """The average difference in means within quantiles of the propensity score (Rosenbaum & Rubin 1984 use five).

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
        e = clone(Propensity() if self.propensity is None else self.propensity).fit(X, t).scores_
        e = settled(e, EQUAL_SCORES)
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
        self.estimand_, self.weights_ = self.estimand, w
        self.effect_, _ = contrast(w, t, y)
        within = 0.0
        for k in range(len(cuts) + 1):
            for arm in (t, ~t):
                part = y[arm & (s == k)]
                spread = part.var(ddof=1) if len(part) > 1 else math.nan
                within += ((target & (s == k)).sum() / target.sum()) ** 2 * spread / len(part)
        self.se_ = float(np.sqrt(within))
