"""The base classes of estimators."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t as student
from sklearn.base import BaseEstimator

from contrastkit.causal.estimate.means import Means
from contrastkit.causal.names import Measure
from contrastkit.causal.remarks import on_weights
from contrastkit.errors import UserError, check_choice
from contrastkit.tables.checks import (
    Bools,
    Floats,
    as_arms,
    as_clusters,
    as_outcome,
    as_sample_weights,
    effective_sample_size,
)
from contrastkit.tables.covariates import Covariates


class Estimator(BaseEstimator, ABC):
    """An estimator with ``fit(X, T, Y)`` and the attributes of :mod:`contrastkit.causal.estimate`."""

    effect_: float
    se_: float
    df_: float
    estimand_: str
    weights_: Floats | None
    influence_: Floats | None
    means_: Floats | None
    measure_: Measure
    remarks_: list[str]
    error_remarks_: list[str]  # those of remarks_ that are on its own standard error
    prior_: bool  # whether its propensity model has a prior, see ``fit``
    sample_weight_: Floats
    resamplable: ClassVar[bool] = True  # whether the bootstrap of units is valid
    takes_sample_weight: ClassVar[bool] = False
    has_means: ClassVar[bool] = False  # whether it estimates the mean outcome under each treatment

    def fit(
        self,
        X: Any,
        T: ArrayLike,
        Y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        clusters: ArrayLike | None = None,
        measure: Measure = "difference",
        prior: bool = False,
    ) -> Self:
        """Fit to X [n, p], covariates, an array or a frame, T [n] of 0 and 1, and numbers Y [n]; none is written to.

        Args:
            sample_weight: weights [n] of the units in a survey, whose population the effect is on; None for equal ones.
            clusters: labels [n]; units that share one may depend on one another. The standard error is then that of the
                influences summed within clusters (Liang & Zeger 1986), times the root of G/(G - 1) for G clusters.
                Clusters are on one side of a fold.
            measure: how the effect compares the mean outcomes (:class:`contrastkit.causal.estimate.means.Means`).
            prior: where the covariates separate some units, give the propensity model a prior instead of refusing them
                (:meth:`contrastkit.causal.propensity.Propensity.learn_part`): for samples of data that they do not
                separate.

        Raises:
            UserError: invalid data (see :mod:`contrastkit.tables`), or data that the estimator cannot handle.
        """
        X = Covariates.of(X)
        self.weights_, self.influence_, self.means_, self.remarks_, self.error_remarks_ = None, None, None, [], []
        self.se_, self.df_, self.prior_, self.measure_ = math.nan, math.inf, False, measure
        if measure != "difference" and not self.has_means:
            raise UserError(f"estimates no mean outcome of each arm, and so no {measure.replace('-', ' ')}")
        y, t = as_outcome(Y, len(X)), as_arms(T, len(X))
        groups = None if clusters is None else as_clusters(clusters, len(X))
        if sample_weight is not None and not self.takes_sample_weight:
            raise UserError(
                "takes no sample weights: use naive, ols, oaxaca, glm, ipw, overlap, entropy, cbps, cbps-over, aipw, "
                "dml or tlearner"
            )
        self.sample_weight_ = np.ones_like(y) if sample_weight is None else as_sample_weights(sample_weight, len(X))
        self._groups, self._prior = groups, prior
        self._fit(X, t, y)
        if groups is not None:
            self.se_, self.df_ = math.nan, int(groups.max())
        w = self.sample_weight_ if self.weights_ is None else self.weights_
        if self.influence_ is not None:
            if groups is not None:
                self.se_ = clustered(self.influence_, groups)
            else:
                self.se_ = float(np.linalg.norm(self.influence_)) if math.isnan(self.se_) else self.se_
                self.df_ = satterthwaite(self.influence_, (t, ~t), w)
        few = on_weights(w, {"treated": t, "untreated": ~t})
        self.remarks_ += few
        if math.isnan(self.se_):
            self.error_remarks_ = self.error_remarks_ or ["it has no standard error of its own"]
        elif few:
            self.error_remarks_.append("with so small an effective sample, the interval may be too narrow")
        self.remarks_ += self.error_remarks_
        return self

    @abstractmethod
    def _fit(self, X: Covariates, t: Bools, y: Floats) -> None: ...

    def _compared(self, means: Means) -> tuple[float, Floats | None]:
        """The effect by two means, which become ``means_``, and the influence of each unit on it [n], None if
        unknown."""
        self.means_ = means.values
        return means.contrast(self.measure_)

    @property
    def jackknifed(self) -> bool:
        """Whether a missing standard error is found by the jackknife: its refits take seconds."""
        return False

    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval, by Student's t with ``df_`` degrees of freedom."""
        half = float(student.ppf(0.975, self.df_)) * self.se_
        return self.effect_ - half, self.effect_ + half


class ArmwiseEstimator(Estimator):
    """An estimator of the ATT, by ``_att``; the ATC is the ATT with the arms exchanged and the sign reversed."""

    estimand: str

    def _fit(self, X: Covariates, t: Bools, y: Floats) -> None:
        check_choice("estimand", self.estimand, ["ATT", "ATC"])
        self._att(X, ~t if self.estimand == "ATC" else t, y)
        self.estimand_ = self.estimand
        if self.estimand == "ATC":
            self.effect_ *= -1
            self.influence_ = None if self.influence_ is None else -self.influence_
            self.means_ = None if self.means_ is None else self.means_[::-1]

    @abstractmethod
    def _att(self, X: Covariates, t: Bools, y: Floats) -> None: ...


def clustered(influence: Floats, groups: Any) -> float:
    """The standard error from influences [n] of units in groups [n], numbered from 0."""
    sums = np.bincount(groups, influence)
    return float(np.linalg.norm(sums)) * math.sqrt(len(sums) / (len(sums) - 1))


def satterthwaite(influence: Floats, arms: Sequence[Bools], w: Floats) -> float:
    """The degrees of freedom of the sum of squares of influences [n]: those of :func:`welch`."""
    return float(welch(np.array([[(influence[arm] ** 2).sum()] for arm in arms]), arms, w)[0])


def welch(variances: Floats, arms: Sequence[Bools], w: Floats) -> Floats:
    """The degrees of freedom [K] of K variances that add those of the arms, [arms, K] (Welch 1947), each arm with its
    effective sample size less one; at least 1."""
    df = np.array([[max(effective_sample_size(w[arm]) - 1, 1e-6)] for arm in arms])
    below = (variances**2 / df).sum(0)
    found = np.divide(variances.sum(0) ** 2, below, out=np.full_like(below, math.inf), where=below > 0)
    return np.maximum(found, 1.0)


@dataclass(frozen=True, eq=False)
class Judge:
    """Standard errors and half-widths of 95 % intervals, from influences [n].

    Attributes:
        arms: bool [n] each. w: float64 [n], the weights. groups: int64 [n], clusters numbered from 0; None without.
    """

    arms: Sequence[Bools]
    w: Floats
    groups: Any

    def error(self, influence: Floats) -> float:
        return float(np.linalg.norm(influence)) if self.groups is None else clustered(influence, self.groups)

    def df(self, influence: Floats) -> float:
        return satterthwaite(influence, self.arms, self.w) if self.groups is None else float(self.groups.max())

    def half(self, influence: Floats) -> float:
        return float(student.ppf(0.975, self.df(influence))) * self.error(influence)
