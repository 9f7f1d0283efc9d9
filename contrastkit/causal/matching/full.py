"""Optimal full matching: all units in groups of one treated and several untreated units, or the reverse."""

from collections.abc import Mapping
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.base import clone

from contrastkit.causal.matching.limits import Calipers, agreeing, no_partner
from contrastkit.causal.matching.line import line_cover
from contrastkit.causal.matching.metric import BY_SCORE, coordinates, slack
from contrastkit.causal.matching.turns import distances
from contrastkit.causal.names import Metric
from contrastkit.causal.propensity import Propensity
from contrastkit.causal.strata import InStrata
from contrastkit.errors import UserError, check_choice
from contrastkit.tables.checks import Bools, Floats, as_treatment
from contrastkit.tables.covariates import Covariates


class FullMatching(InStrata):
    """Optimal full matching (Rosenbaum 1991; Hansen 2004): every unit that has a possible partner is in a group of one
    treated and one or more untreated units or of one untreated and several treated ones, such that the distances
    within groups between units of different arms have the least sum.

    No limit is set on the size of groups, as in MatchIt by default. Such groups are a minimum-weight edge cover of
    the bipartite graph of both arms, :func:`cover`; without a caliper and by one number, as scores are, of points on a
    line, :func:`contrastkit.causal.matching.line.line_cover`, which keeps no matrix of distances.

    Args:
        estimand: the population whose distribution over the groups both arms get.
        metric, caliper, calipers, exact, propensity: those of :class:`contrastkit.causal.matching.Matching`; units
            without a possible partner are left out.

    Attributes: those of :class:`contrastkit.causal.strata.InStrata`, whose strata are the groups. total_: float, the
        sum of the distances within groups. propensity_: the fitted model; None for a metric of covariates.

    Raises:
        UserError: no unit has a possible partner, or the distances do not fit in memory.
    """

    def __init__(
        self,
        estimand: Literal["ATT", "ATC", "ATE"] = "ATT",
        *,
        metric: Metric = "logit",
        caliper: float | None = None,
        calipers: Mapping[int, float] | None = None,
        exact: tuple[int, ...] = (),
        propensity: Propensity | None = None,
    ) -> None:
        self.estimand = estimand
        self.metric = metric
        self.caliper = caliper
        self.calipers = calipers
        self.exact = exact
        self.propensity = propensity

    def fit(self, X: Any, T: ArrayLike) -> Self:
        X = Covariates.of(X)
        t = as_treatment(T, len(X))
        check_choice("metric", self.metric, get_args(Metric))
        self.propensity_ = None
        if self.metric in BY_SCORE:
            self.propensity_ = clone(Propensity() if self.propensity is None else self.propensity).fit(X, t)
        z, limit = coordinates(self.metric, X.x, t, self.propensity_, self.caliper)
        z, calipers = z - z.mean(0), Calipers(X.x, self.calipers or {})
        strata, self.total_ = np.full(len(t), -1), 0.0
        for rows in agreeing(X.x, self.exact):
            a, b = rows[t[rows]], rows[~t[rows]]
            if len(a) and len(b):
                if z.shape[1] == 1 and limit == np.inf and not calipers:
                    i, j = line_cover(np.rint(z[rows, 0] / (slack(z) or 1.0)), t[rows])
                    edges = np.stack([rows[i], rows[j]], axis=1)
                else:
                    _, cost, inside = distances(z, a, b, limit, calipers, instead="use --kind subclass")
                    i, j = cover(cost, inside)
                    edges = np.stack([a[i], b[j]], axis=1)
                i, j = needed(edges).T
                strata[i] = strata[j] = np.where(np.bincount(i, minlength=len(t))[i] > 1, i, j)
                self.total_ += float(np.linalg.norm(z[i] - z[j], axis=1).sum())
        if strata.max() < 0:
            raise UserError(no_partner(self.exact, self.caliper, calipers))
        self._keep(strata, t)
        return self


def cover(cost: Floats, inside: Bools) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The edges of least total cost that reach every node of a bipartite graph that has an edge.

    A cover costs as much as the cheapest edge of every node, summed, except where an edge serves both its ends: it then
    saves what the cheapest edges of both would cost beyond it. So the edges that serve both are the assignment of the
    greatest saving (Schrijver 2003, Sec. 19.3), and every other node takes its cheapest edge, the first of equals.

    Args:
        cost: [m, k] of an edge between each node of both sides, whole numbers from 0, so that sums are exact.
        inside: bool [m, k], which edges there are.

    Returns:
        The ends of each edge, in rows and columns of the cost.
    """
    cost = np.where(inside, cost, np.inf)
    own, other = cost.min(1), cost.min(0)
    cheapest = cost.argmin(1), cost.argmin(0)
    cost -= np.where(np.isfinite(own), own, 0)[:, None]  # in place: such a matrix may take more than a gigabyte
    cost -= np.where(np.isfinite(other), other, 0)
    saving = np.minimum(cost, 0, out=cost)
    i, j = linear_sum_assignment(saving)
    both = saving[i, j] < 0
    i, j = i[both], j[both]
    rows = np.setdiff1d(np.flatnonzero(np.isfinite(own)), i)
    columns = np.setdiff1d(np.flatnonzero(np.isfinite(other)), j)
    i = np.concatenate([i, rows, cheapest[1][columns]])
    j = np.concatenate([j, cheapest[0][rows], columns])
    return i, j


def needed(edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """The edges [m, 2], each once, without those both of whose ends have another."""
    edges = np.unique(edges, axis=0)
    own, other = (np.bincount(ends).tolist() for ends in edges.T)
    kept = []
    for i, j in edges.tolist():
        if own[i] > 1 and other[j] > 1:
            own[i] -= 1
            other[j] -= 1
        else:
            kept.append((i, j))
    return np.array(kept, np.int64).reshape(-1, 2)
