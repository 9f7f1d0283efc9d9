"""``contrastkit causal balance``: covariate balance before and after weighting."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contrastkit.bounds import Interval
from contrastkit.causal.names import Balancing
from contrastkit.cli import screen
from contrastkit.cli.causal.lines import sample_size_line
from contrastkit.cli.causal.options import StudyOptions, WeightingOptions, WeightsFile
from contrastkit.cli.files import out_file
from contrastkit.cli.options import OutputOptions, takes_options
from contrastkit.cli.results import write_reports
from contrastkit.cli.tables import number

if TYPE_CHECKING:
    from contrastkit.causal.diagnostics import Balance
    from contrastkit.causal.weights import StudyWeights


@takes_options
def balance(
    *,
    study: StudyOptions,
    by: Annotated[
        Balancing | None, typer.Option(help="Method that balances the arms; dcb also uses the outcome \\[entropy].")
    ] = None,
    weights: WeightsFile = None,
    weighting: WeightingOptions,
    check_moments: Annotated[
        int,
        typer.Option(help="Also show powers of covariates up to this one, whether or not they are adjusted for."),
        Interval(1, 5),
    ] = 1,
    check_interactions: Annotated[
        bool, typer.Option("--check-interactions", help="Also show the products of each two covariates.")
    ] = False,
    prognostic: Annotated[
        bool, typer.Option("--prognostic", help="Also show the outcome that a regression on the untreated predicts.")
    ] = False,
    plot: Annotated[Path | None, out_file("a love plot", ".png")] = None,
    output: OutputOptions,
) -> None:
    """Compare the covariates of both arms; exit code 1 if a standardised mean difference above 0.1 remains."""
    from contrastkit.causal.balance_checks import with_checks
    from contrastkit.causal.diagnostics import love_plot
    from contrastkit.causal.weights import weigh

    read = study.read()
    weighted = with_checks(
        read, weigh(read, by, weights=weights, **vars(weighting)), moments=check_moments,
        interactions=check_interactions, prognostic=prognostic,
    )  # fmt: skip
    _print(weighted)
    if weighted.remark:
        screen.say(weighted.remark)
    screen.lines(weighted.notices)
    if plot is not None:
        love_plot(weighted.balance, plot, after=weighted.by, checks=weighted.checks)
        screen.say(f"love plot in {plot}")
    write_reports(weighted.as_json(), output.json)
    if not weighted.balanced:
        raise typer.Exit(1)


def _print(weighted: "StudyWeights") -> None:
    from contrastkit.causal.diagnostics import THRESHOLD

    balance = weighted.balance
    _table(f"balance by {weighted.heading}", balance)
    screen.say(sample_size_line(balance))
    side = "within" if balance.balanced else "above"
    screen.say(f"largest |SMD| {balance.worst:.4f}: {side} {THRESHOLD}")
    if weighted.checks is not None:
        _table("balance of what is only checked", weighted.checks)
        side = "within" if weighted.checks.balanced else "above"
        screen.say(f"largest |SMD| of what is only checked {weighted.checks.worst:.4f}: {side} {THRESHOLD}")
    variance = {"ATT": "the treated", "ATC": "the untreated"}.get(weighted.population, "both arms, averaged")
    screen.say(f"SMD: divided by the standard deviation of {variance}, before weighting (cobalt's conventions)")


def _table(title: str, balance: "Balance") -> None:
    rows = [
        (name, *(number(v, 4) for v in (*smd, *ratio, *ks)))
        for name, smd, ratio, ks in zip(balance.names, balance.smd, balance.variance_ratio, balance.ks, strict=True)
    ]
    screen.table(title, ("", "SMD", "SMD after", "variance ratio", "ratio after", "KS", "KS after"), rows)
