"""``contrastkit causal match``: matched pairs or strata to a file, and the effect."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from contrastkit.bounds import COUNT, PENALTY
from contrastkit.causal.names import BinRule, Estimand, Kind, Metric, Order
from contrastkit.cli import screen
from contrastkit.cli.causal.lines import difference_line, estimate_line
from contrastkit.cli.causal.options import Cluster, PropensityModelName, StudyOptions
from contrastkit.cli.files import out_file
from contrastkit.cli.options import OutputOptions, Seed, takes_options
from contrastkit.cli.results import write_reports
from contrastkit.cli.tables import column_names, precise, write_csv
from contrastkit.errors import UserError

if TYPE_CHECKING:
    from contrastkit.causal.matches import Matches
    from contrastkit.causal.matching import Matching


@dataclass(frozen=True, kw_only=True)
class MatchingOptions:
    """How units are matched."""

    estimand: Annotated[Estimand, typer.Option(help="Units to find matches for: treated, untreated, or all.")] = "ATT"
    kind: Annotated[
        Kind,
        typer.Option(
            help="Match in pairs, all units in groups of least total distance (full), in subclasses of the propensity "
            "score, or in coarsened bins of the covariates."
        ),
    ] = "pairs"
    metric: Annotated[Metric, typer.Option(help="Distance between units, on the score or the covariates.")] = "logit"
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
        list[str] | None,
        typer.Option(
            help="Maximum distance between matched units, in standard deviations for logit and propensity; or maximum "
            "difference of a column, in its units, as in age=5; can be repeated.",
            metavar="DISTANCE|COLUMN=WIDTH",
        ),
    ] = None
    exact: Annotated[str, typer.Option(help="Columns on which matched units must agree.", metavar="COLUMN,...")] = ""
    bins: Annotated[
        str,
        typer.Option(
            help="With --kind coarsened: bins of each column, a number or sturges, scott, fd.", metavar="N|RULE"
        ),
    ] = "sturges"
    strata: Annotated[
        int, typer.Option(help="With --kind subclass: number of strata between quantiles of the score."), COUNT
    ] = 6
    optimal: Annotated[
        bool, typer.Option("--optimal", help="Minimise the total distance instead of matching greedily.")
    ] = False
    bias_correction: Annotated[
        bool,
        typer.Option(
            help="Correct the effect for the differences in covariates that matching leaves, by linear regressions in "
            "each arm."
        ),
    ] = True

    propensity_model: PropensityModelName = "logistic"

    def as_arguments(self) -> dict[str, Any]:
        """The arguments of :func:`contrastkit.causal.matches.match`."""
        return vars(self) | {"exact": column_names(self.exact), "bins": self._bins()} | self._calipers()

    def _calipers(self) -> dict[str, Any]:
        """The caliper on the distance, and those on columns."""
        distance: float | None = None
        columns = dict[str, float]()
        for text in self.caliper or ():
            column, named, width = text.rpartition("=")
            try:
                value = float(width)
            except ValueError as error:
                raise UserError(f"--caliper {text}: give a distance, or a column and its width, as in age=5") from error
            PENALTY.check("--caliper", value)
            if column in columns or (not named and distance is not None):
                raise UserError(f"--caliper {text}: give one caliper for {column if named else 'the distance'}")
            if named:
                columns[column] = value
            else:
                distance = value
        return {"caliper": distance, "calipers": columns}

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
    out: Annotated[Path, out_file("the pairs, by row (from 0) and id, or the stratum of each unit,", ".csv")],
    matched: Annotated[
        Path | None,
        out_file("the matched rows, with distance, weights and subclass as MatchIt's match.data() adds them,", ".csv"),
    ] = None,
    seed: Seed = 0,
    output: OutputOptions,
) -> None:
    """Match the units of one arm to those of the other; estimate the effect if there is an outcome."""
    from contrastkit.causal import matches

    found = matches.match(study.read(), **matching.as_arguments(), cluster=cluster, seed=seed)
    data = None if matched is None else found.data()
    write_csv(out, found.columns())
    if matched is not None and data is not None:
        write_csv(matched, data)
    screen.say(_description(found))
    if found.n_dropped:
        screen.say(f"{found.n_dropped:,} units have no match and are dropped: the effect is the {found.estimand}")
    files = f"{out}" if matched is None else f"{out}, the matched rows to {matched}"
    screen.say(f"{difference_line(found.balance)}; written to {files}")
    if found.effect is not None and found.difference is not None:
        method = "without bias correction"
        if matching.bias_correction:
            method = "with bias correction"
            screen.say(f"difference of the weighted means of {found.outcome}: {precise(found.difference)}")
        screen.say(f"effect on {found.outcome} ({found.estimand}), {method}: {estimate_line(found.effect)}")
    screen.lines(found.remarks)
    write_reports(found.as_json(), output.json)


def _description(matched: "Matches") -> str:
    """How units were matched, and how many."""
    from contrastkit.causal.coarsened import CoarsenedExact
    from contrastkit.causal.matching import FullMatching, Matching
    from contrastkit.causal.subclasses import Subclasses

    matching = matched.matching
    if isinstance(matching, Matching):
        return _pairs(matching)
    strata = matching.strata_
    how, moved = f"{strata.max() + 1:,} strata", ""
    if isinstance(matching, CoarsenedExact):
        how += f" by {matching.bins} bins with both arms"
    elif isinstance(matching, FullMatching):
        how = f"{strata.max() + 1:,} groups by {matching.metric} of least total distance, {matching.total_:,.4g}"
    elif isinstance(matching, Subclasses):
        how += " between quantiles of the propensity score, which leave some bias"
        if matching.moved_:
            moved = f"; moved to a neighbour that lacked an arm: {matching.moved_:,}"
    return f"{how}: {(strata >= 0).sum():,} of {len(strata):,} units{moved}"


def _pairs(matching: "Matching") -> str:
    """How units were matched in pairs, and how many."""
    kind = "optimal" if matching.optimal else "nearest"
    if not (matching.optimal or matching.replacement):
        kind = f"nearest, {matching.order} first"
    preposition = "with" if matching.replacement else "without"
    units, partners = (len(set(rows)) for rows in matching.pairs_.T)
    return (
        f"{matching.ratio} to 1 by {matching.metric}, {kind}, {preposition} replacement: {units:,} units, "
        f"{partners:,} matches"
    )
