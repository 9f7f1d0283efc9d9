"""Estimates by `contrastkit causal` of other designs than two arms and covariates, and by the packages an expert would
use. Each makes what its design needs of the rows of :mod:`benchmarks.causal`, by a fixed seed.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.designs import units
from benchmarks.estimates import LINES, Estimate
from contrastkit.causal.arms import compare_arms
from contrastkit.causal.columns import Columns
from contrastkit.causal.conditional import conditional_effects
from contrastkit.causal.dose import dose_response
from contrastkit.causal.estimate import InSubclasses
from contrastkit.causal.instrumental import instrumental_effect
from contrastkit.causal.mediated import mediated_effect
from contrastkit.causal.models import Models
from contrastkit.causal.names import ArmWeighting, DoseWeighting
from contrastkit.causal.structure import structure
from contrastkit.causal.study import Study
from contrastkit.causal.subclasses import Subclasses
from contrastkit.causal.survival import compare_survival
from contrastkit.causal.weighting import InverseProbability
from contrastkit.tables.covariates import Covariates

Array = Any
Design = Callable[[Array, Array, Array], Estimate]
CHAIN = "x -> t; x -> y; t -> m; m -> y; t -> y"
BY = 6.0  # time at which survival is compared
DRAWS = 20  # samples of the bootstrap of a dose, whose default of 200 takes ten times as long


def named(x: Array) -> pd.DataFrame:
    return pd.DataFrame(x, columns=[f"x{j}" for j in range(x.shape[1])])


def three_arms(t: Array) -> Array:
    """The two arms, and a third of their units at random in another."""
    return np.where(np.random.default_rng(1).uniform(size=len(t)) < 1 / 3, 2, t.astype(int))


def arms(by: ArmWeighting, x: Array, t: Array, y: Array) -> Estimate:
    contrasts = compare_arms(units(x, three_arms(t), y), by).contrasts
    return next(Estimate(c.effect, c.se) for c in contrasts if (c.arm, c.against) == ("1", "0"))


def arms_by_statsmodels(x: Array, t: Array, y: Array) -> Estimate:
    """Weights by multinomial regression, without an error."""
    import statsmodels.api as sm

    arm, design = three_arms(t), sm.add_constant(x)
    w = 1 / sm.MNLogit(arm, design).fit(disp=0, method="newton").predict()
    means = [np.average(y[arm == k], weights=w[arm == k, k]) for k in (0, 1)]
    return Estimate(float(means[1] - means[0]), None)


def doses(x: Array, y: Array) -> tuple[Array, Array]:
    """Doses that depend on two covariates, and an outcome to which each unit of them adds 2."""
    dose = 0.3 * x[:, 0] + 0.2 * x[:, 1] + np.random.default_rng(1).normal(size=len(x))
    return dose, y + 2 * dose


def dose(by: DoseWeighting, x: Array, t: Array, y: Array) -> Estimate:
    amount, outcome = doses(x, y - 2 * t)
    low, high = dose_response(units(x, amount, outcome), by, df=1, at=(0.0, 1.0), draws=DRAWS).curve
    return Estimate(high.mean - low.mean, None)


def subclasses(x: Array, t: Array, y: Array) -> Estimate:
    fitted = InSubclasses(Subclasses("ATE", strata=20)).fit(x, t, y)
    return Estimate(fitted.effect_, fitted.se_)


def effects(x: Array, t: Array, y: Array) -> Estimate:
    """The mean effect, beside which its change with the first covariate is fitted, which is none."""
    study = Study(
        **vars(units(x, t, y)) | {"X": Covariates.of(named(x)), "covariates": {name: (name,) for name in named(x)}}, T=t
    )
    found = conditional_effects(study, ["x0"], models=Models(repeats=1))
    return Estimate(found.all.effect.effect, found.all.effect.se)


def effects_by_econml(x: Array, t: Array, y: Array) -> Estimate:
    from econml.dr import LinearDRLearner

    learner = LinearDRLearner(model_regression=LINES[0], model_propensity=LINES[1], cv=5, random_state=0)
    learner.fit(y, t, X=x[:, :1], W=x[:, 1:])
    inference = learner.ate_inference(x[:, :1])
    return Estimate(float(inference.mean_point), float(inference.stderr_mean))


def instrumented(x: Array) -> pd.DataFrame:
    """A treatment that an instrument and a hidden cause of the outcome move, and adds 2 a unit to the outcome."""
    g = np.random.default_rng(1)
    z, hidden, noise = g.normal(size=(3, len(x)))
    t = 0.5 * z + 0.5 * x[:, 0] + hidden + noise
    return named(x).assign(z=z, t=t, y=2 * t + hidden + x @ np.linspace(1, 0, x.shape[1]) + g.normal(size=len(x)))


def instrument(x: Array, t: Array, y: Array) -> Estimate:
    columns = Columns(instrumented(x), "")
    names = [f"x{j}" for j in range(x.shape[1])]
    found = instrumental_effect(columns, treatment="t", outcome="y", instruments=["z"], covariates=names).two_stage
    return Estimate(found.effect, found.se)


def instrument_by_linearmodels(x: Array, t: Array, y: Array) -> Estimate:
    from linearmodels.iv import IV2SLS

    data = instrumented(x)
    exog = data.drop(columns=["t", "y", "z"]).assign(const=1.0)
    fit = IV2SLS(data.y, exog, data.t, data.z).fit(cov_type="robust", debiased=True)
    return Estimate(float(fit.params["t"]), float(fit.std_errors["t"]))


def mediated(x: Array, t: Array) -> pd.DataFrame:
    """A mediator that the treatment raises by 1, and that adds 2 a unit to an outcome of which x0 is a hidden cause."""
    g = np.random.default_rng(1)
    m = t + g.normal(size=len(x))
    return pd.DataFrame({"t": t.astype(int), "m": m, "y": 2 * m + x[:, 0] + g.normal(size=len(x))})


def front_door(x: Array, t: Array, y: Array) -> Estimate:
    columns = Columns(mediated(x, t), "")
    found = mediated_effect(columns, treatment="t", outcome="y", mediators=["m"], models=Models(repeats=1)).front_door
    return Estimate(found.effect, found.se)


def front_door_by_dowhy(x: Array, t: Array, y: Array) -> Estimate:
    """Two linear regressions, whose product it is."""
    from dowhy import CausalModel

    nodes = "".join(f'node [id "{name}" label "{name}"] ' for name in "utmy")
    edges = "".join(f'edge [source "{a}" target "{b}"] ' for a, b in ("ut", "uy", "tm", "my"))
    model = CausalModel(mediated(x, t), treatment="t", outcome="y", graph=f"graph [directed 1 {nodes}{edges}]")
    found = model.estimate_effect(model.identify_effect(), method_name="frontdoor.two_stage_regression")
    return Estimate(float(found.value), None)


def chained(x: Array, t: Array) -> pd.DataFrame:
    g = np.random.default_rng(1)
    m = t + g.normal(size=len(x))
    y = t + m + x[:, 0] + g.normal(size=len(x))
    return pd.DataFrame({"x": x[:, 0], "t": t.astype(int), "m": m, "y": y})


def model(x: Array, t: Array, y: Array) -> Estimate:
    columns = Columns(chained(x, t), "")
    found = structure(columns, CHAIN, do=[{"t": "0"}, {"t": "1"}], draws=len(x))
    low, high = (next(m.mean for m in each.means if m.name == "y") for each in found.interventions if each.do)
    return Estimate(high - low, None)


def model_by_dowhy(x: Array, t: Array, y: Array) -> Estimate:
    """Mechanisms as ours: linear, and logistic for the treatment."""
    import networkx as nx
    from dowhy import gcm

    frame = chained(x, t).assign(t=lambda f: f.t.astype(str))
    scm = gcm.InvertibleStructuralCausalModel(nx.DiGraph([tuple(e.split(" -> ")) for e in CHAIN.split("; ")]))
    scm.set_causal_mechanism("x", gcm.EmpiricalDistribution())
    scm.set_causal_mechanism("t", gcm.ClassifierFCM(gcm.ml.create_logistic_regression_classifier()))
    for name in ("m", "y"):
        scm.set_causal_mechanism(name, gcm.AdditiveNoiseModel(gcm.ml.create_linear_regressor()))
    gcm.fit(scm, frame)
    means = [
        gcm.interventional_samples(scm, {"t": lambda _, to=to: to}, num_samples_to_draw=len(x)).y.mean()
        for to in ("0", "1")
    ]
    return Estimate(float(means[1] - means[0]), None)


def lifetimes(x: Array, t: Array) -> pd.DataFrame:
    """Continuous times until an event, whose hazard the treatment and two covariates move, and whether it was seen."""
    g = np.random.default_rng(1)
    times = g.exponential(size=len(x)) / (0.1 * np.exp(0.5 * x[:, 0] + 0.3 * x[:, 1] - 0.5 * t))
    censored = np.minimum(25 * g.exponential(size=len(x)), 24)
    return pd.DataFrame({"time": np.minimum(times, censored), "died": times <= censored})


def survival(x: Array, t: Array, y: Array) -> Estimate:
    """The difference in survival by the time ``BY``, of the ATE."""
    frame = lifetimes(x, t)
    study = Study(
        **vars(units(x, t, y)) | {"frame": frame, "time": "time", "outcome": "died", "Y": frame.died.to_numpy()}, T=t
    )
    ((_, found),) = compare_survival(study, "ipw", estimand="ATE", at=[BY]).differences
    return Estimate(found.effect, found.se)


def survival_by_lifelines(x: Array, t: Array, y: Array) -> Estimate:
    """Weighted curves, without an error of their difference."""
    from lifelines import KaplanMeierFitter

    frame, w = lifetimes(x, t), InverseProbability("ATE").fit(x, t).weights_
    one, other = (
        KaplanMeierFitter().fit(frame.time[arm], frame.died[arm], weights=w[arm]).predict(BY) for arm in (t, ~t)
    )
    return Estimate(float(one - other), None)


# task -> package -> function of x, t and y that returns an estimate
DESIGNS: dict[str, dict[str, Design]] = {
    "three arms, gps": {"contrastkit": partial(arms, "gps"), "statsmodels": arms_by_statsmodels},
    "three arms, entropy": {"contrastkit": partial(arms, "entropy")},
    **{f"a dose, {by}": {"contrastkit": partial(dose, by)} for by in ("gps", "entropy", "cbgps")},
    "20 subclasses": {"contrastkit": subclasses},
    "effects by a covariate, 5 folds": {"contrastkit": effects, "econml": effects_by_econml},
    "an instrument": {"contrastkit": instrument, "linearmodels": instrument_by_linearmodels},
    "front door": {"contrastkit": front_door, "dowhy": front_door_by_dowhy},
    "survival, ipw": {"contrastkit": survival, "lifelines": survival_by_lifelines},
    "structural model, linear": {"contrastkit": model, "dowhy": model_by_dowhy},
}
