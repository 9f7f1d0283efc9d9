"""``contrastkit causal survival``: the times until an event in both arms of a study."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contrastkit.bounds import Interval
from contrastkit.causal.names import SurvivalWeighting
from contrastkit.cli import screen
from contrastkit.cli.causal.lines import difference_line, sample_size_line
from contrastkit.cli.causal.options import Cluster, FollowUpOptions, SampleWeight, WeightingOptions, WeightsFile
from contrastkit.cli.files import out_file
from contrastkit.cli.options import OutputOptions, takes_options
from contrastkit.cli.results import write_reports
from contrastkit.cli.tables import number, numbers, precise, probability, short, write_csv

if TYPE_CHECKING:
    from contrastkit.causal.survival import SurvivalEffects


@takes_options
def survival(
    *,
    study: FollowUpOptions,
    by: Annotated[
        SurvivalWeighting | None,
        typer.Option(help="Method that balances the arms; none compares them as they are \\[entropy]."),
    ] = None,
    weights: WeightsFile = None,
    weighting: WeightingOptions,
    sample_weight: SampleWeight = None,
    at: Annotated[
        str,
        typer.Option(
            help="Times at which survival is compared, separated by commas \\[half of the horizon, and the horizon].",
            metavar="TIME,...",
        ),
    ] = "",
    horizon: Annotated[
        float | None,
        typer.Option(help="Time up to which mean times are taken \\[the shorter follow-up of the two arms]."),
        Interval(0, 1e15, above=True),
    ] = None,
    cluster: Cluster = None,
    out: Annotated[Path | None, out_file("both curves, at each time of an event", ".csv")] = None,
    plot: Annotated[Path | None, out_file("both curves", ".png")] = None,
    output: OutputOptions,
) -> None:
    """Compare the times until an event: survival curves, restricted means and the hazard ratio of both arms."""
    import numpy as np

    from contrastkit.causal.survival import compare_survival
    from contrastkit.causal.survival_plot import survival_plot

    read, times = study.read(), numbers("--at", at) if at else ()
    effects = compare_survival(
        read, by, event_value=study.event_value, weights=weights, sample_weight=sample_weight, at=times,
        horizon=horizon, cluster=cluster, **vars(weighting),
    )  # fmt: skip
    _print(effects, chosen=horizon is None)
    if out is not None:
        names = np.repeat([arm.name for arm in effects.arms], [len(arm.curve.time) for arm in effects.arms])
        curves = zip(*(vars(arm.curve).items() for arm in effects.arms), strict=True)
        write_csv(out, {"arm": names} | {name: np.concatenate([one, other]) for (name, one), (_, other) in curves})
        screen.say(f"curves in {out}")
    if plot is not None:
        survival_plot(effects, plot)
        screen.say(f"plot in {plot}")
    write_reports(effects.as_json(), output.json)


def _print(effects: "SurvivalEffects", *, chosen: bool) -> None:
    title = f"{effects.event} by {effects.treatment}, {effects.weighted.heading}"
    mean = f"mean {effects.time} to {effects.horizon:g}"
    arms = [
        (
            arm.name, f"{arm.n:,}", f"{arm.events:,}", short(arm.followed), precise(arm.restricted_mean),
            precise(arm.se), short(arm.low), short(arm.high),
        )
        for arm in effects.arms
    ]  # fmt: skip
    columns = (effects.treatment, "units", "events", "followed", mean, "SE", "low", "high")
    screen.table(title, columns, arms, narrow=True)
    survival = [
        (
            f"{point.time:g}", arm.name, f"{point.at_risk:,}", number(point.survival, 3), number(point.se, 3),
            number(point.low, 3), number(point.high, 3),
        )
        for points in zip(*(arm.survival for arm in effects.arms), strict=True)
        for arm, point in zip(effects.arms, points, strict=True)
    ]  # fmt: skip
    screen.table("survival", (effects.time, "", "at risk", "survival", "SE", "low", "high"), survival, narrow=True)
    contrasts = [
        (f"survival at {time:g}", *(number(v, 3) for v in (e.effect, e.se, e.low, e.high)), probability(e.p))
        for time, e in effects.differences
    ]
    e, hazard = effects.restricted_mean_difference, effects.hazard_ratio
    contrasts.append((mean, precise(e.effect), precise(e.se), short(e.low), short(e.high), probability(e.p)))
    ratio = (hazard.ratio, hazard.se, hazard.low, hazard.high)
    contrasts.append(("hazard ratio", *(number(v, 3) for v in ratio), probability(hazard.p)))
    screen.table("treated less untreated", ("", "effect", "SE", "low", "high", "p"), contrasts, narrow=True)
    screen.lines(f"remark: {remark}" for remark in effects.remarks)
    screen.say(f"{sample_size_line(effects.weighted.balance)}; {difference_line(effects.weighted.balance)}")
    if chosen:
        screen.say(f"horizon {effects.horizon:g}: the shorter follow-up of the two arms; --horizon sets another")
    screen.say(
        "low, high: 95 % interval, of each line by itself. hazard ratio: SE of its logarithm; an average over time"
    )
