"""All estimates of the effect in a study, with the truth where it is known."""

from dataclasses import asdict, dataclass
from typing import Any

from contrastkit.causal.compare import LINEAR, Estimate, compare
from contrastkit.causal.models import Models
from contrastkit.causal.names import AnyEstimand, Error
from contrastkit.causal.propensity import Propensity
from contrastkit.causal.study import Study


@dataclass(frozen=True)
class Effects:
    """All estimates of the effect of ``treatment`` on ``outcome``.

    Attributes:
        rows: one for each estimator, in the order of :func:`contrastkit.causal.compare.estimators`.
        truth: the effect measured by an experiment; None if unknown.
    """

    treatment: str
    outcome: str
    n_treated: int
    n_untreated: int
    rows: tuple[Estimate, ...]
    truth: float | None

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """The rows of the estimators that succeeded."""
        return tuple(row for row in self.rows if not row.refused)

    @property
    def refusals(self) -> tuple[Estimate, ...]:
        """The rows of the estimators that refused the data, with the reason."""
        return tuple(row for row in self.rows if row.refused)

    def as_json(self) -> dict[str, Any]:
        return {"benchmark": self.truth, "rows": [asdict(row) for row in self.rows]}


def estimate_effects(
    study: Study,
    *,
    estimand: AnyEstimand = "ATT",
    error: Error = "balanced",
    models: Models = LINEAR,
    benchmark: float | None = None,
    seed: int = 0,
) -> Effects:
    """Apply every estimator to the same study.

    Args:
        study: with an outcome.
        estimand: the target population; some estimators have their own.
        error: the standard error of entropy balancing (:class:`contrastkit.causal.estimate.Weighted`).
        models: of outcome and treatment.
        benchmark: the true effect; None for that of a named study, if any.
        seed: seed of the folds.

    Raises:
        UserError: there is no outcome, or the covariates separate the arms.
    """
    outcomes = study.outcomes()
    if study.X.shape[1] < len(study.T):
        Propensity().fit(study.X, study.T)  # one error for the whole study instead of one for each estimator
    rows = tuple(compare(study.X, study.T, outcomes, estimand=estimand, error=error, models=models, seed=seed))
    treated = int(study.T.sum())
    return Effects(
        treatment=study.treatment,
        outcome=str(study.outcome),
        n_treated=treated,
        n_untreated=len(study.T) - treated,
        rows=rows,
        truth=study.truth if benchmark is None else benchmark,
    )
