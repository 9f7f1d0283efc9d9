"""``contrastkit causal graph``: what to adjust for, according to a causal graph."""

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from contrastkit.cli import screen
from contrastkit.cli.options import OutputOptions, takes_options
from contrastkit.cli.results import write_reports
from contrastkit.cli.tables import column_names

if TYPE_CHECKING:
    from contrastkit.causal.graph import Identified


@takes_options
def graph(
    *,
    source: Annotated[
        str,
        typer.Argument(
            help="Edges such as 'z -> t; z -> y; t -> y', with <-> for a hidden common cause; a graph of dagitty, as "
            "text or in a .dag or .txt file; or a .dot or .gml file.",
            metavar="GRAPH",
        ),
    ],
    treatment: Annotated[
        str | None, typer.Option(help="Treatment variable \\[that marked as exposure].", metavar="NAME")
    ] = None,
    outcome: Annotated[
        str | None, typer.Option(help="Outcome variable \\[that marked as outcome].", metavar="NAME")
    ] = None,
    unobserved: Annotated[
        str, typer.Option(help="Variables that are not measured, separated by commas.", metavar="NAME,...")
    ] = "",
    dowhy: Annotated[
        bool, typer.Option("--dowhy", help="Also show what the package dowhy identifies, if installed.")
    ] = False,
    output: OutputOptions,
) -> None:
    """Find which variables to adjust for in a causal graph, and which not to."""
    from contrastkit.causal.graph import by_dowhy, identify, question, read

    causes = read(source)
    hidden = column_names(unobserved)
    treatment, outcome = question(causes, treatment, outcome)
    identified = identify(causes, treatment, outcome, unobserved=hidden)
    rows = _rows(identified)
    if dowhy:
        rows.append(("according to dowhy", by_dowhy(causes, treatment, outcome, unobserved=hidden)))
    screen.pairs(f"effect of {treatment} on {outcome}", rows)
    write_reports(dataclasses.asdict(identified), output.json)


def _rows(identified: "Identified") -> list[tuple[str, str]]:
    backdoor = [f"{path} ({'open' if path in identified.open_ else 'closed'})" for path in identified.backdoor]
    no_set = "no set of observed variables closes every back-door path"
    suffices = "closes every back-door path" if identified.adjusted_suffices else "is no set to adjust for"
    adjusted = f"{_sets([tuple(identified.adjusted)])} {suffices}"
    return [
        *([("adjusted for, says the graph", adjusted)] if identified.adjusted else []),
        ("causal paths", "\n".join(identified.causal) or "none: no effect"),
        ("back-door paths", "\n".join(backdoor) or "none"),
        ("adjust for", _sets(identified.backdoor_sets) or no_set),
        ("front door", _sets(identified.frontdoor_sets) or "none"),
        ("instruments", ", ".join(identified.instruments) or "none"),
        ("never adjust for", ", ".join(identified.never) or "none"),
        ("colliders (adjusting opens a path)", ", ".join(identified.colliders) or "none"),
    ]


def _sets(sets: list[tuple[str, ...]]) -> str:
    return " or ".join("{" + ", ".join(variables) + "}" for variables in sets)
