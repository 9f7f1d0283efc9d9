"""``contrastkit causal weight``: weights that balance the arms of a study, to a file."""

from pathlib import Path
from typing import Annotated

import typer

from contrastkit.causal.names import Scale, Weighting
from contrastkit.cli import screen
from contrastkit.cli.causal.options import StudyOptions, WeightingOptions
from contrastkit.cli.options import Debug, takes_options, writable
from contrastkit.cli.tables import write_csv


@takes_options
def weight(
    *,
    which: StudyOptions,
    out: Annotated[
        Path, typer.Option(help="Output .csv file, one weight for each row.", metavar="FILE", callback=writable)
    ],
    by: Annotated[
        Weighting,
        typer.Option(
            help="Weighting method: inverse propensity, overlap, entropy balancing, covariate balancing propensity "
            "score, approximate (arb) or differentiated (dcb, uses the outcome) confounder balancing, or global "
            "balancing."
        ),
    ] = "entropy",
    weighting: WeightingOptions,
    scale: Annotated[
        Scale, typer.Option(help="With ipw: mean 1 in each arm, stabilised by P(T), or raw inverse probabilities.")
    ] = "hajek",
    debug: Debug = False,
) -> None:
    """Compute weights that balance the arms; nothing is written if no weights do."""
    from contrastkit.causal.weights import weigh

    study = which.read_with_outcome() if by == "dcb" else which.read(which.outcome)
    weighted = weigh(study, by, estimand=weighting.estimand, trim=weighting.alpha(), scale=scale)
    write_csv(out, {"weight": weighted.weights})
    balance = weighted.balance
    (treated, treated_after), (untreated, untreated_after) = balance.n
    screen.say(
        f"{out}: {weighted.estimand}, effective sample size treated {treated:,.0f} -> {treated_after:,.1f}, "
        f"untreated {untreated:,.0f} -> {untreated_after:,.1f}"
    )
    screen.say(f"largest |SMD| {abs(balance.smd[:, 0]).max():.4f} -> {balance.worst:.4f}")
