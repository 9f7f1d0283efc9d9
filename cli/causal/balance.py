"""``contrastkit causal balance``: covariate balance before and after weighting."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contrastkit.causal.names import Balancing
from contrastkit.cli import screen
from contrastkit.cli.causal.lines import sample_size_line
from contrastkit.cli.causal.options import StudyOptions, WeightingOptions
from contrastkit.cli.options import OutputOptions, out_file, takes_options
from contrastkit.cli.results import write_reports
from contrastkit.cli.tables import number

if TYPE_CHECKING:
    from contrastkit.causal.weights import StudyWeights


@takes_options
def balance(
    *,
    study: StudyOptions,
    by: Annotated[
        Balancing | None, typer.Option(help="Method that balances the arms; dcb also uses the outcome \\[entropy].")
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            help="Instead of --by: the column weight of this table, with a row for each unit.", metavar="FILE"
        ),
    ] = None,
    weighting: WeightingOptions,
    plot: Annotated[Path | None, out_file("a love plot", ".png")] = None,
    output: OutputOptions,
) -> None:
    """Compare the covariates of both arms; exit code 1 if a standardised mean difference above 0.1 remains."""
    from contrastkit.causal.diagnostics import love_plot
    from contrastkit.causal.weights import weigh

    weighted = weigh(study.read(), by, weights=weights, **vars(weighting))
    _print(weighted)
    if weighted.remark:
        screen.say(weighted.remark)
    if plot is not None:
        love_plot(weighted.balance, plot, after=weighted.by)
        screen.say(f"love plot in {plot}")
    write_reports(weighted.as_json(), output.json)
    if not weighted.balance.balanced:
        raise typer.Exit(1)


def _print(weighted: "StudyWeights") -> None:
    from contrastkit.causal.diagnostics import THRESHOLD

    balance = weighted.balance
    rows = [
        (name, *(number(v, 4) for v in (*smd, *ratio, *ks)))
        for name, smd, ratio, ks in zip(balance.names, balance.smd, balance.variance_ratio, balance.ks, strict=True)
    ]
    columns = ("", "SMD", "SMD after", "variance ratio", "ratio after", "KS", "KS after")
    screen.table(f"balance by {weighted.by}, {weighted.estimand}", columns, rows)
    screen.say(sample_size_line(balance))
    side = "within" if balance.balanced else "above"
    screen.say(f"largest |SMD| {balance.worst:.4f}: {side} {THRESHOLD}")
    variance = {"ATT": "the treated", "ATC": "the untreated"}.get(weighted.population, "both arms, averaged")
    screen.say(f"SMD: divided by the standard deviation of {variance}, before weighting (cobalt's conventions)")
