"""Models of the effect given covariates, by the names of ``causal effects --learner``."""

from collections.abc import Callable

import numpy as np

from contrastkit.causal.estimate import AIPW
from contrastkit.causal.folds import Rows
from contrastkit.causal.learners import learned, outcome_learner, predicted
from contrastkit.causal.models import Models
from contrastkit.causal.names import EffectModel
from contrastkit.errors import UserError
from contrastkit.tables.checks import Bools, Floats
from contrastkit.tables.covariates import Covariates

Predict = Callable[[Floats], Floats]  # x [m, p] -> effects [m]


def effect_learner(
    name: EffectModel, X: Covariates, t: Bools, y: Floats, s: Floats, groups: Rows | None, *, models: Models
) -> Predict:
    """The effects that a model of these units predicts for others.

    All but ``forest`` are regressions on the pseudo-outcomes of these units, cross-fitted among them (Kennedy 2023,
    Algorithm 1, with folds instead of his two halves). ``forest`` is the causal forest of the package econml (Athey,
    Tibshirani & Wager 2019).

    Raises:
        UserError: the models refuse these units, or econml is not installed.
    """
    if name == "forest":
        return _causal_forest(X, t, y, s, groups, models=models)
    once = AIPW(
        "ATE", model=models.of_outcome(), propensity=models.of_propensity(), folds=models.folds, repeats=1,
        clip=models.clip, seed=models.seed,
    ).fit(X, t, y, s, clusters=groups)  # fmt: skip
    model = learned(outcome_learner(name, models.seed), X.x, once.pseudo_outcomes_, s if np.ptp(s) else None)
    return lambda x: predicted(model, x)


def _causal_forest(X: Covariates, t: Bools, y: Floats, s: Floats, groups: Rows | None, *, models: Models) -> Predict:
    """econml's forest, with our models of outcome and treatment."""
    try:
        from econml.dml import CausalForestDML
    except ImportError as error:
        raise UserError("--learner forest is econml's causal forest: pip install 'contrastkit[econml]'") from error
    from sklearn.linear_model import LogisticRegression

    classifier = models.of_propensity().classifier or LogisticRegression(C=np.inf, solver="newton-cholesky")
    forest = CausalForestDML(
        model_y=models.of_outcome(), model_t=classifier, discrete_treatment=True, cv=models.folds or 5,
        random_state=models.seed % 2**32,
    )  # fmt: skip
    columns = X.without_reference_levels()  # for the logistic regression
    forest.fit(y, t.astype(int), X=X.x[:, columns], sample_weight=s if np.ptp(s) else None, groups=groups)
    return lambda x: np.asarray(forest.effect(x[:, columns]), np.float64).reshape(len(x))
