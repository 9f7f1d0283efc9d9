"""Matching the units of a study in pairs or in strata, with the balance and, given an outcome, the effect."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any, get_args

from contrastkit.causal import models
from contrastkit.causal.coarsened import CoarsenedExact
from contrastkit.causal.diagnostics import Balance, balance_table
from contrastkit.causal.estimate import Estimator, Grouped, InSubclasses, Matched
from contrastkit.causal.estimate.means import weighted_means
from contrastkit.causal.matched_data import matched_data
from contrastkit.causal.matching import FullMatching, Matching
from contrastkit.causal.names import BinRule, Estimand, Kind, Metric, Order
from contrastkit.causal.remarks import on_balance
from contrastkit.causal.strata import InStrata
from contrastkit.causal.study import Study
from contrastkit.causal.subclasses import Subclasses
from contrastkit.errors import UserError, check_choice
from contrastkit.tables.checks import as_outcome

APPLY: Mapping[str, tuple[Kind, ...]] = {  # options that not every kind of matching has
    **dict.fromkeys(("ratio", "replacement", "ties", "order", "optimal"), ("pairs",)),
    **dict.fromkeys(("metric", "caliper", "calipers", "exact"), ("pairs", "full")),
    "propensity_model": ("pairs", "full", "subclass"),
    "strata": ("subclass",),
    "bins": ("coarsened",),
}


@dataclass(frozen=True)
class Matches:
    """Matched units.

    Attributes:
        matching: the fitted matching, in pairs or strata.
        balance: balance under its weights.
        difference: of the arms' mean outcomes under its weights; None without an outcome.
        outcome: its column; None without one, like ``effect``, the fitted estimator.
        study: the units.
    """

    matching: Matching | InStrata
    balance: Balance
    difference: float | None
    outcome: str | None
    effect: Estimator | None
    study: Study

    @property
    def estimand(self) -> str:
        return str(self.matching.estimand_)

    @property
    def n_dropped(self) -> int:
        """The number of units of the target population without a match."""
        return len(self.matching.dropped_)

    @property
    def remarks(self) -> list[str]:
        """What a reader should know: what balance is left, and how far to trust the effect."""
        return [*on_balance(self.balance.worst), *(() if self.effect is None else self.effect.remarks_)]

    def columns(self) -> dict[str, Any]:
        """For pairs: row numbers of unit and partner, share, distance and the ids of both, [m] each; for strata:
        the rows' identifiers, stratum (from 1; 0: none) and weight, [n] each."""
        matching, rows = self.matching, self.study.row_ids()
        if isinstance(matching, InStrata):
            return rows.columns() | {"stratum": matching.strata_ + 1, "weight": matching.weights_}
        unit, partner = matching.pairs_.T
        return {
            "unit": rows.numbers[unit], "partner": rows.numbers[partner], "share": matching.shares_,
            "distance": matching.distances_, "unit_id": rows.ids[unit], "partner_id": rows.ids[partner],
        }  # fmt: skip

    def data(self) -> dict[str, Any]:
        """The matched rows with all columns (:func:`contrastkit.causal.matched_data.matched_data`)."""
        return matched_data(self.study, self.matching)

    def as_json(self) -> dict[str, Any]:
        report = {"estimand": self.estimand, "dropped": self.n_dropped, **self.balance.as_json()}
        report |= {"remarks": self.remarks}
        if self.effect is None:
            return report
        low, high = self.effect.interval()
        effect: dict[str, Any] = {"effect": self.effect.effect_, "se": self.effect.se_, "low": low, "high": high}
        return report | {"outcome": self.outcome, **effect, "difference": self.difference}


