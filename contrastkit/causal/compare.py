"""All estimators side by side."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from numpy.typing import ArrayLike

from contrastkit.causal.diagnostics import standardised_differences
from contrastkit.causal.direct_balancing import DifferentiatedConfounderBalancing, ResidualBalancing
from contrastkit.causal.estimand import without_suffix
from contrastkit.causal.estimate import (
    AIPW,
    DifferenceInMeans,
    Estimator,
    Matched,
    OaxacaBlinder,
    PartiallyLinear,
    Regression,
    Standardised,
    Stratified,
    TLearner,
    Weighted,
)
from contrastkit.causal.estimate.means import as_reported, check_outcome
from contrastkit.causal.estimate.resampling import DRAWS, fit_with_error
from contrastkit.causal.estimate.standardised import family_of
from contrastkit.causal.matching import Matching
from contrastkit.causal.models import Models
from contrastkit.causal.names import AnyEstimand, Error, Measure
from contrastkit.causal.remarks import on_balance
from contrastkit.causal.weighting import (
    CovariateBalancing,
    EntropyBalancing,
    InverseProbability,
    OverIdentifiedBalancing,
)
from contrastkit.errors import UserError, check_choice
from contrastkit.tables.checks import as_arms, as_outcome, effective_sample_size
from contrastkit.tables.covariates import Covariates

LINEAR = Models()
STRATA = 5  # of the propensity score


def estimators(
    estimand: AnyEstimand,
    *,
    error: Error = "m-estimation",
    strata: int = STRATA,
    models: Models = LINEAR,
    seed: int = 0,
) -> dict[str, Estimator]:
    """The estimators of :func:`compare` by name: those of this estimand, and the naive one, regression, overlap weights
    and double machine learning, which have their own. ``error`` is the standard error of weighted means, ``strata`` the
    number of strata; ``models`` are those of aipw, dml and tlearner, and of the scores of strata, ipw and overlap;
    ``seed`` is that of the folds.

    Raises:
        UserError: unknown estimand, standard error or model.
    """
    check_choice("estimand", estimand, get_args(AnyEstimand))
    check_choice("standard error", error, get_args(Error))
    seed %= 2**32  # scikit-learn takes no larger seeds
    models = replace(models, seed=seed)
    outcome, propensity = models.of_outcome(), models.of_propensity()
    by_name: dict[str, Estimator] = {"naive": DifferenceInMeans(), "ols": Regression()}
    fixed: Literal["m-estimation", "hc1"] = "hc1" if error == "hc1" else "m-estimation"
    if estimand in ("ATT", "ATC"):
        by_name["oaxaca"] = OaxacaBlinder(estimand)
    if estimand != "ATO":
        by_name["glm"] = Standardised(estimand)
    if estimand != "ATO":
        by_name["matching"] = Matched(Matching(estimand, metric="scaled"))
        by_name["strata"] = Stratified(estimand, strata=strata, propensity=propensity)
        by_name["ipw"] = Weighted(InverseProbability(estimand, propensity=propensity), error=fixed)
    by_name["overlap"] = Weighted(InverseProbability("ATO", propensity=propensity), error=fixed)
    if estimand != "ATO":
        by_name["entropy"] = Weighted(EntropyBalancing(estimand), error=fixed)
    if estimand == "ATE":
        by_name["cbps"] = Weighted(CovariateBalancing(estimand), error=fixed)  # otherwise identical to entropy
    if estimand != "ATO":
        by_name["cbps-over"] = Weighted(OverIdentifiedBalancing(estimand), error=fixed)
    if estimand in ("ATT", "ATC"):
        by_name["arb"] = ResidualBalancing(estimand, seed=seed)
        by_name["dcb"] = DifferentiatedConfounderBalancing(estimand)
    if estimand != "ATO":
        by_name["aipw"] = AIPW(estimand, model=outcome, propensity=propensity, clip=models.clip, **models.cross_fitting)
    by_name["dml"] = PartiallyLinear(model=outcome, propensity=propensity, **models.cross_fitting)
    if estimand != "ATO":
        by_name["tlearner"] = TLearner(estimand, model=outcome, **models.cross_fitting)
    return by_name


@dataclass(frozen=True)
class Estimate:
    """The result of one estimator; ``refused`` is the reason if there is none. ``effect``, ``low`` and ``high`` are a
    difference, a ratio or an odds ratio of mean outcomes, whose logarithm ``se`` is the error of, unless it is a
    difference; ``treated`` and ``untreated`` are these means, NaN if the estimator has none. ``ess`` is the smaller of
    the two arms' effective sample sizes under the weights, ``smd`` the largest absolute SMD that remains; NaN without
    weights. ``remarks`` are sentences on how far to trust it."""

    name: str
    estimand: str = ""
    effect: float = math.nan
    treated: float = math.nan
    untreated: float = math.nan
    se: float = math.nan
    low: float = math.nan
    high: float = math.nan
    ess: float = math.nan
    smd: float = math.nan
    refused: str = ""
    remarks: tuple[str, ...] = ()


def compare(
    X: Any,
    T: ArrayLike,
    Y: ArrayLike,
    *,
    estimand: AnyEstimand = "ATT",
    error: Error = "m-estimation",
    draws: int = DRAWS,
    strata: int = STRATA,
    sample_weight: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
    models: Models = LINEAR,
    measure: Measure = "difference",
    seed: int = 0,
) -> Iterator[Estimate]:
    """Apply every estimator to the same data; if one refuses them, the others still run. Generalised linear models are
    for outcomes of 0 and 1 and for counts, and left out for others.

    Args:
        strata: number of strata of the propensity score.
        error, draws, sample_weight, clusters, measure, seed: see
            :func:`contrastkit.causal.estimate.resampling.fit_with_error`.

    Raises:
        UserError: unknown estimand, standard error or model, or invalid data (see :mod:`contrastkit.tables`).
    """
    X = Covariates.of(X)
    y, t = as_outcome(Y, len(X)), as_arms(T, len(X))
    check_choice("measure", measure, get_args(Measure))
    check_outcome(measure, y)
    tried = estimators(estimand, error=error, strata=strata, models=models, seed=seed)
    if family_of(y) is None:
        tried.pop("glm", None)
    for name, unfitted in tried.items():
        try:
            estimator = fit_with_error(
                unfitted, X, t, y, error=error, draws=draws, sample_weight=sample_weight, clusters=clusters,
                measure=measure, seed=seed,
            )  # fmt: skip
            ess = smd = math.nan
            if (w := estimator.weights_) is not None:
                ess = min(effective_sample_size(w[arm]) for arm in (t, ~t))
                differences = standardised_differences(X, t, w, estimand=without_suffix(estimator.estimand_))
                smd = float(abs(differences[:, 1]).max())
        except UserError as refusal:
            yield Estimate(name, refused=str(refusal))
            continue
        effect, low, high = (as_reported(measure, value) for value in (estimator.effect_, *estimator.interval()))
        one, other = (math.nan, math.nan) if estimator.means_ is None else map(float, estimator.means_)
        remarks = (*on_balance(smd), *(advised(remark, estimator) for remark in estimator.remarks_))
        yield Estimate(
            name, estimator.estimand_, effect, one, other, estimator.se_, low, high, ess, smd, remarks=remarks
        )


def advised(remark: str, estimator: Estimator) -> str:
    """A remark, with what to do about it if it is on a standard error that the bootstrap would not share."""
    bootstrap = remark in estimator.error_remarks_ and estimator.resamplable
    return f"{remark}: compare with --error bootstrap" if bootstrap else remark
