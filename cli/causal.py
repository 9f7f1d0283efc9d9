"""``contrastkit causal``: what a treatment does, when those who got it were others than those who did not."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from contrastkit.cli import screen
from contrastkit.cli.demo import demo
from contrastkit.cli.options import DataDir, Debug, Json, Seed, writable
from contrastkit.cli.refute import refute
from contrastkit.cli.study import (
    Components,
    Covariates,
    Outcome,
    Table,
    Treatment,
    names,
    number,
    precise,
    read,
    short,
    write,
)

from contrastkit.errors import UserError

if TYPE_CHECKING:
    from contrastkit.causal.study import Study

OVERLAP = 0.25  # of the scores' distributions, below which it is said

causal_app = typer.Typer(no_args_is_help=True, help="Measure the effect of a treatment in the presence of confounders.")
causal_app.command()(demo)
causal_app.command()(refute)

WeightEstimand = Annotated[Literal["ATT", "ATC", "ATE"], typer.Option(help="Whose effect the weights are for.")]
Trim = Annotated[
    str,
    typer.Option(help="For ipw: leave out scores below this and above one less it; crump chooses.", metavar="A|crump"),
]


@causal_app.command()
def estimate(
    data: Table,
    treatment: Treatment = None,
    outcome: Outcome = None,
    covariates: Covariates = "",
    components: Components = 10,
    data_dir: DataDir = None,
    estimand: Annotated[
        Literal["ATT", "ATC", "ATE", "ATO"],
        typer.Option(
            help="The effect on the treated, the others, all, or those who could have been either; the table says who "
            "has another."
        ),
    ] = "ATT",
    error: Annotated[
        Literal["balanced", "hc1"],
        typer.Option(
            help="Entropy balancing's standard error: balanced knows that weights were chosen; hc1, as most tables "
            "have it, takes them as given, and is too wide where covariates explain the outcome."
        ),
    ] = "balanced",
    benchmark: Annotated[
        float | None,
        typer.Option(help="The truth, of an experiment say (named sets know it): how far each is from it is shown."),
    ] = None,
    seed: Seed = 0,
    json: Json = None,
    debug: Debug = False,
) -> None:
    """All estimators on the same data, in one table."""
    from contrastkit.causal.compare import compare
    from contrastkit.causal.propensity import Propensity

    study = read(data, treatment, covariates, data_dir, components, outcome=outcome, with_outcome=True)
    assert study.Y is not None
    truth = study.truth if benchmark is None else benchmark
    if study.X.shape[1] < len(study.T):
        Propensity().fit(study.X, study.T)  # who cannot be compared is said once, not by each estimator
    with screen.working("estimating"):
        rows = list(compare(study.X, study.T, study.Y, estimand=estimand, error=error, seed=seed))
    columns = ["", "of", "effect", "SE", "low", "high", "ESS", "|SMD|"]
    shown = []
    for row in rows:
        if row.refused:
            continue
        exact, rough = (row.effect, row.se), (row.low, row.high)
        cells = [row.name, row.estimand, *(precise(v) for v in exact), *(short(v) for v in rough)]
        cells += [number(row.ess, 1), number(row.smd, 3)]
        shown.append(cells + ([short(row.effect - truth)] if truth is not None else []))
    if truth is not None:
        columns.append("off by")
    treated = int(study.T.sum())
    told = "" if truth is None else f"; truth {truth:,.2f}"
    screen.table(
        f"{study.outcome} by {study.treatment}: {treated:,} treated, {len(study.T) - treated:,} not{told}",
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

        write_json(json, {"benchmark": truth, "rows": [dataclasses.asdict(row) for row in rows]})


@causal_app.command()
def balance(
    data: Table,
    treatment: Treatment = None,
    outcome: Outcome = None,
    covariates: Covariates = "",
    components: Components = 10,
    data_dir: DataDir = None,
    by: Annotated[
        Literal["none", "matching", "coarsened", "ipw", "overlap", "entropy", "cbps", "arb", "dcb", "global"],
        typer.Option(help="What makes the arms alike; dcb looks at the outcome too."),
    ] = "entropy",
    weights: Annotated[
        Path | None,
        typer.Option(help="Instead: the column weight of this .csv, a row for each of the table's.", metavar="FILE"),
    ] = None,
    estimand: WeightEstimand = "ATT",
    trim: Trim = "0",
    plot: Annotated[
        Path | None, typer.Option(help="Draw a love plot into this .png.", metavar="FILE", callback=writable)
    ] = None,
    json: Json = None,
    debug: Debug = False,
) -> None:
    """Are the arms alike, before and after? Exit code 1 when a standardised mean difference above 0.1 is left."""
    from contrastkit.causal.diagnostics import THRESHOLD, balance_table, love_plot
    from contrastkit.tables.files import read_weights

    study = read(data, treatment, covariates, data_dir, components, outcome=outcome, with_outcome=by == "dcb")
    w, of, how = None, str(estimand), str(by)
    if weights is not None:
        w, how = read_weights(weights.expanduser(), len(study.T)), weights.name
    elif by != "none":
        w, of = _weights(study, by, estimand, trim)
    found = balance_table(study.X, study.T, w, estimand=of.split()[0])
    rows = [
        (name, *(number(v, 4) for v in (*smd, *ratio, *ks)))
        for name, smd, ratio, ks in zip(found.names, found.smd, found.variance_ratio, found.ks, strict=True)
    ]
    columns = ("", "SMD", "after", "variance ratio", "after", "KS", "after")
    screen.table(f"balance by {how}, of the {of}", columns, rows)
    (a, b), (c, d) = found.n
    screen.say(f"effective sample: treated {a:,.1f} -> {b:,.1f}, controls {c:,.1f} -> {d:,.1f}")
    screen.say(f"largest |SMD| {found.worst:.4f}: {'above' if found.worst > THRESHOLD else 'within'} {THRESHOLD}")
    whose = {"ATT": "the treated's", "ATC": "the controls'"}.get(of.split()[0], "both arms' mean")
    screen.say(f"SMD: over {whose} variance before weighting, rooted; p (1 - p) for 0 and 1 (cobalt's conventions)")
    if plot is not None:
        love_plot(found, plot, after=how)
        screen.say(f"love plot in {plot}")
    if json is not None:
        from contrastkit.cli.main import write_json

        arrays = {k: v.tolist() for k, v in vars(found).items() if k != "names"}
        write_json(json, {"by": how, "estimand": of, "names": found.names, **arrays})
    if found.worst > THRESHOLD:
        raise typer.Exit(1)


@causal_app.command()
def propensity(
    data: Table,
    treatment: Treatment = None,
    covariates: Covariates = "",
    components: Components = 10,
    data_dir: DataDir = None,
    model: Annotated[
        Literal["logistic", "boosting", "forest"],
        typer.Option(help="logistic by maximum likelihood; gradient boosting or a random forest, cross-fitted."),
    ] = "logistic",
    folds: Annotated[
        int | None, typer.Option(help="Of cross-fitting; else 0 for logistic, 5 for others.", min=0)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write to this .csv, a row each: the score, and whether Crump's trimming keeps it.",
            metavar="FILE",
            callback=writable,
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Draw the arms' scores and their calibration into this .png.", metavar="FILE", callback=writable
        ),
    ] = None,
    seed: Seed = 0,
    debug: Debug = False,
) -> None:
    """Who gets the treatment: scores, what they are worth, and whether the arms overlap."""
    import numpy as np
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier

    from contrastkit.causal.propensity import Propensity, calibration, crump, overlap_plot, within

    study = read(data, treatment, covariates, data_dir, components)
    seed %= 2**32  # scikit-learn takes no larger one
    classifiers = {
        "logistic": None,
        "boosting": HistGradientBoostingClassifier(random_state=seed),
        "forest": RandomForestClassifier(min_samples_leaf=20, random_state=seed),
    }
    cut = folds if folds is not None else 0 if model == "logistic" else 5
    found = Propensity(classifiers[model], folds=cut, seed=seed).fit(study.X, study.T)
    e, t = found.scores_, study.T
    levels = (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)
    rows = [(name, *(f"{v:.4f}" for v in np.quantile(e[arm], levels))) for name, arm in (("treated", t), ("not", ~t))]
    columns = ("", "least", "5 %", "25 %", "median", "75 %", "95 %", "most")
    screen.table(f"propensity of {study.treatment}, {model}; AUC {found.auc_:.3f}", columns, rows)
    mean, share, _ = calibration(e, t).T
    far = np.abs(share - mean)
    screen.say(
        f"calibration: by tenths of the scores, {far.max():.4f} between score and share treated at most "
        f"({mean[far.argmax()]:.4f} said, {share[far.argmax()]:.4f} treated)"
    )
    if found.clipped_:
        screen.say(f"{found.clipped_:,} scores were nearer than 1e-6 to 0 or 1, and set there")
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
        write(out, {"propensity": e, "kept": kept.astype(int)})
    if plot is not None:
        overlap_plot(e, t, plot)


@causal_app.command()
def weight(
    data: Table,
    out: Annotated[Path, typer.Option(help="The .csv of weights, a row each.", metavar="FILE", callback=writable)],
    treatment: Treatment = None,
    outcome: Outcome = None,
    covariates: Covariates = "",
    components: Components = 10,
    data_dir: DataDir = None,
    by: Annotated[
        Literal["ipw", "overlap", "entropy", "cbps", "arb", "dcb", "global"],
        typer.Option(
            help="How the arms are made alike: inverse propensity, overlap weights, entropy balancing, covariate "
            "balancing propensity, approximate (arb) or differentiated (dcb, which looks at the outcome) confounder "
            "balancing, or global: each covariate balanced as a treatment too."
        ),
    ] = "entropy",
    estimand: WeightEstimand = "ATT",
    scale: Annotated[
        Literal["hajek", "stabilised", "raw"],
        typer.Option(help="For ipw: mean 1 in each arm, stabilised by P(T), or one over the probability."),
    ] = "hajek",
    trim: Trim = "0",
    debug: Debug = False,
) -> None:
    """Weights that make the arms alike; none are written where there are none."""
    from contrastkit.causal.diagnostics import balance_table

    study = read(data, treatment, covariates, data_dir, components, outcome=outcome, with_outcome=by == "dcb")
    w, of = _weights(study, by, estimand, trim, scale)
    found = balance_table(study.X, study.T, w, estimand=of.split()[0])
    write(out, {"weight": w})
    (a, b), (c, d) = found.n
    screen.say(f"{out}: {of}, effective sample treated {a:,.0f} -> {b:,.1f}, others {c:,.0f} -> {d:,.1f}")
    screen.say(f"largest |SMD| {abs(found.smd[:, 0]).max():.4f} -> {found.worst:.4f}")


@causal_app.command()
def match(
    data: Table,
    out: Annotated[
        Path,
        typer.Option(
            help="The .csv of pairs, rows from 0; of strata and weights, a row each, for coarsened.",
            metavar="FILE",
            callback=writable,
        ),
    ],
    treatment: Treatment = None,
    outcome: Outcome = None,
    covariates: Covariates = "",
    components: Components = 10,
    data_dir: DataDir = None,
    estimand: Annotated[Literal["ATT", "ATC", "ATE"], typer.Option(help="Who looks for partners.")] = "ATT",
    metric: Annotated[
        Literal["logit", "propensity", "mahalanobis", "robust", "scaled", "euclidean", "cosine", "coarsened"],
        typer.Option(
            help="What is near: a score, a distance of the covariates, or to be in the same bin of each (coarsened)."
        ),
    ] = "logit",
    ratio: Annotated[int, typer.Option(help="Partners of each.", min=1)] = 1,
    replacement: Annotated[bool, typer.Option(help="A partner may serve again.")] = True,
    ties: Annotated[
        bool, typer.Option(help="With replacement, keep all partners that are equally near, each with its share.")
    ] = True,
    order: Annotated[
        Literal["largest", "smallest", "random", "data"], typer.Option(help="Who chooses first, without replacement.")
    ] = "largest",
    caliper: Annotated[
        float | None, typer.Option(help="Nobody farther is a partner; in standard deviations of a score.", min=0)
    ] = None,
    exact: Annotated[str, typer.Option(help="Columns on which partners must agree.", metavar="COLUMN,...")] = "",
    bins: Annotated[
        str, typer.Option(help="Of each column when coarsened: a number, or sturges, scott, fd.", metavar="N|RULE")
    ] = "sturges",
    optimal: Annotated[bool, typer.Option("--optimal", help="The least sum of distances over all pairs.")] = False,
    seed: Seed = 0,
    debug: Debug = False,
) -> None:
    """Partners for the units of an arm, and the effect if there is an outcome; who finds none is dropped, and said."""
    from contrastkit.causal.coarsened import CoarsenedExact
    from contrastkit.causal.diagnostics import balance_table
    from contrastkit.causal.estimate import Estimator, Matched, Weighted
    from contrastkit.causal.matching import Matching
    from contrastkit.causal.sets import NAMED

    asked = outcome is not None or data in NAMED
    study = read(data, treatment, covariates, data_dir, components, outcome=outcome, with_outcome=asked)
    wanted = names(exact)
    for name in wanted:
        if name not in study.X.origins:
            raise UserError(f"--exact {name}: it is none of the covariates")
    if metric == "coarsened" and (ratio > 1 or not replacement or caliper is not None or wanted or optimal):
        raise UserError("coarsened strata know no ratio, replacement, caliper, exact or optimal: leave these out")
    if metric != "coarsened" and bins != "sturges":
        raise UserError("--bins is of --metric coarsened")
    found: Any
    if metric == "coarsened":
        if not (bins.isdecimal() and int(bins) > 0 or bins in ("sturges", "scott", "fd")):
            raise UserError(f"--bins {bins}: a number of bins from 1, or sturges, scott or fd")
        rule: Any = int(bins) if bins.isdecimal() else bins
        found = CoarsenedExact(estimand, bins=rule).fit(study.X, study.T)
        write(out, {"stratum": found.strata_, "weight": found.weights_})
        kept = found.strata_ >= 0
        told = f"{found.strata_.max() + 1:,} strata by {bins} bins with both arms: {kept.sum():,} of {len(kept):,}"
    else:
        agree = tuple(j for j, name in enumerate(study.X.origins) if name in wanted)
        found = Matching(
            estimand, metric=metric, ratio=ratio, replacement=replacement, order=order, caliper=caliper, exact=agree,
            ties=ties, optimal=optimal, seed=seed,
        ).fit(study.X, study.T)  # fmt: skip
        i, j = found.pairs_.T
        write(out, {"unit": i, "partner": j, "share": found.shares_, "distance": found.distances_})
        turn = "optimal" if optimal else "nearest" if replacement else f"nearest, {order} first"
        again = "with" if replacement else "without"
        told = f"{ratio} to 1 by {metric}, {turn}, {again} replacement: {len(set(i)):,} units, {len(set(j)):,} partners"
    balance = balance_table(study.X, study.T, found.weights_, estimand=estimand)
    screen.say(told)
    if len(found.dropped_):
        screen.say(f"{len(found.dropped_):,} units found nobody and are dropped: the effect is the {found.estimand_}")
    screen.say(f"largest |SMD| {abs(balance.smd[:, 0]).max():.4f} -> {balance.worst:.4f}; written to {out}")
    if study.Y is not None:
        how: Estimator = Weighted(found) if metric == "coarsened" else Matched(found)
        done = how.fit(study.X, study.T, study.Y)
        low, high = map(short, done.interval())
        kind = "of the strata" if metric == "coarsened" else "with bias correction"
        screen.say(
            f"effect on {study.outcome} ({done.estimand_}), {kind}: {precise(done.effect_)}, SE {precise(done.se_)}, "
            f"95 % interval {low} to {high}"
        )


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
    dowhy: Annotated[
        bool, typer.Option("--dowhy", help="Show what the package dowhy, if installed, makes of it too.")
    ] = False,
    json: Json = None,
    debug: Debug = False,
) -> None:
    """What to adjust for, and what not, read off a causal graph."""
    from contrastkit.causal.graph import by_dowhy, identify
    from contrastkit.causal.graph import read as parsed

    drawn = parsed(source)
    found = identify(drawn, treatment, outcome, unobserved=names(unobserved))

    def sets(some: list[tuple[str, ...]]) -> str:
        return " or ".join("{" + ", ".join(variables) + "}" for variables in some)

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
    if dowhy:
        rows.append(("by dowhy", by_dowhy(drawn, treatment, outcome, unobserved=names(unobserved))))
    screen.pairs(f"the effect of {treatment} on {outcome}", rows)
    if json is not None:
        from contrastkit.cli.main import write_json

        write_json(json, dataclasses.asdict(found))


def _weights(study: "Study", by: str, estimand: Any, trim: str, scale: Any = "hajek") -> tuple[Any, str]:
    """The weights [n] that ``by`` names, and what they estimate."""
    from contrastkit.causal.coarsened import CoarsenedExact
    from contrastkit.causal.direct_balancing import DifferentiatedConfounderBalancing
    from contrastkit.causal.matching import Matching
    from contrastkit.causal.weighting import (
        ApproximateBalancing,
        CovariateBalancing,
        EntropyBalancing,
        GlobalBalancing,
        InverseProbability,
    )

    if by != "ipw" and (_alpha(trim) != 0 or scale != "hajek"):
        raise UserError("--trim and --scale are of --by ipw")
    if by == "overlap" and estimand != "ATT":
        raise UserError(f"overlap weights have their own population, not the {estimand}: leave --estimand out")
    if by in ("arb", "dcb") and estimand == "ATE":
        raise UserError(f"{by} weights one arm towards the other: ask for the ATT or the ATC")
    if by == "dcb":
        dcb = DifferentiatedConfounderBalancing(estimand).fit(study.X, study.T, study.Y)
        return dcb.weights_, dcb.estimand_
    weighting: Any = {
        "ipw": lambda: InverseProbability(estimand, trim=_alpha(trim), scale=scale),
        "overlap": lambda: InverseProbability("ATO"),
        "entropy": lambda: EntropyBalancing(estimand),
        "cbps": lambda: CovariateBalancing(estimand),
        "arb": lambda: ApproximateBalancing(estimand),
        "global": GlobalBalancing,
        "matching": lambda: Matching(estimand, metric="mahalanobis"),
        "coarsened": lambda: CoarsenedExact(estimand),
    }[by]()
    done = weighting.fit(study.X, study.T)
    return done.weights_, done.estimand_


def _alpha(trim: str) -> float | Literal["crump"]:
    if trim == "crump":
        return "crump"
    try:
        return float(trim)
    except ValueError as error:
        raise UserError(f"--trim {trim}: a number in [0, 0.5), or crump") from error