def match(
    study: Study,
    *,
    kind: Kind = "pairs",
    estimand: Estimand = "ATT",
    metric: Metric = "logit",
    ratio: int = 1,
    replacement: bool = True,
    ties: bool = True,
    order: Order = "largest",
    caliper: float | None = None,
    calipers: Mapping[str, float] | None = None,
    exact: Sequence[str] = (),
    bins: int | BinRule = "sturges",
    strata: int = 6,
    optimal: bool = False,
    bias_correction: bool = True,
    cluster: str | None = None,
    propensity_model: str = "logistic",
    seed: int = 0,
) -> Matches:
    """Match the units of a study.

    Args:
        kind: in ``pairs`` (:class:`contrastkit.causal.matching.Matching`), in the groups of ``full`` matching
            (:class:`contrastkit.causal.matching.FullMatching`), in a ``subclass`` of the propensity score
            (:class:`contrastkit.causal.subclasses.Subclasses`) or in ``coarsened`` strata
            (:class:`contrastkit.causal.coarsened.CoarsenedExact`); :data:`APPLY` says which options have a part in it.
        propensity_model: for distances and an order by score (:func:`contrastkit.causal.learners.propensity_learner`).
        exact: covariates on which the units of a pair must agree; a factor stands for all its indicators.
        calipers: covariate -> the largest difference of it within a pair, in its units.
        bias_correction: correct the effect for the differences in covariates that the matching leaves, by linear
            regressions.
        cluster: column of labels of units that may depend on one another, for the standard error.

    Raises:
        UserError: an option does not apply to the kind, a covariate is unknown, or no unit has a match.
    """
    given = dict(locals())
    check_choice("kind", kind, get_args(Kind))
    _check_options(given)
    if study.Y is None and (cluster is not None or not bias_correction):
        option = "--no-bias-correction" if cluster is None else "--cluster"
        raise UserError(f"{option} is for an effect: name the --outcome, or leave it out")
    matching, effect = _fitted(_unfitted(study, given), study, cluster, bias_correction=bias_correction)
    if propensity_model != "logistic" and getattr(matching, "propensity_", None) is None:
        raise UserError(f"--propensity-model applies to matching by score only: leave it out for --metric {metric}")
    balance = balance_table(study.X, study.T, matching.weights_, estimand=estimand)
    if study.Y is None:
        return Matches(matching, balance, None, None, None, study)
    means = weighted_means(matching.weights_, (study.T, ~study.T), as_outcome(study.Y, len(study.T))).values
    return Matches(matching, balance, float(means[0] - means[1]), study.outcome_label, effect, study)


def _unfitted(study: Study, given: Mapping[str, Any]) -> Matching | InStrata:
    """The matching that the arguments of :func:`match` describe."""
    kind, estimand, seed = given["kind"], given["estimand"], given["seed"]
    propensity = models.propensity_model(given["propensity_model"], seed=seed)
    if kind == "subclass":
        return Subclasses(estimand, strata=given["strata"], propensity=propensity)
    if kind == "coarsened":
        return CoarsenedExact(estimand, bins=given["bins"])
    partners: dict[str, Any] = {name: given[name] for name in ("metric", "caliper")} | {"propensity": propensity}
    partners |= {"exact": _columns(study, given["exact"]), "calipers": _widths(study, given["calipers"] or {})}
    if kind == "full":
        return FullMatching(estimand, **partners)
    pairs = {name: given[name] for name in ("ratio", "replacement", "order", "ties", "optimal", "seed")}
    return Matching(estimand, **pairs, **partners)


def _fitted(
    matching: Matching | InStrata, study: Study, cluster: str | None, *, bias_correction: bool
) -> tuple[Matching | InStrata, Estimator | None]:
    """The fitted matching, and the estimator of the effect by it, which fits it; None without an outcome."""
    if study.Y is None:
        matching.fit(study.X, study.T)
        return matching, None
    clusters = None if cluster is None else study.clusters(cluster)
    effect: Matched | Grouped | InSubclasses
    if isinstance(matching, Matching):
        effect = Matched(matching, bias_correction=bias_correction)
    elif isinstance(matching, FullMatching):
        effect = Grouped(matching, bias_correction=bias_correction)
    else:
        effect = InSubclasses(matching, bias_correction=bias_correction)
    effect.fit(study.X, study.T, study.Y, clusters=clusters)
    return effect.matching_, effect


def _check_options(given: Mapping[str, Any]) -> None:
    """Refuse options that differ from their defaults and have no part in the kind of matching."""
    kind = given["kind"]
    for name, kinds in APPLY.items():
        default = signature(match).parameters[name].default
        if kind not in kinds and given[name] not in (default, (), [], {}):
            flag = f"--no-{name}" if default is True else f"--{name.replace('_', '-').replace('calipers', 'caliper')}"
            raise UserError(f"{flag} applies to --kind {', '.join(kinds)} only: leave it out for {kind}")


def _columns(study: Study, names: Sequence[str]) -> tuple[int, ...]:
    """The columns of X that these covariates became."""
    for name in names:
        study.check_covariate("--exact", name, study.X.origins)
    return tuple(j for j, name in enumerate(study.X.origins) if name in names)


def _widths(study: Study, calipers: Mapping[str, float]) -> dict[int, float]:
    """Calipers by the columns of X that are these covariates."""
    for name in calipers:
        study.check_covariate("--caliper", name, study.X.origins)
        if name not in study.X.names:
            raise UserError(f"--caliper {name}: a factor has no differences: name it in --exact")
    return {study.X.names.index(name): width for name, width in calipers.items()}
