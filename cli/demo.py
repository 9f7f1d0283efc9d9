"""``contrastkit causal demo``: where correlation comes from, in simulated worlds."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer
from contrastkit.cli import screen
from contrastkit.cli.options import Debug, Json, Seed, writable
from contrastkit.cli.report import write_json
from contrastkit.cli.study import number


def demo(
    out: Annotated[Path, typer.Option(help="The picture to draw.", metavar="FILE", callback=writable)] = Path(
        "demo.png"
    ),
    n: Annotated[int, typer.Option("--n", help="Rows of each world.", min=1000)] = 2000,
    seed: Seed = 0,
    json: Json = None,
    debug: Debug = False,
) -> None:
    """Causation, confounding, selection, Simpson's paradox: what is seen, what is true, which adjustment tells."""
    from contrastkit.causal.worlds import picture, visit

    found = visit(n, seed)
    for world, _, analysts in found:
        screen.paragraph(f"{world.name}: {world.sentence}")
        rows = [(row.name, *(number(v, 2) for v in (row.effect, row.se, row.error)), row.verdict) for row in analysts]
        columns = ("adjusted for", "effect", "SE", "off by", "")
        screen.table(f"{world.outcome} by {world.treatment}, truth {world.truth:g}", columns, rows, narrow=True)
        screen.say("")
    picture(found, out)
    screen.say(f"{out}: their causes, their data, and what each analyst finds")
    if json is not None:
        told = ("name", "sentence", "graph", "treatment", "outcome", "truth")
        write_json(
            json,
            [
                {**{key: getattr(world, key) for key in told}, "rows": [dataclasses.asdict(row) for row in analysts]}
                for world, _, analysts in found
            ],
        )
