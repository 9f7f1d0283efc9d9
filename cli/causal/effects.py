"""``contrastkit causal effects``: who gains."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contrastkit.bounds import Interval
from contrastkit.causal.names import EffectModel
from contrastkit.cli import screen
from contrastkit.cli.causal.lines import p_value
from contrastkit.cli.causal.options import Cluster, ModelOptions, SampleWeight, StudyOptions
from contrastkit.cli.files import out_file
from contrastkit.cli.options import OutputOptions, Seed, takes_options
from contrastkit.cli.results import write_picture, write_reports
from contrastkit.cli.tables import column_names, precise, probability, short, write_csv

if TYPE_CHECKING:
    from contrastkit.causal.conditional import ConditionalEffects, Group
    from contrastkit.causal.inference import Effect, Wald


@takes_options
def effects(
    *,
    study: StudyOptions,
    by: Annotated[
        str, typer.Option(help="Covariates by which the effect may differ, separated by commas.", metavar="COLUMN,...")
    ],
    bins: Annotated[int, typer.Option(help="Bins of a number of more than six different values."), Interval(2, 20)] = 4,
    learner: Annotated[
        EffectModel,
        typer.Option(help="Model of effects that ranks units; forest is econml's causal forest, if installed."),
    ] = "linear",
    sample_weight: SampleWeight = None,
    cluster: Cluster = None,
    models: ModelOptions,
    out: Annotated[Path | None, out_file("the predicted effect of each row", ".csv")] = None,
    plot: Annotated[Path | None, out_file("a picture of the effects of groups", ".png")] = None,
    seed: Seed = 0,
    output: OutputOptions,
) -> None:
    """Estimate effects in groups of units, and find out whether some units gain more than others."""
    from contrastkit.causal.conditional import conditional_effects
    from contrastkit.errors import UserError

    units = study.read()
    with screen.working("estimating"):
        found = conditional_effects(
            units, column_names(by), bins=bins, learner=learner, models=models.as_models(),
            sample_weight=sample_weight, cluster=cluster, seed=seed,
        )  # fmt: skip
    if out is not None and found.effects is None:
        raise UserError(f"no predicted effects to write: {found.refusal}")
    _print(found)
    if out is not None:
        write_csv(out, units.row_ids().columns() | {"effect": found.effects})
        screen.say(f"{out}: the effect that the learner ({learner}), fitted to all rows, predicts for each")
    write_picture("effects of groups", found.plot, plot)
    write_reports(found.as_json(), output.json)


def _print(found: "ConditionalEffects") -> None:
    title = f"effect of {found.treatment} on {found.outcome} (ATE)"
    columns = ("", "treated", "untreated", "effect", "SE", "low", "high")
    screen.table(title, columns, [_row(found.all)], narrow=True)
    for by in found.by:
        screen.table(f"by {by.column}", columns, [_row(group) for group in by.groups], narrow=True)
        screen.say(f"equal effects: {_test(by.equal)}")
    rows = [(name, *_cells(value), probability(value.p)) for name, value in found.linear.items()]
    screen.table("effect, as a line in these columns", ("", "coefficient", "SE", "low", "high", "p"), rows, narrow=True)
    screen.say(f"all coefficients 0: {_test(found.flat)}")
    if found.ranking is None:
        screen.say(f"no ranking by predicted effects ({found.learner}): {found.refusal}")
    else:
        fifths = [(*_row(group), precise(group.predicted)) for group in found.parts if group.predicted is not None]
        screen.table(f"fifths by predicted effect ({found.learner})", (*columns, "predicted"), fifths, narrow=True)
        difference, slope = found.ranking.difference, found.ranking.slope
        screen.say(f"last fifth less the first: {_line(difference)}")
        screen.say(f"slope on the predicted effect: {_line(slope)}; 1: effects differ as predicted, 0: not at all")
    screen.lines(f"remark: {remark}" for remark in found.remarks)
    screen.say("low, high: 95 % interval, of each row by itself; the tests take all groups of a column together")


def _row(group: "Group") -> tuple[str, ...]:
    return group.name, f"{group.n_treated:,}", f"{group.n_untreated:,}", *_cells(group.effect)


def _cells(value: "Effect") -> tuple[str, ...]:
    return precise(value.effect), precise(value.se), short(value.low), short(value.high)


def _line(value: "Effect") -> str:
    effect, se, low, high = _cells(value)
    return f"{effect}, SE {se}, 95 % interval {low} to {high}, {p_value(value.p)}"


def _test(wald: "Wald") -> str:
    if math.isnan(wald.f):
        return "no test, with so few clusters or values"
    return f"F({wald.df[0]}, {wald.df[1]:,}) = {wald.f:.2f}, {p_value(wald.p)}"
