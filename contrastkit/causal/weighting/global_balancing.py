"""Global balancing."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator

from contrastkit.causal.weighting.normalise import mean_one
from contrastkit.tables.checks import as_treatment
from contrastkit.tables.covariates import Covariates
from contrastkit.tables.dependence import standardise
from contrastkit.tables.reweighting import global_balancing_weights


class GlobalBalancing(BaseEstimator):
    """Global balancing (Shen et al., ACM MM 2018; Kuang et al., KDD 2018): the treatment and,
    in turn, each covariate as if it were a treatment is balanced against all others
    (:func:`contrastkit.tables.reweighting.global_balancing_weights`).

    The weights define the population: the estimate is the effect on it, close to the ATE if weights are nearly equal.

    Attributes:
        weights_: see :mod:`contrastkit.causal.weighting`.
    """

    def fit(self, X: Any, T: ArrayLike) -> Self:
        X = Covariates.of(X)
        t = as_treatment(T, len(X))
        columns = X.without_reference_levels()
        names = ("the treatment", *(X.names[j] for j in columns))
        z, _ = standardise(Covariates(np.column_stack([t, X.x[:, columns]]), names, names))
        w, _ = global_balancing_weights(z)
        self.weights_, self.estimand_ = mean_one(w * (len(w) / w.sum()), t), "ATE of the reweighted"
        return self
