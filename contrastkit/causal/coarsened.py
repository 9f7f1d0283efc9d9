"""Coarsened exact matching."""

from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator

from contrastkit.causal.estimand import population
from contrastkit.causal.weighting import mean_one
from contrastkit.errors import UserError
from contrastkit.tables.checks import Floats, as_treatment
from contrastkit.tables.covariates import Covariates


class CoarsenedExact(BaseEstimator):
    """Coarsened exact matching (CEM; Iacus, King & Porro 2012): units that share a bin of every covariate are a
    stratum, strata without one of the arms are dropped, the others weighted to the population of the estimand.

    Args:
        estimand: ATT gives a control the weight n_t^s / n_c^s of its stratum s and a treated unit 1, ATC the other way
            round, ATE n^s / n_arm^s; with mean 1 in each arm in the end.
        bins: of a covariate with more than two values, of equal width from its least to its largest: as many, or by a
            rule of numpy's: ``sturges`` (MatchIt's default), ``scott``, ``fd``.

    Attributes:
        strata_: int64 [n], the number of a unit's stratum, -1 where it was dropped. weights_: float64 [n], 0 there.
        dropped_: int64, the rows dropped of the population that is asked for. estimand_: what is estimated after that.

    Raises:
        UserError: no stratum has both arms.
    """

    def __init__(
        self,
        estimand: Literal["ATT", "ATC", "ATE"] = "ATT",
        *,
        bins: int | Literal["sturges", "scott", "fd"] = "sturges",
    ) -> None:
        self.estimand = estimand
        self.bins = bins

    def fit(self, X: Any, T: ArrayLike) -> Self:
        x = Covariates.of(X).x
        t = as_treatment(T, len(x))
        wanted = population(self.estimand, t)
        cells = np.empty(x.shape, np.int64)
        for j, column in enumerate(x.T):
            if len(np.unique(column)) > 2:
                cells[:, j] = np.digitize(column, self._edges(column)[1:-1])
            else:
                cells[:, j] = column != column.min()
        s = pd.DataFrame(cells).groupby(list(range(x.shape[1])), sort=False).ngroup().to_numpy()
        one, other = (np.bincount(s, arm) for arm in (t, ~t))
        matched = ((one > 0) & (other > 0))[s]
        if not matched.any():
            raise UserError("no stratum has both arms: ask for fewer bins, or leave covariates out")
        goal = {"ATE": one + other, "ATT": one, "ATC": other}[self.estimand]
        w = np.zeros(len(x))
        for arm, count in ((t, one), (~t, other)):
            w[arm & matched] = (goal / np.maximum(count, 1))[s[arm & matched]]
        self.weights_ = mean_one(w, t)
        numbered = np.unique(np.where(matched, s, -1), return_inverse=True)[1] - (not matched.all())
        self.strata_ = np.where(matched, numbered, -1)
        self.dropped_ = np.flatnonzero(wanted & ~matched)
        self.estimand_ = f"{self.estimand} of the matched" if len(self.dropped_) else self.estimand
        return self

    def _edges(self, column: Floats) -> Floats:
        if isinstance(self.bins, int) and not 1 <= self.bins <= 10 * len(column):
            raise UserError(f"{self.bins} bins for {len(column)} rows: ask for 1 or more, and not many times the rows")
        try:
            return np.histogram_bin_edges(column, self.bins)
        except (MemoryError, ValueError) as error:  # a value far from all others, by the width of the rest
            raise UserError(f"no bins by {self.bins}: ask for a number of them, or for sturges") from error
