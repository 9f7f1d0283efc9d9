"""``contrastkit causal demo``: sources of correlation, in simulated worlds."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from contrastkit.bounds import Interval
from contrastkit.cli import screen
from contrastkit.cli.files import out_file
from contrastkit.cli.options import OutputOptions, Seed, takes_options
from contrastkit.cli.results import write_reports
from contrastkit.cli.tables import number

if TYPE_CHECKING:
    from contrastkit.causal.worlds import Adjustment, World


@takes_options
def demo(
    *,
    out: Annotated[Path, out_file("the graphs, the data and the estimates", ".png")] = Path("demo.png"),
    n: Annotated[int, typer.Option("--n", help="Rows simulated from each world."), Interval(1000, 10**6)] = 2000,
    seed: Seed = 0,
    output: OutputOptions,
) -> None:
    """Simulate confounding, selection, Simpson's paradox and more; show which adjustment recovers the true effect."""
    from contrastkit.causal.worlds import picture, visit

    visited = visit(n, seed)
    for world, _, adjustments in visited:
        _print(world, adjustments)
    picture(visited, out)
    screen.say(f"{out}: the causal graphs, the data and the estimates")
    write_reports([_as_json(world, adjustments) for world, _, adjustments in visited], output.json)


def _print(world: "World", adjustments: "list[Adjustment]") -> None:
    screen.paragraph(f"{world.name}: {world.sentence}")
    rows = [(row.name, *(number(v, 2) for v in (row.effect, row.se, row.error)), row.verdict) for row in adjustments]
    columns = ("adjusted for", "effect", "SE", "error", "")
    screen.table(f"{world.outcome} by {world.treatment}, truth {world.truth:g}", columns, rows, narrow=True)
    screen.say("")


def _as_json(world: "World", adjustments: "list[Adjustment]") -> dict[str, Any]:
    fields = ("name", "sentence", "graph", "treatment", "outcome", "truth")
    report = {name: getattr(world, name) for name in fields}
    return report | {"rows": [dataclasses.asdict(row) for row in adjustments]}
