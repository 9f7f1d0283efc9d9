"""``contrastkit causal iv``: the effect of a treatment by instruments."""

import math
from typing import TYPE_CHECKING, Annotated

import typer

from contrastkit.cli import screen
from contrastkit.cli.causal.lines import p_value
from contrastkit.cli.causal.options import Cluster, FormOptions, Graph, OutcomeValue, TableOptions, Treated, Untreated
from contrastkit.cli.options import OutputOptions, takes_options
from contrastkit.cli.results import write_reports
from contrastkit.cli.tables import column_names, precise, probability, short

if TYPE_CHECKING:
    from contrastkit.causal.instrumental import InstrumentalEffect


@takes_options
def iv(
    *,
    table: TableOptions,
    treatment: Annotated[
        str | None,
        typer.Option(
            help="Treatment column, of numbers or with --treated \\[that marked in --graph].", metavar="COLUMN"
        ),
    ] = None,
    treated: Treated = None,
    untreated: Untreated = None,
    outcome: Annotated[
        str | None, typer.Option(help="Outcome column \\[that marked in --graph].", metavar="COLUMN")
    ] = None,
    outcome_value: OutcomeValue = None,
    instruments: Annotated[
        str,
        typer.Option(
            help="Columns that move the treatment, and the outcome only through it \\[all that --graph implies].",
            metavar="COLUMN,...",
        ),
    ] = "",
    covariates: Annotated[
        str, typer.Option(help="Columns that the instruments are only valid given.", metavar="COLUMN,...")
    ] = "",
    form: FormOptions,
    cluster: Cluster = None,
    graph: Graph = None,
    output: OutputOptions,
) -> None:
    """Estimate an effect by instruments: two-stage least squares, and how far to trust it."""
    from contrastkit.causal.instrumental import instrumental_effect

    effect = instrumental_effect(
        table.open(), treatment=treatment, treated=treated, untreated=untreated, outcome=outcome,
        outcome_value=outcome_value, instruments=column_names(instruments), covariates=column_names(covariates),
        form=form.form(), cluster=cluster, graph=graph,
    )  # fmt: skip
    _print(effect)
    write_reports(effect.as_json(), output.json)


def _print(effect: "InstrumentalEffect") -> None:
    estimates = (("least squares", effect.least_squares), ("2SLS", effect.two_stage))
    rows = [
        (name, precise(v.effect), precise(v.se), short(v.low), short(v.high), probability(v.p)) for name, v in estimates
    ]
    names = ", ".join(effect.instruments)
    title = f"effect of {effect.treatment} on {effect.outcome} by {names}, {effect.n:,} rows"
    screen.lines(effect.notices)
    screen.table(title, ("", "effect", "SE", "low", "high", "p"), rows, narrow=True)
    screen.say(f"Anderson-Rubin, 95 %: {_set(effect)}")
    stage = effect.first_stage
    screen.say(
        f"first stage: F({stage.f.df[0]}, {stage.f.df[1]:,}) = {stage.f.f:.1f}, {p_value(stage.f.p)}, partial R^2 "
        f"{stage.partial_r2:.3f}; effective F {stage.effective_f:.1f}, critical value {stage.critical:.1f}"
    )
    differ = effect.endogeneity
    screen.say(
        f"Wu-Hausman, that least squares would do: F({differ.df[0]}, {differ.df[1]:,}) = {differ.f:.2f}, "
        f"{p_value(differ.p)}"
    )
    if (agree := effect.overidentification) is not None:
        screen.say(
            f"that the instruments agree: Hansen's J({agree.df}) = {agree.j:.2f}, {p_value(agree.p)}; Sargan "
            f"{agree.sargan:.2f}, {p_value(agree.sargan_p)}"
        )
    if effect.compliers is not None:
        screen.say(
            f"the effect is that on the {effect.compliers:.1%} of units that the instrument moves, if it moves none "
            "the other way"
        )
    screen.lines(f"remark: {remark}" for remark in effect.remarks)
    screen.say("no data can show that instruments affect the outcome through the treatment alone")


def _set(effect: "InstrumentalEffect") -> str:
    """The Anderson-Rubin set in words."""
    if effect.kind == "empty":
        return (
            "empty: no effect agrees with all instruments: one of them is invalid, or they move units of other effects"
        )
    if effect.kind == "all":
        return "all numbers: the instruments tell nothing of the effect"
    parts = []
    for low, high in effect.anderson_rubin:
        if math.isinf(low):
            parts.append(f"at most {short(high)}")
        else:
            parts.append(f"at least {short(low)}" if math.isinf(high) else f"{short(low)} to {short(high)}")
    return " or ".join(parts)
