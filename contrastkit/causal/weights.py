"""Weights for a study, by a named method or from a file, and the balance under them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

from contrastkit.causal import models
from contrastkit.causal.coarsened import CoarsenedExact
from contrastkit.causal.diagnostics import Balance, balance_table
from contrastkit.causal.direct_balancing import DifferentiatedConfounderBalancing
from contrastkit.causal.estimand import without_suffix
from contrastkit.causal.matching import Matching
from contrastkit.causal.names import Balancing, Estimand, Scale
from contrastkit.causal.study import Study
from contrastkit.causal.weighting import (
    ApproximateBalancing,
    CovariateBalancing,
    EntropyBalancing,
    GlobalBalancing,
    InverseProbability,
    OverIdentifiedBalancing,
    trimming,
)
from contrastkit.causal.weighting.equations import Equations
from contrastkit.directories import given_path
from contrastkit.errors import UserError, check_choice
from contrastkit.tables.checks import Floats
from contrastkit.tables.identity import read_weights

SURVEY = ("ipw", "overlap", "entropy", "cbps", "cbps-over")  # the methods that take sample weights


@dataclass(frozen=True)
class StudyWeights:
    """Weights and the balance under them.

    Attributes:
        by: the method, or the name of the file.
        estimand: the effect that the weights estimate, such as ``ATT after trimming``; of equal weights, the population
            by whose standard deviations the arms are compared.
        weights: float64 [n]; None for equal weights.
        balance: of the covariates, before and after weighting.
        remark: on the weights, if any.
        checks: the same of what need not be adjusted for (:func:`contrastkit.causal.balance_checks.with_checks`); None
            if nothing is checked.
        notices: what the checks leave out.
        solves: gives the equations that the weights solve, by which standard errors know that they were estimated; None
            where weights solve none.
    """

    by: str
    estimand: str
    weights: Floats | None
    balance: Balance
    remark: str = ""
    checks: Balance | None = None
    notices: tuple[str, ...] = ()
    solves: Callable[[], Sequence[Equations] | None] | None = None

    @property
    def population(self) -> str:
        """The estimand without the suffix for trimming or dropping: ATT, ATC, ATE or ATO."""
        return without_suffix(self.estimand)

    @property
    def target(self) -> str | None:
        """The estimand; None for equal weights, under which each arm represents itself alone."""
        return None if self.weights is None else self.estimand

    @property
    def heading(self) -> str:
        """The method and its target, for titles."""
        return f"{self.by}, {self.target or 'the arms as they are'}"

    @property
    def balanced(self) -> bool:
        """Whether covariates and checks are balanced."""
        return self.balance.balanced and (self.checks is None or self.checks.balanced)

    def as_json(self) -> dict[str, Any]:
        report = {"by": self.by, "estimand": self.target, **self.balance.as_json()}
        if self.checks is not None:
            report["checks"] = {name: value for name, value in self.checks.as_json().items() if name != "n"}
        return report | ({"remark": self.remark} if self.remark else {})


def weigh(
    study: Study,
    by: Balancing | None = None,
    *,
    weights: Path | None = None,
    estimand: Estimand = "ATT",
    trim: float | str = 0.0,
    scale: Scale = "hajek",
    sample_weight: str | None = None,
    propensity_model: str = "logistic",
) -> StudyWeights:
    """Weight a study by a named method, or by the weights in a file.

    Args:
        study: needs an outcome for ``dcb``.
        by: the method; None for entropy balancing; ``none`` for equal weights; ``matching`` uses the Mahalanobis
            distance.
        weights: use the column ``weight`` of this .csv or .parquet file, with a row for each unit, instead
            (:func:`contrastkit.tables.identity.read_weights`).
        estimand: the target population; overlap and global have their own.
        trim, scale: for ``ipw`` (:class:`contrastkit.causal.weighting.InverseProbability`).
        sample_weight: column of the weights of units in a survey, for the methods in ``SURVEY``.
        propensity_model: for ``ipw`` and ``overlap`` (:func:`contrastkit.causal.learners.propensity_learner`).

    Raises:
        UserError: unknown method or estimand, an option or the estimand does not apply to the method, it finds no
            weights, or those of the file are not finite, negative, too few or too many.
    """
    check_choice("estimand", estimand, get_args(Estimand))
    trim = trimming(trim)
    if weights is not None:
        if by is not None or trim != 0 or scale != "hajek" or propensity_model != "logistic":
            raise UserError("give --weights, or --by with its --trim and --propensity-model, not both")
        given, remark = read_weights(given_path(weights), len(study.T), study.row_ids())
        return replace(_with_balance(study, weights.name, estimand, given), remark=remark)
    by = by or "entropy"
    check_choice("method", by, get_args(Balancing))
    _check_options(by, estimand, trim, scale, propensity_model)
    survey = _survey(study, by, sample_weight)
    if by == "none":
        return _with_balance(study, by, estimand, None)
    if by == "dcb":
        arm: Any = estimand  # not the ATE
        fitted: Any = DifferentiatedConfounderBalancing(arm).fit(study.X, study.T, study.outcomes())
    else:
        fitted = _unfitted(by, estimand, trim, scale, propensity_model).fit(study.X, study.T, **survey)
    solves = getattr(fitted, "equations", None)
    weighted = _with_balance(study, by, fitted.estimand_, fitted.weights_)
    return replace(
        weighted, solves=partial(solves, study.X, study.T) if solves else None, remark=getattr(fitted, "agreement_", "")
    )


def _unfitted(by: Balancing, estimand: Any, trim: float | str, scale: Scale, propensity_model: str) -> Any:
    """The class of a method; not of ``dcb``, which needs the outcome."""
    propensity = models.propensity_model(propensity_model)
    methods: dict[str, Callable[[], Any]] = {
        "ipw": lambda: InverseProbability(estimand, trim=trim, scale=scale, propensity=propensity),
        "overlap": lambda: InverseProbability("ATO", propensity=propensity),
        "entropy": lambda: EntropyBalancing(estimand),
        "cbps": lambda: CovariateBalancing(estimand),
        "cbps-over": lambda: OverIdentifiedBalancing(estimand),
        "arb": lambda: ApproximateBalancing(estimand),
        "global": GlobalBalancing,
        "matching": lambda: Matching(estimand, metric="mahalanobis"),
        "coarsened": lambda: CoarsenedExact(estimand),
    }
    return methods[by]()


def _check_options(by: Balancing, estimand: Estimand, trim: float | str, scale: Scale, propensity_model: str) -> None:
    """Refuse what does not apply to a method."""
    if by != "ipw" and (trim != 0 or scale != "hajek"):
        raise UserError(f"--trim and --scale apply to --by ipw only: leave them out for {by}")
    if by not in ("ipw", "overlap") and propensity_model != "logistic":
        raise UserError(f"--propensity-model applies to --by ipw and overlap only: leave it out for {by}")
    if by in ("overlap", "global") and estimand != "ATT":
        raise UserError(f"{by} weights have their own target population: leave --estimand out")
    if by in ("arb", "dcb") and estimand == "ATE":
        raise UserError(f"{by} does not estimate the ATE: choose ATT or ATC")


def _survey(study: Study, by: Balancing, column: str | None) -> dict[str, Floats]:
    """The sample weights in this column as an argument of ``fit``; none without a column."""
    if column is None:
        return {}
    if by not in SURVEY:
        raise UserError(f"{by} takes no --sample-weight: choose one of {', '.join(SURVEY)}")
    return {"sample_weight": study.sample_weights(column)}


def _with_balance(study: Study, by: str, estimand: str, weights: Floats | None) -> StudyWeights:
    balance = balance_table(study.X, study.T, weights, estimand=without_suffix(estimand))
    return StudyWeights(by, estimand, weights, balance)
