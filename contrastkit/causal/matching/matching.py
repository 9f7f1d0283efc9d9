"""Matching of units in pairs."""

from collections.abc import Mapping
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone

from contrastkit.causal.estimand import of_matched, population
from contrastkit.causal.matching.limits import Calipers, agreeing, no_partner
from contrastkit.causal.matching.metric import BY_SCORE, Pairs, coordinates
from contrastkit.causal.matching.replacement import nearest
from contrastkit.causal.matching.turns import greedy, optimal
from contrastkit.causal.names import Metric, Order
from contrastkit.causal.propensity import EQUAL_SCORES, Propensity
from contrastkit.errors import UserError, check_choice
from contrastkit.tables.checks import Floats, as_treatment
from contrastkit.tables.covariates import Covariates
from contrastkit.tables.ties import levels


class Matching(BaseEstimator):
    """Nearest-neighbour matching.

    ATT finds a control for every treated unit, ATC a treated unit for every control, ATE both. Units without a partner
    within the caliper, or with none left, are dropped: the effect is then that on the matched, see ``estimand_``.

    Args:
        estimand: ATT, ATC, or ATE (with replacement only).
        metric: the distance. ``logit`` (of the propensity score) and ``propensity``; ``mahalanobis``, with the pooled
            covariance within the groups (as in MatchIt; a pseudo-inverse allows all indicators of a factor);
            ``robust``, the same on ranks, with the variances of untied ranks (Rosenbaum 2010, Sec. 8.3); ``scaled``, by
            the standard deviation of each column (the inverse-variance metric); ``euclidean``; ``cosine``, for
            embeddings.
        ratio: number of partners of each unit: first one for each unit, then the second, ...
        replacement: allow a partner to be used more than once. Otherwise ``order`` decides which unit chooses first: by
            the propensity score (largest, smallest; equals in data order), at random (``seed``) or in data order.
        ties: with replacement, keep all partners that are as near as the last, with equal shares of the weight (as in
            R's Matching and the standard errors of Abadie and Imbens); otherwise, and without replacement, the first in
            the data is taken.
        caliper: maximum distance between partners: in standard deviations of the score for ``logit`` (0.2: Austin
            2011) and ``propensity``, in units of the distance otherwise.
        calipers: column of X -> the largest difference of it between partners, in its units.
        exact: indices of the columns of X on which partners must agree.
        optimal: minimise the total distance over all pairs instead of matching greedily; for ratio 1, without
            replacement. Needs memory for all n_treated x n_control distances.
        propensity: propensity model.
        seed: seed of ``order="random"``.

    Attributes:
        pairs_: int64 [m, 2], the rows of a unit and of its partner. shares_: float64 [m], the share of the partner (1
            over the number of partners of the unit). distances_: float64 [m].
        weights_: float64 [n], with mean 1 over the matched units of each arm; 0 for the others.
        dropped_: int64, the rows of units without a partner. estimand_: the estimand after dropping them.
    """

    def __init__(
        self,
        estimand: Literal["ATT", "ATC", "ATE"] = "ATT",
        *,
        metric: Metric = "logit",
        ratio: int = 1,
        replacement: bool = True,
        order: Order = "largest",
        ties: bool = True,
        caliper: float | None = None,
        calipers: Mapping[int, float] | None = None,
        exact: tuple[int, ...] = (),
        optimal: bool = False,
        propensity: Propensity | None = None,
        seed: int = 0,
    ) -> None:
        self.estimand = estimand
        self.metric = metric
        self.ratio = ratio
        self.replacement = replacement
        self.order = order
        self.ties = ties
        self.caliper = caliper
        self.calipers = calipers
        self.exact = exact
        self.optimal = optimal
        self.propensity = propensity
        self.seed = seed

    def fit(self, X: Any, T: ArrayLike) -> Self:
        X = Covariates.of(X)
        x, t = X.x, as_treatment(T, len(X))
        self._check_options()
        self.propensity_ = None
        in_turn = not (self.replacement or self.optimal)
        if self.metric in BY_SCORE or (self.order in ("largest", "smallest") and in_turn):
            self.propensity_ = clone(Propensity() if self.propensity is None else self.propensity).fit(X, t)
        z, limit = coordinates(self.metric, x, t, self.propensity_, self.caliper)
        z, calipers = z - z.mean(0), Calipers(x, self.calipers or {})
        target = population(self.estimand, t)
        parts: list[Pairs] = []
        for arm in (arm for arm in (t, ~t) if (arm & target).any()):
            if self.ratio > (others := int((~arm).sum())):
                raise UserError(f"a ratio of {self.ratio:,} is more than the {others:,} units to match with: lower it")
            parts.append((np.empty(0, int), np.empty(0, int), np.empty(0)))
            for rows in agreeing(x, self.exact):
                choosing, partners = rows[(arm & target)[rows]], rows[~arm[rows]]
                if len(choosing) and len(partners):
                    parts.append(self._pairs(z, choosing, partners, limit, calipers))
        i, j, d = (np.concatenate(part) for part in zip(*parts, strict=True))
        if not len(i):
            raise UserError(no_partner(self.exact, self.caliper, calipers))
        self.pairs_, self.distances_ = np.stack([i, j], axis=1).astype(np.int64), d.astype(np.float64)
        partners = np.bincount(i, minlength=len(x))
        self.shares_ = 1 / partners[i]
        self.dropped_ = np.flatnonzero(target & (partners == 0))
        self.estimand_ = of_matched(self.estimand, self.dropped_)
        used = np.bincount(j, self.shares_, minlength=len(x))
        w = used + (partners > 0)
        self.weights_ = w.astype(np.float64)
        for arm in (t, ~t):
            self.weights_[arm] *= (w[arm] > 0).sum() / w[arm].sum()
        return self

    def _check_options(self) -> None:
        check_choice("metric", self.metric, get_args(Metric))
        check_choice("order", self.order, get_args(Order))
        if self.ratio < 1:
            raise UserError(f"the ratio must be 1 or more, not {self.ratio}")
        if self.optimal and (self.replacement or self.ratio > 1 or self.estimand == "ATE"):
            raise UserError("optimal matching is one to one: use no replacement, ratio 1, and the ATT or ATC")
        if self.estimand == "ATE" and not self.replacement:
            raise UserError("the ATE needs matching with replacement: allow it, or choose the ATT or ATC")

    def _pairs(self, z: Floats, a: NDArray[Any], b: NDArray[Any], limit: float, calipers: Calipers) -> Pairs:
        """Partners in rows b for the units in rows a."""
        if self.optimal:
            return optimal(z, a, b, limit, calipers)
        if self.replacement:
            return nearest(z, a, b, self.ratio, limit, calipers, ties=self.ties)
        if self.order == "data":
            order = np.arange(len(a))
        elif self.order == "random":
            order = np.random.default_rng(self.seed).permutation(len(a))
        else:
            assert self.propensity_ is not None
            turn = levels(self.propensity_.scores_[a], EQUAL_SCORES)
            order = np.argsort(-turn if self.order == "largest" else turn, kind="stable")
        return greedy(z, a[order], b, self.ratio, limit, calipers)
