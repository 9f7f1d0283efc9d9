"""Every way to the same question side by side."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import ArrayLike

from contrastkit.causal.balance import balance_table
from contrastkit.causal.balancing import DifferentiatedConfounderBalancing, ResidualBalancing
from contrastkit.causal.estimate import (
    AIPW,
    DifferenceInMeans,
    Estimator,
    Matched,
    OaxacaBlinder,
    Regression,
    Stratified,
    Weighted,
)
from contrastkit.causal.matching import Matching
from contrastkit.causal.study import arms, covariates, named, outcome
from contrastkit.causal.weighting import CovariateBalancing, EntropyBalancing, InverseProbability
from contrastkit.errors import UserError

Estimand = Literal["ATT", "ATC", "ATE", "ATO"]


def estimators(
    estimand: Estimand, *, error: Literal["balanced", "hc1"] = "balanced", seed: int = 0
) -> dict[str, Estimator]:
    """What :func:`compare` puts side by side, by name: those that have the estimand, and the naive one, regression and
    overlap weights, which have their own. ``error`` is that of entropy balancing, ``seed`` of the folds."""
    seed %= 2**32  # scikit-learn takes no larger one
    found: dict[str, Estimator] = {"naive": DifferenceInMeans(), "ols": Regression()}
    if estimand in ("ATT", "ATC"):
        found["oaxaca"] = OaxacaBlinder(estimand)
    if estimand != "ATO":
        found["matching"] = Matched(Matching(estimand, metric="scaled"))
        found["strata"] = Stratified(estimand)
        found["ipw"] = Weighted(InverseProbability(estimand))
    found["overlap"] = Weighted(InverseProbability("ATO"))
    if estimand != "ATO":
        found["entropy"] = Weighted(EntropyBalancing(estimand), error=error)
    if estimand == "ATE":
        found["cbps"] = Weighted(CovariateBalancing(estimand))  # else the same as entropy
    if estimand in ("ATT", "ATC"):
        found["arb"] = ResidualBalancing(estimand, seed=seed)
        found["dcb"] = DifferentiatedConfounderBalancing(estimand)
    if estimand != "ATO":
        found["aipw"] = AIPW(estimand, seed=seed)
    return found


@dataclass(frozen=True)
class Row:
    """One estimator's line: ``refused`` says why there is no effect. ``ess`` is the effective sample of the smaller arm
    under the weights, ``smd`` the largest absolute SMD that they leave; NaN where there are no weights."""

    name: str
    estimand: str = ""
    effect: float = math.nan
    se: float = math.nan
    low: float = math.nan
    high: float = math.nan
    ess: float = math.nan
    smd: float = math.nan
    refused: str = ""


def compare(
    X: Any,
    T: ArrayLike,
    Y: ArrayLike,
    *,
    estimand: Estimand = "ATT",
    error: Literal["balanced", "hc1"] = "balanced",
    seed: int = 0,
) -> Iterator[Row]:
    """Every estimator on the same data; what one refuses leaves the others alone.

    Raises:
        UserError: the data themselves are refused (see :mod:`contrastkit.causal.study`).
    """
    x, names = covariates(X)
    y, t = outcome(Y, len(x)), arms(T, len(x))
    for name, estimator in estimators(estimand, error=error, seed=seed).items():
        try:
            done = estimator.fit(named(x, names), t, y)
        except UserError as refusal:
            yield Row(name, refused=str(refusal))
            continue
        ess = smd = math.nan
        if done.weights_ is not None:
            of = done.estimand_.split()[0]
            balance = balance_table(x, t, done.weights_, estimand=of)
            ess, smd = float(balance.n[:, 1].min()), balance.worst
        yield Row(name, done.estimand_, done.effect_, done.se_, *done.interval(), ess, smd)
