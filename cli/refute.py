"""``contrastkit causal refute``: attempts to refute an estimate."""

import dataclasses
from typing import Annotated, Any, Literal

import typer
from contrastkit.cli import screen
from contrastkit.cli.options import DataDir, Debug, Json, Seed
from contrastkit.cli.study import Components, Covariates, Outcome, Table, Treatment, names, read

from contrastkit.errors import UserError


def refute(
    data: Table,
    treatment: Treatment = None,
    outcome: Outcome = None,
    covariates: Covariates = "",
    components: Components = 10,
    data_dir: DataDir = None,
    estimator: Annotated[
        Literal[
            "naive", "ols", "oaxaca", "matching", "strata", "ipw", "overlap", "entropy", "cbps", "arb", "dcb", "aipw"
        ],
        typer.Option(help="Whose estimate is doubted. Of dcb, which knows none, the standard error is a jackknife's."),
    ] = "entropy",
    estimand: Annotated[Literal["ATT", "ATC", "ATE"], typer.Option(help="Whose effect it is.")] = "ATT",
    draws: Annotated[int, typer.Option(help="Times that a random attempt is made.", min=20)] = 50,
    placebo_outcome: Annotated[
        str | None, typer.Option(help="A column that the treatment cannot have changed.", metavar="COLUMN")
    ] = None,
    without: Annotated[
        str,
        typer.Option(help="Covariates that tell the placebo outcome: not adjusted for there.", metavar="COLUMN,..."),
    ] = "",
    gamma: Annotated[float, typer.Option(help="The hidden bias that matched pairs shall stand.", min=1)] = 1.25,
    seed: Seed = 0,
    json: Json = None,
    debug: Debug = False,
) -> None:
    """Try to refute an estimate; everything is fitted anew. Exit code 1 when an attempt succeeds: one says FAIL."""
    from contrastkit.causal.compare import estimators
    from contrastkit.causal.refute import digits, fitted
    from contrastkit.causal.refute import refute as attempts
    from contrastkit.causal.sets import NAMED

    study = read(data, treatment, covariates, data_dir, components, outcome=outcome, with_outcome=True)
    assert study.Y is not None
    known = estimators(estimand, seed=seed)
    if estimator not in known:
        raise UserError(f"{estimator} has no {estimand}: ask for another, or for {', '.join(known)}")
    placebo = None
    if placebo_outcome is not None:
        if placebo_outcome == study.outcome:
            raise UserError("the placebo outcome is another column than the outcome")
        given = names(covariates) or list(NAMED[data].covariates)
        for name in names(without):
            if name not in given:
                raise UserError(f"--without {name}: it is none of the covariates")
        kept = [name for name in given if name not in (placebo_outcome, *names(without))]
        if not kept:
            raise UserError("no covariates are left to adjust the placebo outcome for")
        other = read(data, treatment, ",".join(kept), data_dir, components, outcome=placebo_outcome, with_outcome=True)
        assert other.Y is not None
        placebo = placebo_outcome, other.X, other.Y
    elif without:
        raise UserError("--without is of a --placebo-outcome: name one")

    with screen.working("estimating"):
        first = fitted(known[estimator], study.X, study.T, study.Y, draws=draws, seed=seed)
    effect, se, low, high = map(digits, (first.effect_, first.se_, *first.interval()))
    what = f"{study.outcome} by {study.treatment}, {estimator}, {first.estimand_}"
    screen.say(f"{what}: {effect}, SE {se}, 95 % interval {low} to {high}")
    found = []
    with screen.counting("refuting", 6 + (placebo is not None)) as done:
        for verdict in attempts(study.X, study.T, study.Y, first, placebo=placebo, draws=draws, gamma=gamma, seed=seed):
            screen.paragraph(f"{'PASS' if verdict.passed else 'FAIL'}  {verdict.name}: {verdict.sentence}")
            found.append(verdict)
            done(1)
    for verdict in found:
        if "grid" in verdict.numbers:
            _grid(verdict.numbers)
    if placebo is None:
        screen.say("no --placebo-outcome was named: a column that the treatment cannot have changed says most")
    if json is not None:
        from contrastkit.cli.main import write_json

        estimate = {"estimator": estimator, "estimand": first.estimand_, "effect": first.effect_, "se": first.se_}
        write_json(json, {"estimate": estimate, "verdicts": [dataclasses.asdict(verdict) for verdict in found]})
    if not all(verdict.passed for verdict in found):
        raise typer.Exit(1)


def _grid(numbers: dict[str, Any]) -> None:
    from contrastkit.causal.refute import digits

    labels = [f"{strength:.0%}" for strength in numbers["strengths"]]
    rows = [
        (name, *("refused" if v is None else digits(v) for v in row))
        for name, row in zip(labels, numbers["grid"], strict=True)
    ]
    screen.table("the effect with a confounder", ["", *labels], rows, narrow=True)
    screen.say("its partial R^2 with the treatment: down; with the outcome: across")
