"""Augmented inverse-probability weighting."""

from typing import Any, get_args

import numpy as np
from sklearn.base import clone
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import StratifiedKFold

from contrastkit.causal.estimate.base import ArmwiseEstimator
from contrastkit.causal.names import Estimand
from contrastkit.causal.propensity import Propensity
from contrastkit.errors import UserError, check_choice
from contrastkit.tables.checks import Bools, Floats
from contrastkit.tables.covariates import Covariates, standardised


class AIPW(ArmwiseEstimator):
    """Augmented inverse-probability weighting (Robins, Rotnitzky & Zhao 1994): consistent if
    either the outcome model or the propensity model is correct.

    psi = m1 - m0 + T (Y - m1)/e - (1 - T)(Y - m0)/(1 - e), with the ATE as its mean and its standard deviation over
    root n as standard error. ATT: the mean of Y - m0 of the treated minus that of the controls under weights e/(1 - e).

    Args:
        estimand: ATE, ATT or ATC.
        model: outcome model, any regressor, fitted in each arm; linear by default.
        propensity: propensity model.
        folds: number of cross-fitting folds, 0 for none; flexible models need them (Chernozhukov et al. 2018).
        seed: seed of the folds.
    """

    def __init__(
        self,
        estimand: Estimand = "ATT",
        *,
        model: Any = None,
        propensity: Propensity | None = None,
        folds: int = 5,
        seed: int = 0,
    ) -> None:
        self.estimand = estimand
        self.model = model
        self.propensity = propensity
        self.folds = folds
        self.seed = seed

    def _fit(self, X: Covariates, t: Bools, y: Floats) -> None:
        check_choice("estimand", self.estimand, get_args(Estimand))
        if self.folds == 1:
            raise UserError("cross-fitting needs two folds or more, or 0 for none")
        z = standardised(X.x)  # scikit-learn's regression drops columns that are small next to others
        X = Covariates(z, X.names, X.origins)
        if self.estimand != "ATE":
            return super()._fit(X, t, y)
        e, m0, m1 = self._nuisances(z, t, y)
        psi = m1 - m0 + t * (y - m1) / e - ~t * (y - m0) / (1 - e)
        self.estimand_ = "ATE"
        self.effect_, self.se_ = float(psi.mean()), float(psi.std(ddof=1) / np.sqrt(len(y)))

    def _att(self, X: Covariates, t: Bools, y: Floats) -> None:
        e, m0, _ = self._nuisances(X.x, t, y)
        w = e / (1 - e)
        treated, controls = (y - m0)[t].mean(), np.average((y - m0)[~t], weights=w[~t])
        psi = np.where(t, (y - m0 - treated) / t.mean(), -w * (y - m0 - controls) / w[~t].sum() * len(y))
        self.effect_, self.se_ = float(treated - controls), float(psi.std(ddof=1) / np.sqrt(len(y)))

    def _nuisances(self, x: Floats, t: Bools, y: Floats) -> tuple[Floats, Floats, Floats]:
        """The scores and the predicted outcomes of both arms, [n] each, from models that have not seen the row."""
        e, m0, m1 = np.empty_like(y), np.empty_like(y), np.empty_like(y)
        rows = np.arange(len(y))
        if self.folds:
            if min(t.sum(), (~t).sum()) < self.folds:
                raise UserError(f"{self.folds} folds, but an arm has fewer units: use fewer folds")
            splits = list(StratifiedKFold(self.folds, shuffle=True, random_state=self.seed).split(x, t))
        else:
            splits = [(rows, rows)]
        propensity = Propensity() if self.propensity is None else self.propensity
        model = LinearRegression() if self.model is None else self.model
        for train, test in splits:
            score = clone(propensity)
            score.learn(x[train], t[train])
            e[test] = score.predict_numbers(x[test])
            for arm, m in ((t, m1), (~t, m0)):
                rows = train[arm[train]]
                m[test] = clone(model).fit(x[rows], y[rows]).predict(x[test])
        return e, m0, m1
