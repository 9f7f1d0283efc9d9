"""The base classes of estimators."""

import math
from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm
from sklearn.base import BaseEstimator

from contrastkit.errors import check_choice
from contrastkit.tables.checks import Bools, Floats, as_arms, as_outcome
from contrastkit.tables.covariates import Covariates


class Estimator(BaseEstimator, ABC):
    """An estimator with ``fit(X, T, Y)`` and the attributes of :mod:`contrastkit.causal.estimate`."""

    effect_: float
    se_: float
    estimand_: str
    weights_: Floats | None
    influence_: Floats | None
    remarks_: list[str]

    def fit(self, X: Any, T: ArrayLike, Y: ArrayLike) -> Self:
        """Fit to X [n, p], covariates, an array or a frame, T [n] of 0 and 1, and numbers Y [n]; none is written to.

        Raises:
            UserError: invalid data (see :mod:`contrastkit.tables`), or data that the estimator cannot handle.
        """
        X = Covariates.of(X)
        self.weights_, self.influence_, self.remarks_ = None, None, []
        self.se_ = math.nan
        y, t = as_outcome(Y, len(X)), as_arms(T, len(X))
        self._fit(X, t, y)
        if self.influence_ is not None:
            self.se_ = float(np.linalg.norm(self.influence_))
        return self

    @abstractmethod
    def _fit(self, X: Covariates, t: Bools, y: Floats) -> None: ...

    def interval(self) -> tuple[float, float]:
        """The normal 95 % confidence interval."""
        half = float(norm.ppf(0.975)) * self.se_
        return self.effect_ - half, self.effect_ + half


class ArmwiseEstimator(Estimator):
    """An estimator of the ATT, by ``_att``; the ATC is the ATT with the arms exchanged and the sign reversed."""

    estimand: str

    def _fit(self, X: Covariates, t: Bools, y: Floats) -> None:
        check_choice("estimand", self.estimand, ["ATT", "ATC"])
        self._att(X, ~t if self.estimand == "ATC" else t, y)
        self.estimand_ = self.estimand
        self.effect_ *= -1 if self.estimand == "ATC" else 1

    @abstractmethod
    def _att(self, X: Covariates, t: Bools, y: Floats) -> None: ...
