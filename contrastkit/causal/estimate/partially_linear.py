"""Double machine learning."""

from typing import Any

import numpy as np

from contrastkit.causal.estimate.cross_fitted import CrossFitted, Splits
from contrastkit.causal.propensity import Propensity
from contrastkit.errors import UserError
from contrastkit.tables.checks import Bools, Floats
from contrastkit.tables.covariates import Covariates


class PartiallyLinear(CrossFitted):
    """Double machine learning of the partially linear model Y = theta T + g(X) + U (Chernozhukov et al. 2018, by the
    score of Eq. 4.4): the regression of Y - l(X) on T - e(X), with l(x) = E[Y | X = x]. That of the interactive model
    is :class:`contrastkit.causal.estimate.AIPW`.

    Where the effect varies, it is averaged with weights e(x) (1 - e(x)): that of the units with overlap, the ATO. With
    sample weights, e and l are those of the population of the survey, the regression is weighted, and so the average is
    over the units with overlap in that population.

    Args:
        model: outcome model, any regressor; linear by default.
        propensity, folds, repeats, seed: as those of AIPW.
    """

    def __init__(
        self,
        *,
        model: Any = None,
        propensity: Propensity | None = None,
        folds: int = 5,
        repeats: int = 3,
        seed: int = 0,
    ) -> None:
        self.model = model
        self.propensity = propensity
        self.folds = folds
        self.repeats = repeats
        self.seed = seed

    def _once(self, X: Covariates, t: Bools, y: Floats, splits: Splits) -> tuple[float, Floats]:
        self.estimand_ = "ATO"
        v = t - self._scores(X, t, splits)
        residual = y - self._outcomes(X, y, np.ones_like(t), splits)
        weighted = self._s * v
        if not weighted @ v > 1e-12 * len(v):
            raise UserError("the propensity model predicts the treatment perfectly: leave out what determines it")
        effect = float(weighted @ residual / (weighted @ v))
        return effect, weighted * (residual - effect * v) / (weighted @ v)
