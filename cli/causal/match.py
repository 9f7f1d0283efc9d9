"""``contrastkit causal match``: matched pairs or strata to a file, and the effect."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from contrastkit.bounds import COUNT, PENALTY
from contrastkit.causal.names import BinRule, Estimand, Metric, Order
from contrastkit.cli import screen
from contrastkit.cli.causal.lines import difference_line, estimate_line
from contrastkit.cli.causal.options import Cluster, PropensityModelName, StudyOptions
from contrastkit.cli.options import OutputOptions, Seed, out_file, takes_options
from contrastkit.cli.results import write_reports
from contrastkit.cli.tables import column_names, write_csv
from contrastkit.errors import UserError

if TYPE_CHECKING:
    from contrastkit.causal.matches import Matches


@dataclass(frozen=True, kw_only=True)
class MatchingOptions:
    """How units are matched."""

    estimand: Annotated[Estimand, typer.Option(help="Units to find matches for: treated, untreated, or all.")] = "ATT"
    metric: Annotated[
        Metric,
        typer.Option(help="Distance between units, on the score or the covariates; coarsened matches within bins."),
    ] = "logit"
    ratio: Annotated[int, typer.Option(help="Matches for each unit."), COUNT] = 1
    replacement: Annotated[bool, typer.Option(help="Allow a unit to be matched more than once.")] = True
    ties: Annotated[
        bool, typer.Option(help="With replacement: keep all matches at the same distance, with equal shares.")
    ] = True
    order: Annotated[
        Order,
        typer.Option(
            help="Without replacement: unit that chooses first, by propensity score, at random or in data order."
        ),
    ] = "largest"
    caliper: Annotated[
        float | None,
        typer.Option(
            help="Maximum distance between matched units; in standard deviations for logit and propensity \\[none]."
        ),
        PENALTY,
    ] = None
    exact: Annotated[str, typer.Option(help="Columns on which matched units must agree.", metavar="COLUMN,...")] = ""
    bins: Annotated[
        str,
        typer.Option(help="With coarsened: bins of each column, a number or sturges, scott, fd.", metavar="N|RULE"),
    ] = "sturges"
    optimal: Annotated[
        bool, typer.Option("--optimal", help="Minimise the total distance instead of matching greedily.")
    ] = False

    propensity_model: PropensityModelName = "logistic"

    def as_arguments(self) -> dict[str, Any]:
        """The arguments of :func:`contrastkit.causal.matches.match`."""
        return vars(self) | {"exact": column_names(self.exact), "bins": self._bins()}

    def _bins(self) -> int | BinRule:
        if self.bins.isdecimal() and int(self.bins) > 0:
            return int(self.bins)
        if self.bins.lower() not in ("sturges", "scott", "fd"):
            raise UserError(f"--bins {self.bins}: give a number of bins from 1, or sturges, scott or fd")
        return cast(BinRule, self.bins.lower())


@takes_options
def match(
    *,
    study: StudyOptions,
    matching: MatchingOptions,
    cluster: Cluster = None,
    out: Annotated[Path, out_file("the pairs, by row (from 0) and id (coarsened: the stratum of each unit),", ".csv")],
    seed: Seed = 0,
    output: OutputOptions,
) -> None:
    """Match the units of one arm to those of the other; estimate the effect if there is an outcome."""
    from contrastkit.causal import matches

    matched = matches.match(study.read(), **matching.as_arguments(), cluster=cluster, seed=seed)
    write_csv(out, matched.columns())
    screen.say(_description(matched))
    if matched.n_dropped:
        screen.say(f"{matched.n_dropped:,} units have no match and are dropped: the effect is the {matched.estimand}")
    screen.say(f"{difference_line(matched.balance)}; written to {out}")
    if matched.effect is not None:
        method = "within strata" if matched.stratified else "with bias correction"
        screen.say(f"effect on {matched.outcome} ({matched.estimand}), {method}: {estimate_line(matched.effect)}")
        screen.lines(matched.effect.remarks_)
    write_reports(matched.as_json(), output.json)


def _description(matched: "Matches") -> str:
    """How units were matched, and how many."""
    from contrastkit.causal.coarsened import CoarsenedExact

    matching = matched.matching
    if isinstance(matching, CoarsenedExact):
        strata = matching.strata_
        n_matched = int((strata >= 0).sum())
        return (
            f"{strata.max() + 1:,} strata by {matching.bins} bins with both arms: "
            f"{n_matched:,} of {len(strata):,} units"
        )
    kind = "optimal" if matching.optimal else "nearest"
    if not (matching.optimal or matching.replacement):
        kind = f"nearest, {matching.order} first"
    preposition = "with" if matching.replacement else "without"
    units, partners = (len(set(rows)) for rows in matching.pairs_.T)
    return (
        f"{matching.ratio} to 1 by {matching.metric}, {kind}, {preposition} replacement: {units:,} units, "
        f"{partners:,} matches"
    )
