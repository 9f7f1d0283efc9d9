"""``contrastkit causal balance``: covariate balance before and after weighting."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contrastkit.causal.names import Balancing
from contrastkit.cli import screen
from contrastkit.cli.causal.options import StudyOptions, WeightingOptions
from contrastkit.cli.options import Debug, Json, takes_options, writable
from contrastkit.cli.report import write_json
from contrastkit.cli.tables import number

if TYPE_CHECKING:
    from contrastkit.causal.weights import StudyWeights


@takes_options
def balance(
    *,
    which: StudyOptions,
    by: Annotated[
        Balancing, typer.Option(help="Method that balances the arms; dcb also uses the outcome.")
    ] = "entropy",
    weights: Annotated[
        Path | None,
        typer.Option(help="Use the column weight of this table instead, with a row for each unit.", metavar="FILE"),
    ] = None,
    weighting: WeightingOptions,
    plot: Annotated[
        Path | None, typer.Option(help="Write a love plot to this .png file.", metavar="FILE", callback=writable)
    ] = None,
    json: Json = None,
    debug: Debug = False,
) -> None:
    """Compare the covariates of both arms; exit code 1 if a standardised mean difference above 0.1 remains."""
    from contrastkit.causal.diagnostics import THRESHOLD, love_plot
    from contrastkit.causal.weights import weigh, weigh_from_file

    study = which.read_with_outcome() if by == "dcb" else which.read(which.outcome)
    if weights is not None:
        weighted = weigh_from_file(study, weights, estimand=weighting.estimand)
    else:
        weighted = weigh(study, by, estimand=weighting.estimand, trim=weighting.alpha())
    _print(weighted)
    if plot is not None:
        love_plot(weighted.balance, plot, after=weighted.by)
        screen.say(f"love plot in {plot}")
    if json is not None:
        write_json(json, weighted.as_json())
    if weighted.balance.worst > THRESHOLD:
        raise typer.Exit(1)


def _print(weighted: "StudyWeights") -> None:
    from contrastkit.causal.diagnostics import THRESHOLD

    balance = weighted.balance
    rows = [
        (name, *(number(v, 4) for v in (*smd, *ratio, *ks)))
        for name, smd, ratio, ks in zip(balance.names, balance.smd, balance.variance_ratio, balance.ks, strict=True)
    ]
    columns = ("", "SMD", "after", "variance ratio", "after", "KS", "after")
    screen.table(f"balance by {weighted.by}, {weighted.estimand}", columns, rows)
    (treated, treated_after), (untreated, untreated_after) = balance.n
    screen.say(
        f"effective sample size: treated {treated:,.1f} -> {treated_after:,.1f}, "
        f"untreated {untreated:,.1f} -> {untreated_after:,.1f}"
    )
    side = "above" if balance.worst > THRESHOLD else "within"
    screen.say(f"largest |SMD| {balance.worst:.4f}: {side} {THRESHOLD}")
    variance = {"ATT": "the treated", "ATC": "the untreated"}.get(weighted.population, "both arms, averaged")
    screen.say(f"SMD: divided by the standard deviation of {variance}, before weighting (cobalt's conventions)")
