"""``contrastkit causal model``: a structural model of a table."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from contrastkit.bounds import Interval
from contrastkit.causal.names import MechanismModel
from contrastkit.cli import screen
from contrastkit.cli.causal.options import TableOptions
from contrastkit.cli.options import OutputOptions, Seed, takes_options
from contrastkit.cli.results import write_reports
from contrastkit.cli.tables import column_names, number, precise
from contrastkit.errors import UserError

if TYPE_CHECKING:
    from contrastkit.causal.structure import Intervention, Structure


@takes_options
def model(
    *,
    table: TableOptions,
    graph: Annotated[
        str,
        typer.Option(help="Causal graph, as 'contrastkit causal graph' takes it, of columns.", metavar="GRAPH"),
    ],
    mechanism: Annotated[
        MechanismModel, typer.Option(help="How a variable depends on its causes: by lines, or by boosted trees too.")
    ] = "linear",
    do: Annotated[
        list[str] | None,
        typer.Option(help="Intervention, as in t=1 or t=1,dose=3; may be repeated.", metavar="NAME=VALUE,..."),
    ] = None,
    outcome: Annotated[
        str | None,
        typer.Option(help="With two values of one variable: its effects on this one, path by path.", metavar="NAME"),
    ] = None,
    counterfactual: Annotated[
        str | None,
        typer.Option(help="With --do: what would have been in this row, by number (from 0) or id.", metavar="ROW"),
    ] = None,
    categorical: Annotated[
        str, typer.Option(help="Variables that are levels although they are numbers.", metavar="COLUMN,...")
    ] = "",
    incomplete: Annotated[
        Literal["refuse", "drop"], typer.Option(help="Missing values: refuse them, or drop their rows.")
    ] = "refuse",
    draws: Annotated[int, typer.Option(help="Rows to simulate."), Interval(100, 10**6)] = 10_000,
    refits: Annotated[
        int,
        typer.Option(help="Samples of the bootstrap, for errors that know of the estimation; 0 for none."),
        Interval(0, 10**5),
    ] = 0,
    seed: Seed = 0,
    output: OutputOptions,
) -> None:
    """Fit a structural model to a causal graph; simulate interventions, and what would have been."""
    from contrastkit.causal.form import Form
    from contrastkit.causal.structure import structure

    form = Form(categorical=column_names(categorical), incomplete=incomplete)
    with screen.working("fitting"):
        found = structure(
            table.open(), graph, mechanism=mechanism, do=[_assignments(text) for text in do or ()], outcome=outcome,
            counterfactual=counterfactual, form=form, draws=draws, refits=refits, seed=seed,
        )  # fmt: skip
    _print(found)
    write_reports(found.as_json(), output.json)


def _assignments(text: str) -> dict[str, str]:
    pairs = [
        (name.strip(), equal, value.strip()) for name, equal, value in (p.partition("=") for p in column_names(text))
    ]
    names = [name for name, _, _ in pairs]
    if not pairs or not all(equal and name for name, equal, _ in pairs) or len({*names}) < len(names):
        raise UserError(f"--do {text}: give NAME=VALUE, or several with commas between, each name once")
    return {name: value for name, _, value in pairs}


def _print(found: "Structure") -> None:
    screen.lines(found.notices)
    rows = []
    for each in found.checks:
        cells = ("-" if value is None else number(value, 3) for value in (each.fit, each.noise, each.others))
        rows.append((each.variable, ", ".join(each.causes) or "-", *cells))
    columns = ("", "causes", "fit held out", "p, noise", "p, others")
    screen.table(f"mechanisms ({found.mechanism}), {found.n:,} rows", columns, rows, narrow=True)
    screen.say(
        "fit held out: share of the variance or deviance that causes predict. p, noise: that residuals are independent "
        "of causes. p, others: of what is neither cause nor effect"
    )
    if found.interventions:
        titles = [_title(i) or "as it is" for i in found.interventions]
        means = zip(*(i.means for i in found.interventions), strict=True)
        rows = [
            (row[0].name, *(_simulated(m.mean, m.mc_error if m.se is None else m.se) for m in row)) for row in means
        ]
        screen.table("means under interventions", ("", *titles), rows, narrow=True)
        screen.say(
            f"+-: standard error by {found.refits:,} samples of the bootstrap"
            if found.refits
            else f"+-: standard error of the simulation of {found.draws:,} rows; with --refits 100, that of the "
            "estimation too"
        )
    if found.total is not None:
        effects = [(" -> ".join(p.path), p) for p in found.paths] + [("all, at once", found.total)]
        rows = [(name, _simulated(p.effect, p.mc_error if p.se is None else p.se)) for name, p in effects]
        screen.table(f"effect on {found.outcome} along paths", ("", "effect"), rows, narrow=True)
    if found.counterfactuals:
        titles = [_title(i) for i in found.interventions[1:]]
        rows = [
            (c.name, precise(c.observed), *(_simulated(m.mean, m.mc_error) for m in c.would_be))
            for c in found.counterfactuals
        ]
        screen.table(f"row {found.row}, and what would have been", ("", "was", *titles), rows, narrow=True)
    screen.lines(f"remark: {remark}" for remark in found.remarks)


def _title(intervention: "Intervention") -> str:
    return ", ".join(f"{name}={value}" for name, value in intervention.do.items())


def _simulated(mean: float, error: float) -> str:
    """A mean with the error of its simulation, if it has one."""
    return precise(mean) if error <= 1e-9 * max(abs(mean), 1.0) else f"{precise(mean)} +- {error:.2g}"
