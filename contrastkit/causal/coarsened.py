"""Coarsened exact matching."""

from typing import Any, Literal, Self, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from contrastkit.causal.names import BinRule
from contrastkit.causal.strata import InStrata
from contrastkit.errors import UserError, check_choice
from contrastkit.tables.checks import Floats, as_treatment
from contrastkit.tables.covariates import Covariates
from contrastkit.tables.ties import cells, levels, rounding


class CoarsenedExact(InStrata):
    """Coarsened exact matching (CEM; Iacus, King & Porro 2012): units in the same bin of every covariate form a
    stratum; strata with a single arm are dropped, the others weighted to the population of the estimand.

    Args:
        estimand: the population whose distribution over the strata both arms get.
        bins: bins of equal width between the extremes of a covariate with more than two values: their number, or a
            rule of numpy: ``sturges`` (the default of MatchIt), ``scott``, ``fd``. A bin begins with the values at its
            lower edge, within rounding.

    Attributes: those of :class:`contrastkit.causal.strata.InStrata`.

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
        if isinstance(self.bins, str):
            check_choice("rule for bins", self.bins, get_args(BinRule))
        bins = np.empty(x.shape, np.int64)
        for j, column in enumerate(x.T):
            rank = levels(column, equal := rounding(column))
            many = rank.max() > 1
            bins[:, j] = cells(column, self._edges(column)[1:-1], equal) if many else rank
        s = pd.DataFrame(bins).groupby(list(range(x.shape[1])), sort=False).ngroup().to_numpy().astype(np.int64)
        if not (np.bincount(s, t) * np.bincount(s, ~t)).any():
            raise UserError("no stratum has units of both arms: use fewer bins, or leave covariates out")
        self._keep(s, t)
        return self

    def _edges(self, column: Floats) -> Floats:
        if isinstance(self.bins, int) and not 1 <= self.bins <= 10 * len(column):
            raise UserError(f"{self.bins} bins for {len(column)} rows: use between 1 and ten times the number of rows")
        try:
            return np.histogram_bin_edges(column, self.bins)
        except (MemoryError, ValueError) as error:  # an outlier far beyond the bin width of the rest
            raise UserError(f"the rule {self.bins} gives no bins: use a number of bins, or sturges") from error
