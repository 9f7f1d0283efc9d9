"""``contrastkit causal``: what a treatment does, when those who got it were others than those who did not."""

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from contrastkit.cli import screen
from contrastkit.cli.options import Debug, Json, Seed, writable

from contrastkit.errors import UserError

if TYPE_CHECKING:
    from contrastkit.causal.study import Study

OVERLAP = 0.25  # of the scores' distributions, below which it is said

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

    study = _read(data, treatment, covariates)
    weights = None
    if by == "matching":
        weights = Matching(estimand, metric="mahalanobis").fit(study.X, study.T).weights_
    elif by != "none":
        weights = _weights(study, by, estimand)
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


@causal_app.command()
def propensity(
    data: Table,
    treatment: Treatment,
    covariates: Covariates,
    model: Annotated[
        Literal["logistic", "boosting", "forest"],
        typer.Option(help="logistic by maximum likelihood; gradient boosting or a random forest, cross-fitted."),
    ] = "logistic",
    folds: Annotated[
        int | None, typer.Option(help="Of cross-fitting; else 0 for logistic, 5 for others.", min=0)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the scores, a row each, to this .csv.", metavar="FILE", callback=writable)
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the arms' scores into this .png.", metavar="FILE", callback=writable)
    ] = None,
    seed: Seed = 0,
    debug: Debug = False,
) -> None:
    """Who gets the treatment: scores, and whether the arms overlap."""
    import numpy as np
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier

    from contrastkit.causal.propensity import Propensity, crump, overlap_plot, within

    study = _read(data, treatment, covariates)
    classifiers = {
        "logistic": None,
        "boosting": HistGradientBoostingClassifier(random_state=seed),
        "forest": RandomForestClassifier(min_samples_leaf=20, random_state=seed),
    }
    cut = folds if folds is not None else 0 if model == "logistic" else 5
    found = Propensity(classifiers[model], folds=cut, seed=seed).fit(study.X, study.T)
    e, t = found.scores_, np.asarray(study.T) == 1
    levels = (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)
    rows = [(name, *(f"{v:.4f}" for v in np.quantile(e[arm], levels))) for name, arm in (("treated", t), ("not", ~t))]
    columns = ("", "least", "5 %", "25 %", "median", "75 %", "95 %", "most")
    screen.table(f"propensity of {treatment}, {model}; AUC {found.auc_:.3f}", columns, rows)
    alpha = crump(e)
    kept = within(e, alpha)
    screen.say(
        f"Crump's trimming: scores in [{alpha:.4f}, {1 - alpha:.4f}], {int((kept & t).sum()):,} treated and "
        f"{int((kept & ~t).sum()):,} others"
    )
    screen.say(f"the arms' scores share {found.overlap_:.1%} of their distributions")
    if found.overlap_ < OVERLAP:
        screen.say(
            "hardly any overlap: an effect on all (ATE) would rest on few; ask for that on the treated (ATT), or use "
            "overlap weights"
        )
    if out is not None:
        _write(out, {"propensity": e})
    if plot is not None:
        overlap_plot(e, t, plot)


@causal_app.command()
def weight(
    data: Table,
    treatment: Treatment,
    covariates: Covariates,
    out: Annotated[Path, typer.Option(help="The .csv of weights, a row each.", metavar="FILE", callback=writable)],
    by: Annotated[Literal["ipw", "overlap", "entropy"], typer.Option(help="How the arms are made alike.")] = "entropy",
    estimand: Annotated[Literal["ATT", "ATC", "ATE"], typer.Option(help="Whose effect the weights are for.")] = "ATT",
    debug: Debug = False,
) -> None:
    """Weights that make the arms alike; none are written where there are none."""
    from contrastkit.causal.balance import balance_table

    study = _read(data, treatment, covariates)
    w = _weights(study, by, estimand)
    found = balance_table(study.X, study.T, w, estimand="ATO" if by == "overlap" else estimand)
    _write(out, {"weight": w})
    (a, b), (c, d) = found.n
    screen.say(f"{out}: effective sample treated {a:,.0f} -> {b:,.1f}, others {c:,.0f} -> {d:,.1f}")
    screen.say(f"largest |SMD| {abs(found.smd[:, 0]).max():.4f} -> {found.worst:.4f}")


