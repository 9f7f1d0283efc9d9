"""``contrastkit causal front-door``: the effect through mediators."""

from typing import Annotated

import typer

from contrastkit.cli import screen
from contrastkit.cli.causal.options import (
    Cluster,
    FormOptions,
    Graph,
    ModelOptions,
    OutcomeValue,
    TableOptions,
    Treated,
    Untreated,
)
from contrastkit.cli.options import OutputOptions, Seed, takes_options
from contrastkit.cli.results import write_reports
from contrastkit.cli.tables import column_names, precise, probability, short


@takes_options
def front_door(
    *,
    table: TableOptions,
    treatment: Annotated[
        str | None,
        typer.Option(
            help="Treatment column, of 0 and 1 or with --treated \\[that marked in --graph].", metavar="COLUMN"
        ),
    ] = None,
    treated: Treated = None,
    untreated: Untreated = None,
    outcome: Annotated[
        str | None, typer.Option(help="Outcome column \\[that marked in --graph].", metavar="COLUMN")
    ] = None,
    outcome_value: OutcomeValue = None,
    mediators: Annotated[
        str,
        typer.Option(help="Columns that carry the whole effect \\[those that --graph implies].", metavar="COLUMN,..."),
    ] = "",
    covariates: Annotated[
        str, typer.Option(help="Columns given which the mediators are not confounded.", metavar="COLUMN,...")
    ] = "",
    form: FormOptions,
    cluster: Cluster = None,
    graph: Graph = None,
    models: ModelOptions,
    seed: Seed = 0,
    output: OutputOptions,
) -> None:
    """Estimate an effect through its mediators, where what confounds treatment and outcome is not observed."""
    from contrastkit.causal.mediated import mediated_effect

    effect = mediated_effect(
        table.open(), treatment=treatment, treated=treated, untreated=untreated, outcome=outcome,
        outcome_value=outcome_value, mediators=column_names(mediators), covariates=column_names(covariates),
        form=form.form(), cluster=cluster, graph=graph, models=models.as_models(), seed=seed,
    )  # fmt: skip
    estimates = (("difference in means", effect.naive), ("front door", effect.front_door))
    rows = [
        (name, precise(v.effect), precise(v.se), short(v.low), short(v.high), probability(v.p)) for name, v in estimates
    ]
    title = (
        f"effect of {effect.treatment} on {effect.outcome} (ATE) through {', '.join(effect.mediators)}: "
        f"{effect.n_treated:,} treated, {effect.n_untreated:,} untreated"
    )
    screen.lines(effect.notices)
    screen.table(title, ("", "effect", "SE", "low", "high", "p"), rows, narrow=True)
    screen.lines(f"remark: {remark}" for remark in effect.remarks)
    screen.say(
        "no data can show that the mediators carry the whole effect, or that nothing unobserved affects both them and "
        "treatment or outcome"
    )
    write_reports(effect.as_json(), output.json)
