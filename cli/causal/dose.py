"""``contrastkit causal dose``: the mean outcome by the amount of a treatment."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contrastkit.bounds import Interval
from contrastkit.causal.names import DoseWeighting
from contrastkit.cli import screen
from contrastkit.cli.causal.options import Cluster, UnitsWithOutcome
from contrastkit.cli.files import out_file
from contrastkit.cli.options import OutputOptions, Seed, takes_options
from contrastkit.cli.results import write_reports
from contrastkit.cli.tables import number, numbers, precise, short, write_csv

if TYPE_CHECKING:
    from contrastkit.causal.dose import DoseResponse


@takes_options
def dose(
    *,
    units: UnitsWithOutcome,
    by: Annotated[
        DoseWeighting,
        typer.Option(
            help="Weights: normal generalised propensity score, entropy balancing, or covariate balancing generalised "
            "propensity score."
        ),
    ] = "entropy",
    df: Annotated[
        int, typer.Option(help="Coefficients of the curve, a natural cubic spline; 1 is a line."), Interval(1, 20)
    ] = 3,
    at: Annotated[
        str,
        typer.Option(
            help="Doses of the curve, separated by commas \\[21 from the 5 % to the 95 % quantile].", metavar="DOSE,..."
        ),
    ] = "",
    draws: Annotated[int, typer.Option(help="Samples of the bootstrap."), Interval(50, 10**5)] = 200,
    cluster: Cluster = None,
    seed: Seed = 0,
    out: Annotated[Path | None, out_file("the weight of each row", ".csv")] = None,
    plot: Annotated[Path | None, out_file("the curve", ".png")] = None,
    output: OutputOptions,
) -> None:
    """Estimate the dose-response curve of a continuous treatment."""
    from contrastkit.causal.dose import curve_plot, dose_response

    study, doses = units.read(), tuple(numbers("--at", at)) if at else ()
    with screen.working("estimating"):
        response = dose_response(study, by, df=df, at=doses, draws=draws, cluster=cluster, seed=seed)
    _print(response)
    if out is not None:
        write_csv(out, study.row_ids().columns() | {"weight": response.weights})
        screen.say(f"weights in {out}")
    if plot is not None:
        curve_plot(response, plot)
        screen.say(f"curve in {plot}")
    write_reports(response.as_json(), output.json)


def _print(response: "DoseResponse") -> None:
    rows = [
        (
            precise(point.dose), precise(point.mean), precise(point.se), short(point.low), short(point.high),
            precise(point.effect), short(point.effect_low), short(point.effect_high),
        )
        for point in response.curve
    ]  # fmt: skip
    columns = (response.treatment, "mean", "SE", "low", "high", "effect", "low", "high")
    screen.table(f"{response.outcome} by {response.treatment}, {response.by}", columns, rows, narrow=True)
    for remark in response.remarks:
        screen.say(f"remark: {remark}")
    before, after = response.worst
    screen.say(
        f"largest |correlation| of {response.treatment} with a covariate {before:.4f} -> {after:.4f}; effective sample "
        f"size {len(response.doses):,} -> {number(response.ess, 1)}"
    )
    screen.say(
        f"effect: against the mean at {precise(response.curve[0].dose)}. low, high: 95 % interval, at each dose by "
        "itself"
    )
