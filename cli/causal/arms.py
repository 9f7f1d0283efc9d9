"""``contrastkit causal arms``: all arms of a study, and all contrasts of two."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contrastkit.causal.names import ArmWeighting
from contrastkit.cli import screen
from contrastkit.cli.causal.options import Cluster, MeasureOption, UnitsWithOutcome
from contrastkit.cli.files import out_file
from contrastkit.cli.options import OutputOptions, takes_options
from contrastkit.cli.results import write_reports
from contrastkit.cli.tables import number, precise, short, write_csv

if TYPE_CHECKING:
    from contrastkit.causal.arms import ArmEffects


@takes_options
def arms(
    *,
    units: UnitsWithOutcome,
    by: Annotated[
        ArmWeighting,
        typer.Option(help="Weights: generalised propensity scores, or entropy balancing of each arm."),
    ] = "gps",
    focal: Annotated[
        str | None, typer.Option(help="Arm whose units are the target population \\[all units].", metavar="VALUE")
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(help="Arm that others are compared with \\[the earlier of the two].", metavar="VALUE"),
    ] = None,
    measure: MeasureOption = "difference",
    simultaneous: Annotated[
        bool, typer.Option("--simultaneous", help="Let all intervals of contrasts hold together with 95 %.")
    ] = False,
    cluster: Cluster = None,
    out: Annotated[Path | None, out_file("the weight of each row", ".csv")] = None,
    output: OutputOptions,
) -> None:
    """Compare the arms of a treatment with more than two values, each with each."""
    from contrastkit.causal.arms import compare_arms

    study = units.read()
    effects = compare_arms(
        study, by, focal=focal, reference=reference, measure=measure, simultaneous=simultaneous, cluster=cluster
    )
    _print(effects)
    if out is not None:
        write_csv(out, study.row_ids().columns() | {"weight": effects.weights})
        screen.say(f"weights in {out}")
    write_reports(effects.as_json(), output.json)


def _print(effects: "ArmEffects") -> None:
    ratio = effects.measure != "difference"
    shown = precise if ratio else short
    rows = [
        (
            arm.name,
            f"{arm.n:,}",
            number(arm.ess, 1),
            precise(arm.mean),
            precise(arm.se),
            short(arm.low),
            short(arm.high),
        )
        for arm in effects.arms
    ]
    title = f"{effects.outcome} by {effects.treatment}, {effects.by}, {effects.estimand}"
    screen.table(title, (effects.treatment, "units", "ESS", "mean", "SE", "low", "high"), rows, narrow=True)
    contrasts = [
        (
            f"{each.arm} - {each.against}" if not ratio else f"{each.arm} / {each.against}",
            precise(each.effect), precise(each.se), shown(each.low), shown(each.high),
            number(each.smd_before, 3), number(each.smd, 3),
        )
        for each in effects.contrasts
    ]  # fmt: skip
    what, error = (effects.measure.replace("-", " "), "SE of log") if ratio else ("effect", "SE")
    screen.table("contrasts", ("", what, error, "low", "high", "|SMD|", "after"), contrasts, narrow=True)
    for remark in effects.remarks:
        screen.say(f"remark: {remark}")
    screen.say(
        "low, high: 95 % interval of each mean; of the contrasts, "
        + (
            "all of them together"
            if effects.simultaneous
            else "each by itself: --simultaneous makes them hold together"
        )
    )
    screen.say("ESS: effective sample size. |SMD|: largest standardised mean difference of both arms, before and after")
