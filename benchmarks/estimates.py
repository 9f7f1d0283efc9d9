"""Estimates of the average effect of a treatment by `contrastkit causal` and by the packages an expert would use."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression

from contrastkit.causal.compare import LINEAR, estimators
from contrastkit.causal.models import Models

UNPENALISED = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-8)


class Estimate(NamedTuple):
    """Of the mean effect, with its standard error if the package has one."""

    effect: float
    se: float | None


def estimated(name: str, models: Models = LINEAR) -> Callable[[Any, Any, Any], Estimate]:
    def run(x: Any, t: Any, y: Any) -> Estimate:
        estimator = estimators("ATE", models=models)[name].fit(x, t, y)
        return Estimate(estimator.effect_, estimator.se_)

    return run


def by_statsmodels(x: Any, t: Any, y: Any) -> Estimate:
    """Inverse probability weighting, with the error of its stacked equations."""
    import statsmodels.api as sm
    from statsmodels.treatment.treatment_effects import TreatmentEffect

    design = sm.add_constant(x)
    scores = sm.Logit(t.astype(float), design).fit(disp=0)
    result = TreatmentEffect(sm.OLS(y, design), t.astype(float), results_select=scores).ipw()
    return Estimate(float(result.effect[0]), float(result.results_gmm.bse[0]))


def by_causallib(x: Any, t: Any, y: Any) -> Estimate:
    from causallib.estimation import IPW

    covariates, treatment, outcome = pd.DataFrame(x), pd.Series(t.astype(int)), pd.Series(y)
    ipw = IPW(UNPENALISED).fit(covariates, treatment)
    means = ipw.estimate_population_outcome(covariates, treatment, outcome)
    return Estimate(float(means[1] - means[0]), None)


def by_dowhy(x: Any, t: Any, y: Any) -> Estimate:
    from dowhy import CausalModel

    names = [f"x{j}" for j in range(x.shape[1])]
    frame = pd.DataFrame(x, columns=names).assign(t=t, y=y)
    model = CausalModel(frame, treatment="t", outcome="y", common_causes=names)
    estimate = model.estimate_effect(
        model.identify_effect(method_name="maximal-adjustment"), target_units="ate",
        method_name="backdoor.propensity_score_weighting",
        method_params={
            "weighting_scheme": "ips_normalized_weight",
            "init_params": {"propensity_score_model": UNPENALISED, "min_ps_score": 0.0, "max_ps_score": 1.0},
        },
    )  # fmt: skip
    return Estimate(float(estimate.value), None)


def by_least_squares(x: Any, t: Any, y: Any) -> Estimate:
    import statsmodels.api as sm

    fit = sm.OLS(y, sm.add_constant(np.column_stack([t, x]))).fit(cov_type="HC1")
    return Estimate(float(fit.params[1]), float(fit.bse[1]))


def by_doubleml(model: str, regressor: Any, classifier: Any) -> Callable[[Any, Any, Any], Estimate]:
    """Folds and repeats as ours."""

    def run(x: Any, t: Any, y: Any) -> Estimate:
        import doubleml

        np.random.seed(0)  # draws its folds
        data = doubleml.DoubleMLData.from_arrays(x, y, t.astype(float))
        learned = getattr(doubleml, model)(data, regressor, classifier, n_folds=5, n_rep=LINEAR.repeats).fit()
        return Estimate(float(learned.coef[0]), float(learned.se[0]))

    return run


def by_econml(learner: str, models: tuple[Any, Any]) -> Callable[[Any, Any, Any], Estimate]:
    """With folds and repeats as ours, and no covariate that moderates the effect."""

    def run(x: Any, t: Any, y: Any) -> Estimate:
        from econml.dml import LinearDML
        from econml.dr import LinearDRLearner

        options: dict[str, Any] = {"cv": 5, "mc_iters": LINEAR.repeats, "random_state": 0}
        if learner == "dml":
            dml = LinearDML(model_y=models[0], model_t=models[1], discrete_treatment=True, **options).fit(y, t, W=x)
            return Estimate(float(dml.intercept_), float(dml.intercept__inference().stderr))
        dr = LinearDRLearner(model_regression=models[0], model_propensity=models[1], **options).fit(y, t, W=x)
        return Estimate(float(dr.intercept_(1)), float(dr.intercept__inference(1).stderr))

    return run


LINES = (LinearRegression(), UNPENALISED)
TREES = (HistGradientBoostingRegressor(random_state=0), HistGradientBoostingClassifier(random_state=0))

# task -> package -> function of x, t and y that returns an estimate
ESTIMATES: dict[str, dict[str, Callable[[Any, Any, Any], Estimate]]] = {
    "least squares, HC1": {"contrastkit": estimated("ols"), "statsmodels": by_least_squares},
    "ipw": {
        "contrastkit": estimated("ipw"),
        "statsmodels": by_statsmodels,
        "causallib": by_causallib,
        "dowhy": by_dowhy,
    },
    "aipw, 5 folds, 3 repeats": {
        "contrastkit": estimated("aipw"),
        "doubleml": by_doubleml("DoubleMLIRM", *LINES),
        "econml": by_econml("dr", LINES),
    },
    "dml, 5 folds, 3 repeats": {
        "contrastkit": estimated("dml"),
        "doubleml": by_doubleml("DoubleMLPLR", *LINES),
        "econml": by_econml("dml", LINES),
    },
    "aipw with boosting, 5 folds, 3 repeats": {
        "contrastkit": estimated("aipw", Models("boost", "boost")),
        "doubleml": by_doubleml("DoubleMLIRM", *TREES),
        "econml": by_econml("dr", TREES),
    },
}
