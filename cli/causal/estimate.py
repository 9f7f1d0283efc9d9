"""``contrastkit causal estimate``: every estimator on the same study."""

from typing import TYPE_CHECKING, Annotated

import typer

from contrastkit.bounds import Interval
from contrastkit.causal.names import AnyEstimand, Error
from contrastkit.cli import screen
from contrastkit.cli.causal.options import Cluster, MeasureOption, ModelOptions, SampleWeight, StudyOptions
from contrastkit.cli.options import OutputOptions, Seed, takes_options
from contrastkit.cli.results import write_reports
from contrastkit.cli.tables import number, precise, short

if TYPE_CHECKING:
    from contrastkit.causal.effects import Effects


@takes_options
def estimate(
    *,
    study: StudyOptions,
    estimand: Annotated[
        AnyEstimand,
        typer.Option(help="Target population: the treated, the untreated, all units, or those with overlap (ATO)."),
    ] = "ATT",
    error: Annotated[
        Error,
        typer.Option(
            help="Standard error: m-estimation knows that weights were estimated, hc1 takes them as fixed, bootstrap "
            "draws the units again."
        ),
    ] = "m-estimation",
    draws: Annotated[int, typer.Option(help="Samples of the bootstrap."), Interval(50, 10**5)] = 200,
    strata: Annotated[
        int, typer.Option(help="Strata of the propensity score, of about equal size."), Interval(1, 10**4)
    ] = 5,
    measure: MeasureOption = "difference",
    sample_weight: SampleWeight = None,
    cluster: Cluster = None,
    models: ModelOptions,
    benchmark: Annotated[
        float | None, typer.Option(help="True effect to compare with \\[that of a named study]."), Interval(-1e12, 1e12)
    ] = None,
    seed: Seed = 0,
    output: OutputOptions,
) -> None:
    """Estimate the effect with every estimator, in one table."""
    from contrastkit.causal.effects import estimate_effects

    with screen.working("estimating"):
        effects = estimate_effects(
            study.read(), estimand=estimand, error=error, draws=draws, strata=strata, models=models.as_models(),
            measure=measure, sample_weight=sample_weight, cluster=cluster, benchmark=benchmark, seed=seed,
        )  # fmt: skip
    _print(effects)
    write_reports(effects.as_json(), output.json)


def _print(effects: "Effects") -> None:
    truth, ratio = effects.truth, effects.measure != "difference"
    rows = []
    for row in effects.estimates:
        effect = [precise(row.effect), precise(row.se), *map(precise if ratio else short, (row.low, row.high))]
        means = [precise(row.treated), precise(row.untreated)] if ratio else []
        cells = [row.name, row.estimand, *means, *effect, number(row.ess, 1), number(row.smd, 3)]
        rows.append(cells if truth is None else [*cells, short(row.effect - truth)])
    columns = ["", "estimand", "effect", "SE", "low", "high", "ESS", "|SMD|"]
    if ratio:
        columns[2:3] = ["with", "without", effects.measure.replace("-", " ")]
    title = (
        f"{effects.outcome} by {effects.treatment}: {effects.n_treated:,} treated, {effects.n_untreated:,} untreated"
    )
    if truth is not None:
        columns.append("error")
        title += f"; truth {truth:,.2f}"
    screen.table(title, columns, rows, narrow=True)
    for remark in effects.remarks:
        screen.say(f"remark: {remark}")
    for text, names in [*effects.refusals.items(), *effects.remarks_on_rows.items()]:
        screen.say(f"{', '.join(names)}: {text}")
    if ratio:
        screen.say(
            "with, without: mean outcomes of the population with treatment and without it. SE: of the logarithm, of "
            "which the interval is too"
        )
    screen.say(
        "low, high: 95 % interval. ESS: the smaller of the two arms' effective sample sizes. |SMD|: largest "
        "standardised mean difference; above 0.1 indicates imbalance"
    )
