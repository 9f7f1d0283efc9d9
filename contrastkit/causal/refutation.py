"""Refuting an estimate of a study, by a named estimator."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, get_args

import numpy as np

from contrastkit.causal.compare import LINEAR, estimators
from contrastkit.causal.estimate import Estimator
from contrastkit.causal.models import Models
from contrastkit.causal.names import Estimand, EstimatorName
from contrastkit.causal.refute import DRAWS, GAMMA, Verdict, fitted, refute
from contrastkit.causal.study import ROLES, Study
from contrastkit.errors import UserError, check_choice
from contrastkit.tables.covariates import check_independent
from contrastkit.tables.files import check_columns


@dataclass(frozen=True)
class Refutation:
    """An estimate and the verdicts on it.

    Attributes:
        estimate: the fitted estimator, with a standard error.
    """

    estimator: EstimatorName
    estimate: Estimator
    verdicts: tuple[Verdict, ...]

    @property
    def passed(self) -> bool:
        """Whether every check that was run passed."""
        return all(verdict.passed is not False for verdict in self.verdicts)

    def as_json(self) -> dict[str, Any]:
        fitted = self.estimate
        estimate = {"estimator": self.estimator, "estimand": fitted.estimand_, "effect": fitted.effect_}
        estimate |= {"se": fitted.se_, "remarks": fitted.remarks_}
        return {"estimate": estimate, "verdicts": [asdict(verdict) for verdict in self.verdicts]}


def refute_study(
    study: Study,
    estimator: EstimatorName = "entropy",
    *,
    estimand: Estimand = "ATT",
    models: Models = LINEAR,
    placebo: Study | None = None,
    sample_weight: str | None = None,
    cluster: str | None = None,
    draws: int = DRAWS,
    gamma: float = GAMMA,
    seed: int = 0,
    on_estimate: Callable[[Estimator], None] = lambda estimate: None,
    on_verdict: Callable[[Verdict], None] = lambda verdict: None,
) -> Refutation:
    """Estimate the effect and run every check of :func:`contrastkit.causal.refute.refute` on it.

    Args:
        models: of outcome and treatment.
        placebo: study of an outcome that the treatment cannot have affected (:func:`placebo_study`).
        sample_weight: column of the weights of units in a survey, whose population the effect is on.
        cluster: column of labels of units that may depend on one another, for standard errors.
        draws, gamma, seed: see there.
        on_estimate, on_verdict: called with each result at once, since checks take minutes.

    Raises:
        UserError: unknown estimator or estimand, the study has no outcome, or the estimator refuses it or has another
            estimand.
    """
    check_choice("estimator", estimator, get_args(EstimatorName))
    known = estimators(estimand, models=models, seed=seed)
    models.require_used(estimator)
    if estimator not in known:
        raise UserError(f"{estimator} does not estimate the {estimand}: choose another, or one of {', '.join(known)}")
    outcomes = study.outcomes()
    clusters = None if cluster is None else study.clusters(cluster)
    weights = None if sample_weight is None else study.sample_weights(sample_weight)
    estimate = fitted(known[estimator], study.X, study.T, outcomes, sample_weight=weights, clusters=clusters, seed=seed)
    on_estimate(estimate)
    other = None if placebo is None else (str(placebo.outcome), placebo.X, placebo.outcomes())
    verdicts = []
    for verdict in refute(
        study.X, study.T, outcomes, estimate, placebo=other, sample_weight=weights, clusters=clusters, draws=draws,
        gamma=gamma, seed=seed,
    ):  # fmt: skip
        on_verdict(verdict)
        verdicts.append(verdict)
    return Refutation(estimator, estimate, tuple(verdicts))


def placebo_study(study: Study, outcome: str, *, without: Sequence[str] = ()) -> Study:
    """The same units with an outcome that the treatment cannot have affected.

    Args:
        outcome: column of the placebo outcome in the table of the study; it is not a covariate then.
        without: covariates that determine the placebo outcome, and are not adjusted for.

    Raises:
        UserError: no such column, or it is the outcome or the treatment of the study; ``without`` names unknown
            covariates; or no covariates are left.
    """
    if outcome == study.outcome:
        raise UserError("the placebo outcome must differ from the outcome: name another column")
    for name in without:
        study.check_covariate("--without", name, study.covariates)
    covariates = {name: origins for name, origins in study.covariates.items() if name not in (outcome, *without)}
    if not covariates:
        raise UserError("no covariates are left to adjust the placebo outcome for: name fewer with --without")
    check_columns(study.frame, study.source, [study.treatment, outcome], ROLES)
    adjusted = {origin for origins in covariates.values() for origin in origins}
    X = study.X.select([j for j, origin in enumerate(study.X.origins) if origin in adjusted])
    X = replace(X, x=np.ascontiguousarray(X.x))  # by rows, like those of a table: sums are rounded alike
    check_independent(X)
    Y = study.frame[outcome].to_numpy()
    return replace(study, X=X, Y=Y, outcome=outcome, outcome_value=None, covariates=covariates, truth=None)
