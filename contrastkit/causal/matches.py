"""Matching the units of a study in pairs or coarsened strata, with the balance and, given an outcome, the effect."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from contrastkit.causal import models
from contrastkit.causal.coarsened import CoarsenedExact
from contrastkit.causal.diagnostics import Balance, balance_table
from contrastkit.causal.estimate import Estimator, Matched, Weighted
from contrastkit.causal.matching import Matching
from contrastkit.causal.names import BinRule, Estimand, Metric, Order
from contrastkit.causal.study import Study
from contrastkit.errors import UserError, check_choice
from contrastkit.tables.identity import RowIds


@dataclass(frozen=True)
class Matches:
    """Matched units.

    Attributes:
        matching: the fitted matching, in pairs or strata.
        balance: balance under its weights.
        outcome: its column; None without one, like ``effect``, the fitted estimator.
        row_ids: returns the identifiers of the units, for a file.
    """

    matching: Matching | CoarsenedExact
    balance: Balance
    outcome: str | None
    effect: Estimator | None
    row_ids: Callable[[], RowIds]

    @property
    def stratified(self) -> bool:
        """Whether units are matched in strata instead of pairs."""
        return isinstance(self.matching, CoarsenedExact)

    @property
    def estimand(self) -> str:
        return str(self.matching.estimand_)

    @property
    def n_dropped(self) -> int:
        """The number of units of the target population without a match."""
        return len(self.matching.dropped_)

    def columns(self) -> dict[str, Any]:
        """For pairs: row numbers of unit and partner, share, distance and the ids of both, [m] each; for strata:
        the rows' identifiers, stratum and weight, [n] each."""
        matching, rows = self.matching, self.row_ids()
        if isinstance(matching, CoarsenedExact):
            return rows.columns() | {"stratum": matching.strata_, "weight": matching.weights_}
        unit, partner = matching.pairs_.T
        return {
            "unit": rows.numbers[unit], "partner": rows.numbers[partner], "share": matching.shares_,
            "distance": matching.distances_, "unit_id": rows.ids[unit], "partner_id": rows.ids[partner],
        }  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        report = {"estimand": self.estimand, "dropped": self.n_dropped, **self.balance.as_json()}
        if self.effect is None:
            return report
        low, high = self.effect.interval()
        effect = {"effect": self.effect.effect_, "se": self.effect.se_, "low": low, "high": high}
        return report | {"outcome": self.outcome, **effect, "remarks": self.effect.remarks_}


def match(
    study: Study,
    *,
    estimand: Estimand = "ATT",
    metric: Metric = "logit",
    ratio: int = 1,
    replacement: bool = True,
    ties: bool = True,
    order: Order = "largest",
    caliper: float | None = None,
    exact: Sequence[str] = (),
    bins: int | BinRule = "sturges",
    optimal: bool = False,
    cluster: str | None = None,
    propensity_model: str = "logistic",
    seed: int = 0,
) -> Matches:
    """Match the units of a study in pairs (:class:`contrastkit.causal.matching.Matching`) or, with the metric
    ``coarsened``, in strata (:class:`contrastkit.causal.coarsened.CoarsenedExact`), to which ``bins`` applies.

    Args:
        propensity_model: for distances and an order by score (:func:`contrastkit.causal.learners.propensity_learner`).
        exact: covariates on which the units of a pair must agree; a factor stands for all its indicators.
        cluster: column of labels of units that may depend on one another, for the standard error.

    Raises:
        UserError: an option does not apply to the metric, a covariate is unknown, or no unit has a match.
    """
    check_choice("metric", metric, get_args(Metric))
    for name in exact:
        if name not in study.X.origins:
            raise UserError(f"--exact {name}: not one of the covariates")
    matching: Matching | CoarsenedExact
    if metric == "coarsened":
        if ratio > 1 or not replacement or caliper is not None or exact or optimal:
            raise UserError("--ratio, --no-replacement, --caliper, --exact, --optimal do not apply to coarsened strata")
        matching = CoarsenedExact(estimand, bins=bins)
    else:
        if bins != "sturges":
            raise UserError("--bins applies to --metric coarsened only")
        matching = Matching(
            estimand, metric=metric, ratio=ratio, replacement=replacement, order=order, ties=ties, caliper=caliper,
            exact=tuple(j for j, name in enumerate(study.X.origins) if name in exact), optimal=optimal, seed=seed,
            propensity=models.propensity_model(propensity_model, seed=seed),
        )  # fmt: skip
    if cluster is not None and study.Y is None:
        raise UserError("--cluster is for the error of an effect: name the --outcome, or leave it out")
    matching.fit(study.X, study.T)
    if propensity_model != "logistic" and getattr(matching, "propensity_", None) is None:
        raise UserError(f"--propensity-model applies to matching by score only: leave it out for --metric {metric}")
    effect: Estimator | None = None
    if study.Y is not None:
        effect = Matched(matching) if isinstance(matching, Matching) else Weighted(matching)
        effect.fit(study.X, study.T, study.Y, clusters=None if cluster is None else study.clusters(cluster))
    balance = balance_table(study.X, study.T, matching.weights_, estimand=estimand)
    return Matches(matching, balance, None if effect is None else study.outcome_label, effect, study.row_ids)
