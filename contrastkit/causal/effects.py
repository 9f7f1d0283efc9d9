"""All estimates of the effect in a study, with the truth where it is known."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from contrastkit.causal.compare import LINEAR, STRATA, Estimate, compare
from contrastkit.causal.estimate.resampling import DRAWS
from contrastkit.causal.models import Models
from contrastkit.causal.names import AnyEstimand, Error, Measure
from contrastkit.causal.remarks import on_sample
from contrastkit.causal.study import Study
from contrastkit.errors import UserError
from contrastkit.tables.checks import as_outcome


@dataclass(frozen=True)
class Effects:
    """All estimates of the effect of ``treatment`` on ``outcome``.

    Attributes:
        rows: one for each estimator, in the order of :func:`contrastkit.causal.compare.estimators`.
        truth: the effect measured by an experiment; None if unknown.
        measure: how an effect compares the mean outcomes.
        remarks: on the sample (:mod:`contrastkit.causal.remarks`).
    """

    treatment: str
    outcome: str
    n_treated: int
    n_untreated: int
    rows: tuple[Estimate, ...]
    truth: float | None
    measure: Measure = "difference"
    remarks: tuple[str, ...] = ()

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """The rows of the estimators that succeeded."""
        return tuple(row for row in self.rows if not row.refused)

    @property
    def refusals(self) -> dict[str, list[str]]:
        """For each reason, the names of the estimators that refused the data for it."""
        return _names_by_text((row.refused, row.name) for row in self.rows if row.refused)

    @property
    def remarks_on_rows(self) -> dict[str, list[str]]:
        """The remarks on estimates, each with the names of its estimators."""
        return _names_by_text((remark, row.name) for row in self.rows for remark in row.remarks)

    def as_json(self) -> dict[str, Any]:
        return {
            "measure": self.measure,
            "benchmark": self.truth,
            "remarks": self.remarks,
            "rows": [asdict(row) for row in self.rows],
        }


def _names_by_text(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for text, name in pairs:
        names.setdefault(text, []).append(name)
    return names


def estimate_effects(
    study: Study,
    *,
    estimand: AnyEstimand = "ATT",
    error: Error = "m-estimation",
    draws: int = DRAWS,
    strata: int = STRATA,
    sample_weight: str | None = None,
    cluster: str | None = None,
    models: Models = LINEAR,
    measure: Measure = "difference",
    benchmark: float | None = None,
    seed: int = 0,
) -> Effects:
    """Apply every estimator to the same study.

    Args:
        study: with an outcome.
        estimand: the target population; some estimators have their own.
        error: kind of standard error: that of weighted means (:class:`contrastkit.causal.estimate.Weighted`), or the
            bootstrap for all, with ``draws`` samples.
        strata: number of strata of the propensity score.
        sample_weight: column of the weights of units in a survey.
        cluster: column of labels of units that may depend on one another.
        models: of outcome and treatment.
        measure: how the effect compares the mean outcomes (:class:`contrastkit.causal.estimate.means.Means`).
        benchmark: the true effect, by this measure; None for that of a named study, a difference, if any.
        seed: seed of the folds and of the bootstrap.

    Raises:
        UserError: there is no outcome, it has no such measure, or every estimator refuses the study.
    """
    outcomes = study.outcomes()
    clusters = None if cluster is None else study.clusters(cluster)
    weights = None if sample_weight is None else study.sample_weights(sample_weight)
    rows = tuple(
        compare(
            study.X, study.T, outcomes, estimand=estimand, error=error, draws=draws, strata=strata, models=models,
            sample_weight=weights, clusters=clusters, measure=measure, seed=seed,
        )
    )  # fmt: skip
    if all(row.refused for row in rows):
        raise UserError(f"no estimator takes this study; {rows[0].name}: {rows[0].refused}")
    treated, known = int(study.T.sum()), study.truth if measure == "difference" else None
    return Effects(
        treatment=study.treatment_label,
        outcome=study.outcome_label,
        n_treated=treated,
        n_untreated=len(study.T) - treated,
        rows=rows,
        truth=known if benchmark is None else benchmark,
        measure=measure,
        remarks=on_sample(
            study.X, {"treated": study.T, "untreated": ~study.T}, as_outcome(outcomes, len(study.T)), clusters
        ),
    )
