"""Coarsened exact matching."""

from typing import Any, Literal, Self, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator

from contrastkit.causal.estimand import of_matched, population
from contrastkit.causal.names import BinRule
from contrastkit.causal.weighting import mean_one
from contrastkit.errors import UserError, check_choice
from contrastkit.tables.checks import Floats, as_treatment
from contrastkit.tables.covariates import Covariates
from contrastkit.tables.ties import cells, levels, rounding


class CoarsenedExact(BaseEstimator):
    """Coarsened exact matching (CEM; Iacus, King & Porro 2012): units in the same bin of every covariate form a
    stratum; strata with a single arm are dropped, the others weighted to the population of the estimand.

    Args:
        estimand: with ATT, a control in stratum s has the weight n_t^s / n_c^s and a treated unit 1; with ATC, the
            reverse; with ATE, n^s / n_arm^s. Weights are scaled to mean 1 in each arm.
        bins: bins of equal width between the extremes of a covariate with more than two values: their number, or a
            rule of numpy: ``sturges`` (the default of MatchIt), ``scott``, ``fd``. A bin begins with the values at its
            lower edge, within rounding.

    Attributes:
        strata_: int64 [n], the stratum of each unit, -1 if dropped. weights_: float64 [n], 0 if dropped.
        dropped_: int64, the dropped rows of the target population. estimand_: the estimand after dropping them.

    Raises:
        UserError: no stratum has units of both arms.
    """

    def __init__(
        self,
        estimand: Literal["ATT", "ATC", "ATE"] = "ATT",
        *,
        bins: int | BinRule = "sturges",
    ) -> None:
        self.estimand = estimand
        self.bins = bins

    def fit(self, X: Any, T: ArrayLike) -> Self:
        x = Covariates.of(X).x
        t = as_treatment(T, len(x))
        target = population(self.estimand, t)
        if isinstance(self.bins, str):
            check_choice("rule for bins", self.bins, get_args(BinRule))
        bins = np.empty(x.shape, np.int64)
        for j, column in enumerate(x.T):
            rank = levels(column, equal := rounding(column))
            many = rank.max() > 1
            bins[:, j] = cells(column, self._edges(column)[1:-1], equal) if many else rank
        s = pd.DataFrame(bins).groupby(list(range(x.shape[1])), sort=False).ngroup().to_numpy()
        one, other = (np.bincount(s, arm) for arm in (t, ~t))
        matched = ((one > 0) & (other > 0))[s]
        if not matched.any():
            raise UserError("no stratum has units of both arms: use fewer bins, or leave covariates out")
        totals = {"ATE": one + other, "ATT": one, "ATC": other}[self.estimand]
        w = np.zeros(len(x))
        for arm, count in ((t, one), (~t, other)):
            w[arm & matched] = (totals / np.maximum(count, 1))[s[arm & matched]]
        self.weights_ = mean_one(w, t)
        numbered = np.unique(np.where(matched, s, -1), return_inverse=True)[1] - (not matched.all())
        self.strata_ = np.where(matched, numbered, -1)
        self.dropped_ = np.flatnonzero(target & ~matched)
        self.estimand_ = of_matched(self.estimand, self.dropped_)
        return self

    def _edges(self, column: Floats) -> Floats:
        if isinstance(self.bins, int) and not 1 <= self.bins <= 10 * len(column):
            raise UserError(f"{self.bins} bins for {len(column)} rows: use between 1 and ten times the number of rows")
        try:
            return np.histogram_bin_edges(column, self.bins)
        except (MemoryError, ValueError) as error:  # an outlier far beyond the bin width of the rest
            raise UserError(f"the rule {self.bins} gives no bins: use a number of bins, or sturges") from error
