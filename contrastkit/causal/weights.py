"""A study's weights by the name of their method or from a file, and the balance under them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from contrastkit.causal.coarsened import CoarsenedExact
from contrastkit.causal.diagnostics import Balance, balance_table
from contrastkit.causal.direct_balancing import DifferentiatedConfounderBalancing
from contrastkit.causal.matching import Matching
from contrastkit.causal.names import Balancing, Estimand, Scale
from contrastkit.causal.study import Study
from contrastkit.causal.weighting import (
    ApproximateBalancing,
    CovariateBalancing,
    EntropyBalancing,
    GlobalBalancing,
    InverseProbability,
)
from contrastkit.errors import UserError
from contrastkit.tables.checks import Floats
from contrastkit.tables.files import read_weights


@dataclass(frozen=True)
class StudyWeights:
    """Weights and the balance under them.

    Attributes:
        by: the method, or the name of the file.
        estimand: the effect that the weights estimate, ``ATT after trimming`` for one.
        weights: float64 [n]; None for equal ones.
        balance: of the covariates, before and after weighting.
    """

    by: str
    estimand: str
    weights: Floats | None
    balance: Balance

    @property
    def population(self) -> str:
        """The estimand without what trimming or dropping makes of it: ATT, ATC, ATE or ATO."""
        return self.estimand.split()[0]

    def as_json(self) -> dict[str, Any]:
        balance = {name: value.tolist() for name, value in vars(self.balance).items() if name != "names"}
        return {"by": self.by, "estimand": self.estimand, "names": self.balance.names, **balance}


def weigh(
    study: Study,
    by: Balancing = "entropy",
    *,
    estimand: Estimand = "ATT",
    trim: float | Literal["crump"] = 0.0,
    scale: Scale = "hajek",
) -> StudyWeights:
    """Weight a study by the named method.

    Args:
        study: with an outcome for ``dcb``.
        by: the method; ``none`` leaves the weights equal, ``matching`` is by Mahalanobis distance.
        estimand: the population that the weights stand for; overlap and global have one of their own.
        trim, scale: of ``ipw`` (:class:`contrastkit.causal.weighting.InverseProbability`).

    Raises:
        UserError: the method does not have these options or this estimand, or finds no weights.
    """
    if by == "none":
        return _with_balance(study, by, estimand, None)
    if by != "ipw" and (trim != 0 or scale != "hajek"):
        raise UserError(f"trimming and scaling are for --by ipw: leave --trim and --scale out for {by}")
    if by == "overlap" and estimand != "ATT":
        raise UserError(f"overlap weights define their own population, not the {estimand}: leave --estimand out")
    if by == "arb" or by == "dcb":
        if estimand == "ATE":
            raise UserError(f"{by} weights one arm towards the other: ask for the ATT or the ATC")
        if by == "dcb":
            dcb = DifferentiatedConfounderBalancing(estimand).fit(study.X, study.T, study.outcomes())
            return _with_balance(study, by, dcb.estimand_, dcb.weights_)
        arb = ApproximateBalancing(estimand).fit(study.X, study.T)
        return _with_balance(study, by, arb.estimand_, arb.weights_)
    methods: dict[str, Callable[[], Any]] = {
        "ipw": lambda: InverseProbability(estimand, trim=trim, scale=scale),
        "overlap": lambda: InverseProbability("ATO"),
        "entropy": lambda: EntropyBalancing(estimand),
        "cbps": lambda: CovariateBalancing(estimand),
        "global": GlobalBalancing,
        "matching": lambda: Matching(estimand, metric="mahalanobis"),
        "coarsened": lambda: CoarsenedExact(estimand),
    }
    fitted = methods[by]().fit(study.X, study.T)
    return _with_balance(study, by, fitted.estimand_, fitted.weights_)


def weigh_from_file(study: Study, path: Path, *, estimand: Estimand = "ATT") -> StudyWeights:
    """Weight a study by the column ``weight`` of a .csv or .parquet file with a row for each of the study's.

    Raises:
        UserError: no such file or column, or weights that are not finite, negative, too few or too many.
    """
    return _with_balance(study, path.name, estimand, read_weights(path.expanduser(), len(study.T)))


def _with_balance(study: Study, by: str, estimand: str, weights: Floats | None) -> StudyWeights:
    population = estimand.split()[0]  # without "after trimming" and the like
    return StudyWeights(by, estimand, weights, balance_table(study.X, study.T, weights, estimand=population))
