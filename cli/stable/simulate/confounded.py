"""``contrastkit stable simulate confounded``: a treatment with confounders."""

from typing import Annotated

import typer

from contrastkit.cli import screen
from contrastkit.cli.options import Debug, Seed
from contrastkit.cli.stable.options import OutCsv, Rows, Width
from contrastkit.cli.tables import write_csv


def confounded(
    out: OutCsv,
    rate: Annotated[float, typer.Option(help="Share of the features that influence the treatment.")] = 0.2,
    n: Rows = 2000,
    p: Width = 50,
    seed: Seed = 0,
    debug: Debug = False,
) -> None:
    """Simulate a treatment confounded by causes of the outcome, for 'contrastkit causal' (Kuang et al. 2017)."""
    from contrastkit.stable import simulate

    trial = simulate.confounded(n, p, rate=rate, seed=seed)
    write_csv(out, trial.columns())
    screen.say(f"{out}: {n:,} rows, {int(trial.T.sum()):,} treated")
    screen.say(f"effect on the treated {trial.att:.4f}, difference in means {trial.difference_in_means:.4f}")