@causal_app.command()
def match(
    data: Table,
    treatment: Treatment,
    covariates: Covariates,
    out: Annotated[Path, typer.Option(help="The .csv of pairs: rows from 0.", metavar="FILE", callback=writable)],
    estimand: Annotated[Literal["ATT", "ATC", "ATE"], typer.Option(help="Who looks for partners.")] = "ATT",
    metric: Annotated[
        Literal["logit", "propensity", "mahalanobis", "robust", "scaled", "euclidean", "cosine"],
        typer.Option(help="What is near: a score, or a distance of the covariates."),
    ] = "logit",
    ratio: Annotated[int, typer.Option(help="Partners of each.", min=1)] = 1,
    replacement: Annotated[bool, typer.Option(help="A partner may serve again.")] = True,
    order: Annotated[
        Literal["largest", "smallest", "random", "data"], typer.Option(help="Who chooses first, without replacement.")
    ] = "largest",
    caliper: Annotated[
        float | None, typer.Option(help="Nobody farther is a partner; in standard deviations of a score.", min=0)
    ] = None,
    exact: Annotated[str, typer.Option(help="Columns on which partners must agree.", metavar="COLUMN,...")] = "",
    optimal: Annotated[bool, typer.Option("--optimal", help="The least sum of distances over all pairs.")] = False,
    seed: Seed = 0,
    debug: Debug = False,
) -> None:
    """Partners for the units of an arm; who finds none is dropped, and that is said."""
    from contrastkit.causal.balance import balance_table
    from contrastkit.causal.matching import Matching
    from contrastkit.causal.study import covariates as numbers

    study = _read(data, treatment, covariates)
    x, names = numbers(study.X)
    wanted = _names(exact)
    for name in wanted:
        if name not in study.X.columns:
            raise UserError(f"--exact {name}: it is none of the covariates")
    agree = tuple(j for j, name in enumerate(names) if name.split("=")[0] in wanted)
    found = Matching(
        estimand, metric=metric, ratio=ratio, replacement=replacement, order=order, caliper=caliper, exact=agree,
        optimal=optimal, seed=seed,
    ).fit(x, study.T)  # fmt: skip
    i, j = found.pairs_.T
    _write(out, {"unit": i, "partner": j, "share": found.shares_, "distance": found.distances_})
    balance = balance_table(study.X, study.T, found.weights_, estimand=estimand)
    how = "optimal" if optimal else "nearest" if replacement else f"nearest, {order} first"
    again = "with" if replacement else "without"
    screen.say(f"{ratio} to 1 by {metric}, {how}, {again} replacement: {len(set(i)):,} units, {len(set(j)):,} partners")
    if len(found.dropped_):
        screen.say(f"{len(found.dropped_):,} units found nobody and are dropped: the effect is the {found.estimand_}")
    screen.say(f"largest |SMD| {abs(balance.smd[:, 0]).max():.4f} -> {balance.worst:.4f}; pairs in {out}")


@causal_app.command()
def graph(
    source: Annotated[
        str, typer.Argument(help="A line of text, 'z -> t; z -> y; t -> y', or a .dot or .gml file.", metavar="GRAPH")
    ],
    treatment: Annotated[str, typer.Option(help="The variable whose effect is asked for.", metavar="NAME")],
    outcome: Annotated[str, typer.Option(help="The variable that it has an effect on.", metavar="NAME")],
    unobserved: Annotated[
        str, typer.Option(help="Variables that nobody measured, with commas.", metavar="NAME,...")
    ] = "",
    json: Json = None,
    debug: Debug = False,
) -> None:
    """What to adjust for, and what not, read off a causal graph."""
    from contrastkit.causal.graph import identify, read

    found = identify(read(source), treatment, outcome, unobserved=_names(unobserved))

    def sets(some: list[tuple[str, ...]]) -> str:
        return " or ".join("{" + ", ".join(names) + "}" for names in some)

    back = sets(found.backdoor_sets) if found.backdoor_sets else "none: some path cannot be closed by what is observed"
    rows = [
        ("causal paths", "\n".join(found.causal) or "none: no effect"),
        (
            "back-door paths",
            "\n".join(p + (" (open)" if p in found.open_ else " (closed)") for p in found.backdoor) or "none",
        ),
        ("adjust for", back),
        ("front door", sets(found.frontdoor_sets) or "none"),
        ("instruments", ", ".join(found.instruments) or "none"),
        ("never adjust for", ", ".join(found.never) or "nothing is forbidden"),
        ("colliders: not alone", ", ".join(found.colliders) or "none"),
    ]
    screen.pairs(f"the effect of {treatment} on {outcome}", rows)
    if json is not None:
        from contrastkit.cli.main import write_json

        write_json(json, dataclasses.asdict(found))


def _weights(study: "Study", by: str, estimand: Any) -> Any:
    from contrastkit.causal.weighting import EntropyBalancing, InverseProbability

    if by == "entropy":
        return EntropyBalancing(estimand).fit(study.X, study.T).weights_
    return InverseProbability("ATO" if by == "overlap" else estimand).fit(study.X, study.T).weights_


def _names(columns: str) -> list[str]:
    return [name.strip() for name in columns.split(",") if name.strip()]


def _write(path: Path, columns: dict[str, Any]) -> None:
    import pandas as pd

    from contrastkit.checkpoint import write_text

    write_text(path.expanduser(), pd.DataFrame(columns).to_csv(index=False))


def _read(data: Path, treatment: str, covariates: str, outcome: str | None = None) -> "Study":
    from contrastkit.causal.study import read

    return read(data.expanduser(), treatment=treatment, outcome=outcome, covariates=_names(covariates))


def _short(value: float) -> str:
    return _number(value, 0 if abs(value) >= 100 else 2)


def _number(value: float, digits: int) -> str:
    return "" if math.isnan(value) else f"{value:,.{digits}f}"
