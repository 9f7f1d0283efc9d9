"""One outcome model in each arm."""

from typing import Any, get_args

import numpy as np

from contrastkit.causal.estimand import population
from contrastkit.causal.estimate.cross_fitted import CrossFitted, Splits
from contrastkit.causal.estimate.means import Means
from contrastkit.causal.learners import flexible
from contrastkit.causal.names import Estimand
from contrastkit.causal.positivity import check_varies
from contrastkit.errors import check_choice
from contrastkit.tables.checks import Bools, Floats
from contrastkit.tables.covariates import Covariates

AFFORDABLE = 20_000  # rows, up to which the refits of the jackknife take seconds


class TLearner(CrossFitted):
    """The mean over the target population of the difference of two outcome models, one fitted in each arm (the
    T-learner of Kunzel et al. 2019; with linear models, g-computation). It has no standard error of its own, but with
    linear models of up to 20,000 rows that of the jackknife: the bias of a flexible model is not of smaller order than
    its sampling error, which is what AIPW corrects. With sample weights, models and mean are weighted.

    Args:
        estimand: ATE, ATT or ATC.
        model, folds, repeats, seed: as those of AIPW.
    """

    has_means = True

    def __init__(
        self, estimand: Estimand = "ATT", *, model: Any = None, folds: int = 5, repeats: int = 3, seed: int = 0
    ) -> None:
        self.estimand = estimand
        self.model = model
        self.folds = folds
        self.repeats = repeats
        self.seed = seed

    @property
    def jackknifed(self) -> bool:
        return not flexible(self.model) and len(self.sample_weight_) <= AFFORDABLE

    def _fit(self, X: Covariates, t: Bools, y: Floats) -> None:
        check_choice("estimand", self.estimand, get_args(Estimand))
        self.estimand_ = self.estimand
        super()._fit(X, t, y)

    def _check_overlap(self, X: Covariates, t: Bools) -> None:
        """Refuse a column whose effect on the outcome an arm cannot tell, where the target population needs it: there
        are no propensity scores to separate the arms."""
        target = population(self.estimand, t)
        for arm in (t, ~t):
            if (target & ~arm).any():
                check_varies(X, arm)

    def _once(self, X: Covariates, t: Bools, y: Floats, splits: Splits) -> tuple[float, Floats | None]:
        m0, m1 = (self._outcomes(X, y, arm, splits) for arm in (~t, t))
        target = population(self.estimand, t)
        values = [np.average(m[target], weights=self._s[target]) for m in (m1, m0)]
        return self._compared(Means(np.array(values), None))
