"""The matching of units."""

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone

from contrastkit.causal.estimand import population
from contrastkit.causal.matching.metric import Pairs, coordinates
from contrastkit.causal.matching.replacement import nearest
from contrastkit.causal.matching.turns import greedy, optimal
from contrastkit.causal.names import Order, PairMetric
from contrastkit.causal.propensity import Propensity
from contrastkit.errors import UserError
from contrastkit.tables.checks import Bools, Floats, as_treatment
from contrastkit.tables.covariates import Covariates


class Matching(BaseEstimator):
    """Nearest-neighbour matching.

    ATT finds a control for every treated unit, ATC a treated one for every control, ATE both. A unit without a partner
    within the caliper, or with none left, is dropped: the effect is then that on the matched, as ``estimand_`` says.

    Args:
        estimand: ATT, ATC, or ATE (with replacement only).
        metric: what is near. ``logit`` (of the propensity score) and ``propensity``; ``mahalanobis``, with the pooled
            covariance within the groups (MatchIt's; a pseudo-inverse, so all dummies of a factor may stay); ``robust``,
            the same of the ranks, with the variances of untied ones (Rosenbaum 2010, Sec. 8.3); ``scaled``, by the
            standard deviation of each column (the inverse-variance metric); ``euclidean``; ``cosine``, for embeddings.
        ratio: partners of each unit: first one for all, then the second, ...
        replacement: a partner may serve again. Otherwise ``order`` decides who chooses first, by the propensity score
            (largest, smallest), at random (``seed``) or as the rows stand.
        ties: with replacement, keep all partners that are as near as the last, each with its share of the weight (as
            R's Matching does, and the standard errors of Abadie and Imbens have it); else the first in the data.
        caliper: nothing farther is a partner: in standard deviations of the metric's score for ``logit`` (0.2: Austin
            2011) and ``propensity``, in units of the distance otherwise.
        exact: numbers of columns of X on which partners must agree.
        optimal: the least sum of distances over all pairs instead of one choice after the other; for ratio 1, without
            replacement. It holds all distances at once: n_treated x n_control numbers.
        propensity: the model of the score.
        seed: of ``order="random"``.

    Attributes:
        pairs_: int64 [m, 2], the rows of a unit and of a partner. shares_: float64 [m], the partner's share in its unit
            (1 over the number of partners). distances_: float64 [m].
        weights_: float64 [n], with mean 1 over the units of each arm that have some; 0 for those left out.
        dropped_: int64, the rows of units without a partner. estimand_: what is estimated after that.
    """

    def __init__(
        self,
        estimand: Literal["ATT", "ATC", "ATE"] = "ATT",
        *,
        metric: PairMetric = "logit",
        ratio: int = 1,
        replacement: bool = True,
        order: Order = "largest",
        ties: bool = True,
        caliper: float | None = None,
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
        if self.metric in ("logit", "propensity") or (self.order in ("largest", "smallest") and in_turn):
            self.propensity_ = clone(Propensity() if self.propensity is None else self.propensity).fit(X, t)
        z, limit = coordinates(self.metric, x, t, self.propensity_, self.caliper)
        z = z - z.mean(0)
        wanted = population(self.estimand, t)
        parts: list[Pairs] = []
        for units in (arm & wanted for arm in (t, ~t) if (arm & wanted).any()):
            parts.extend(self._within_strata(x, z, units, limit))
        i, j, d = (np.concatenate(part) if part else np.empty(0, int) for part in zip(*parts, strict=True))
        if not len(i):
            raise UserError("no unit has a partner within the caliper: widen it")
        self.pairs_, self.distances_ = np.stack([i, j], axis=1).astype(np.int64), d.astype(np.float64)
        partners = np.bincount(i, minlength=len(x))
        self.shares_ = 1 / partners[i]
        self.dropped_ = np.flatnonzero(wanted & (partners == 0))
        self.estimand_ = f"{self.estimand} of the matched" if len(self.dropped_) else self.estimand
        used = np.bincount(j, self.shares_, minlength=len(x))
        w = used + (partners > 0)
        self.weights_ = w.astype(np.float64)
        for arm in (t, ~t):
            self.weights_[arm] *= (w[arm] > 0).sum() / w[arm].sum()
        return self

    def _check_options(self) -> None:
        if self.ratio < 1:
            raise UserError(f"a unit has at least one partner, not {self.ratio}: raise the ratio")
        if self.optimal and (self.replacement or self.ratio > 1 or self.estimand == "ATE"):
            raise UserError("optimal matching pairs one with one: without replacement, ratio 1, ATT or ATC")
        if self.estimand == "ATE" and not self.replacement:
            raise UserError(
                "the ATE needs every unit matched, which takes replacement: ask for the ATT, or with replacement"
            )

    def _within_strata(self, x: Floats, z: Floats, units: Bools, limit: float) -> list[Pairs]:
        """The pairs, stratum by stratum of ``exact``."""
        if not self.exact:
            return [self._pairs(z, np.flatnonzero(units), np.flatnonzero(~units), limit)]
        stratum = np.unique(x[:, list(self.exact)], axis=0, return_inverse=True)[1].reshape(-1)
        order = np.argsort(stratum, kind="stable")
        cuts = np.flatnonzero(np.diff(stratum[order])) + 1
        parts = []
        for rows in np.split(order, cuts):
            here, there = rows[units[rows]], rows[~units[rows]]
            if len(here) and len(there):
                parts.append(self._pairs(z, here, there, limit))
        return parts or [(np.empty(0, int), np.empty(0, int), np.empty(0))]

    def _pairs(self, z: Floats, a: NDArray[Any], b: NDArray[Any], limit: float) -> Pairs:
        """Partners in b for the rows a."""
        if self.optimal:
            return optimal(z, a, b, limit)
        if self.replacement:
            return nearest(z, a, b, self.ratio, limit, ties=self.ties)
        if self.order == "data":
            turn = np.arange(len(a))
        elif self.order == "random":
            turn = np.random.default_rng(self.seed).permutation(len(a))
        else:
            assert self.propensity_ is not None
            e = self.propensity_.scores_[a]
            turn = np.argsort(-e if self.order == "largest" else e, kind="stable")
        return greedy(z, a[turn], b, self.ratio, limit)
