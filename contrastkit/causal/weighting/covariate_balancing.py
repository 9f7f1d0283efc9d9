"""The covariate balancing propensity score."""

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from sklearn.base import BaseEstimator

from contrastkit.causal.estimand import population
from contrastkit.causal.weighting.equations import Equations
from contrastkit.causal.weighting.normalise import mean_one
from contrastkit.errors import UserError
from contrastkit.tables.checks import Bools, Floats, as_sample_weights, as_treatment
from contrastkit.tables.covariates import Covariates, design


class CovariateBalancing(BaseEstimator):
    """The covariate balancing propensity score (CBPS; Imai & Ratkovic 2014), just identified: the logistic e(x) whose
    inverse-probability weights balance the means of the arms, instead of maximising the likelihood.

    It minimises the convex loss whose gradient is zero under these conditions (Zhao 2019, Table 1). For the ATT and the
    ATC the weights are those of entropy balancing; for the ATE the arms agree with one another, not with the mean of
    all units. :class:`contrastkit.causal.weighting.OverIdentifiedBalancing` trades balance against likelihood.

    Attributes:
        weights_: see :mod:`contrastkit.causal.weighting`. scores_: float64 [n], e(x).

    Raises:
        UserError: no logistic model balances the covariates; the message states the gap.
    """

    def __init__(self, estimand: Literal["ATE", "ATT", "ATC"] = "ATT") -> None:
        self.estimand = estimand

    def fit(self, X: Any, T: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        X = Covariates.of(X)
        self._survey = s = np.ones(len(X)) if sample_weight is None else as_sample_weights(sample_weight, len(X))
        x, names, t = X.x, X.names, as_treatment(T, len(X))
        z = design(x)
        ate = self.estimand == "ATE"
        sign = np.where(t, -1.0, 1.0)
        tilted = np.ones_like(t) if ate else ~population(self.estimand, t)  # units whose weights come from the model

        def tilt(beta: Floats) -> Floats:
            """exp(-eta) = 1/e - 1 for the treated, exp(eta) = 1/(1 - e) - 1 for the others."""
            return s * np.where(tilted, np.exp(np.minimum(sign * (z @ beta), 300)), 0.0)

        flat = s * (ate | ~tilted)

        def loss(beta: Floats) -> tuple[float, Floats]:
            value = tilt(beta).sum() + (sign * flat) @ (z @ beta)
            return float(value) / len(z), (sign * (tilt(beta) + flat)) @ z / len(z)

        def hessian(beta: Floats) -> Floats:
            return (z * tilt(beta)[:, None]).T @ z / len(z)

        options = {"gtol": 1e-10, "maxiter": 200}
        solution = minimize(loss, np.zeros(z.shape[1]), jac=True, hess=hessian, method="trust-exact", options=options)
        w = tilt(solution.x) + flat
        gap = np.abs(np.average(z[t], axis=0, weights=w[t]) - np.average(z[~t], axis=0, weights=w[~t]))
        if gap.max() > 1e-6:
            worst = names[int(gap[1:].argmax())]
            raise UserError(
                f"no logistic model balances these covariates: {worst} is {gap[1:].max():.2g} standard deviations off; "
                "leave some out, or weight by the propensity score"
            )
        self.scores_ = 1 / (1 + np.exp(-(z @ solution.x)))
        self.weights_, self.estimand_ = mean_one(w, t), self.estimand
        return self

    def equations(self, X: Covariates, t: Bools) -> list[Equations]:
        """The conditions of balance: sum_i w_i A_i is the same in both arms."""
        e, target = self.scores_, population(self.estimand, t)
        tilt = np.where(target & (self.estimand != "ATE"), 0.0, np.where(t, 1 / e, 1 / (1 - e)) - 1)
        w, sign = tilt + target, np.where(t, 1.0, -1.0)
        return [Equations(design(X.x), self._survey * sign * w, self._survey * tilt, -sign * tilt / w)]
