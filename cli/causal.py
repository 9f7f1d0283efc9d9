"""``contrastkit causal``: what a treatment does, when those who got it were others than those who did not."""

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from contrastkit.cli import screen
from contrastkit.cli.options import Debug, Json

if TYPE_CHECKING:
    from contrastkit.causal.study import Study

causal_app = typer.Typer(no_args_is_help=True, help="Measure the effect of a treatment in the presence of confounders.")

Table = Annotated[Path, typer.Option("--data", help="A table, .csv or .parquet.", metavar="FILE")]
Treatment = Annotated[str, typer.Option(help="The column of 0 and 1 that says who was treated.", metavar="COLUMN")]
Outcome = Annotated[str, typer.Option(help="The column of what came of it.", metavar="COLUMN")]
Covariates = Annotated[
    str, typer.Option(help="The columns to adjust for, with commas; words become 0 and 1.", metavar="COLUMN,...")
]


@causal_app.command()
def estimate(
    data: Table,
    treatment: Treatment,
    outcome: Outcome,
    covariates: Covariates,
    estimand: Annotated[
        Literal["ATT", "ATE"],
        typer.Option(help="The effect on the treated, or on all; the table says who has another."),
    ] = "ATT",
    benchmark: Annotated[
        float | None, typer.Option(help="The truth, of an experiment say: how far each is from it is shown.")
    ] = None,
    json: Json = None,
    debug: Debug = False,
) -> None:
    """All estimators on the same data, in one table."""
    from contrastkit.causal.estimate import compare

    study = _read(data, treatment, covariates, outcome)
    assert study.Y is not None
    rows = list(compare(study.X, study.T, study.Y, estimand=estimand))
    columns = ["", "of", "effect", "SE", "low", "high", "ESS", "|SMD|"]
    shown = []
    for row in rows:
        if row.refused:
            continue
        exact, rough = (row.effect, row.se), (row.low, row.high)
        cells = [row.name, row.estimand, *(_number(v, 2) for v in exact), *(_short(v) for v in rough)]
        cells += [_number(row.ess, 1), _number(row.smd, 3)]
        shown.append(cells + ([_short(row.effect - benchmark)] if benchmark is not None else []))
    if benchmark is not None:
        columns.append("off by")
    treated = int((study.T == 1).sum())
    truth = "" if benchmark is None else f"; truth {benchmark:,.2f}"
    screen.table(
        f"{outcome} by {treatment}: {treated:,} treated, {len(study.T) - treated:,} not{truth}",
        columns,
        shown,
        narrow=True,
    )
    for row in rows:
        if row.refused:
            screen.say(f"{row.name}: {row.refused}")
    screen.say(
        "low, high: 95 % interval. ESS: effective sample of the smaller arm. |SMD|: the largest; above 0.1 is much"
    )
    if json is not None:
        from contrastkit.cli.main import write_json

        found = [{k: None if v != v else v for k, v in dataclasses.asdict(row).items()} for row in rows]
        write_json(json, {"benchmark": benchmark, "rows": found})


@causal_app.command()
def balance(
    data: Table,
    treatment: Treatment,
    covariates: Covariates,
    by: Annotated[
        Literal["none", "matching", "ipw", "overlap", "entropy"], typer.Option(help="What makes the arms alike.")
    ] = "entropy",
    estimand: Annotated[Literal["ATT", "ATC", "ATE"], typer.Option(help="Whose effect the weights are for.")] = "ATT",
    json: Json = None,
    debug: Debug = False,
) -> None:
    """Are the arms alike, before and after? Exit code 1 when a standardised mean difference above 0.1 is left."""
    from contrastkit.causal.balance import THRESHOLD, balance_table
    from contrastkit.causal.matching import Matching
    from contrastkit.causal.weighting import EntropyBalancing, InverseProbability

    study = _read(data, treatment, covariates)
    weights = None
    if by == "matching":
        weights = Matching(estimand, metric="mahalanobis").fit(study.X, study.T).weights_
    elif by == "entropy":
        weights = EntropyBalancing(estimand).fit(study.X, study.T).weights_
    elif by != "none":
        weights = InverseProbability("ATO" if by == "overlap" else estimand).fit(study.X, study.T).weights_
    found = balance_table(study.X, study.T, weights, estimand="ATO" if by == "overlap" else estimand)
    rows = [
        (name, *(_number(v, 4) for v in (*smd, *ratio, *ks)))
        for name, smd, ratio, ks in zip(found.names, found.smd, found.variance_ratio, found.ks, strict=True)
    ]
    columns = ("", "SMD", "after", "variance ratio", "after", "KS", "after")
    screen.table(f"balance by {by}, of the {'ATO' if by == 'overlap' else estimand}", columns, rows)
    (a, b), (c, d) = found.n
    screen.say(f"effective sample: treated {a:,.1f} -> {b:,.1f}, controls {c:,.1f} -> {d:,.1f}")
    screen.say(f"largest |SMD| {found.worst:.4f}: {'above' if found.worst > THRESHOLD else 'within'} {THRESHOLD}")
    if json is not None:
        from contrastkit.cli.main import write_json

        arrays = {k: v.tolist() for k, v in vars(found).items() if k != "names"}
        write_json(json, {"by": by, "names": found.names, **arrays})
    if found.worst > THRESHOLD:
        raise typer.Exit(1)


def _read(data: Path, treatment: str, covariates: str, outcome: str | None = None) -> "Study":
    from contrastkit.causal.study import read

    names = [name.strip() for name in covariates.split(",") if name.strip()]
    return read(data.expanduser(), treatment=treatment, outcome=outcome, covariates=names)


def _short(value: float) -> str:
    return _number(value, 0 if abs(value) >= 100 else 2)


def _number(value: float, digits: int) -> str:
    return "" if math.isnan(value) else f"{value:,.{digits}f}"
