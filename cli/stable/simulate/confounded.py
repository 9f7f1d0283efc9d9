"""``contrastkit stable simulate confounded``: a treatment with confounders."""

from typing import Annotated

import typer

from contrastkit.bounds import COUNT, SHARE
from contrastkit.cli import screen
from contrastkit.cli.options import OutputOptions, Seed, takes_options
from contrastkit.cli.results import write_reports
from contrastkit.cli.stable.options import OutRows, Width
from contrastkit.cli.tables import write_csv


@takes_options
def confounded(
    *,
    out: OutRows,
    rate: Annotated[float, typer.Option(help="Share of the features that influence the treatment."), SHARE] = 0.2,
    n: Annotated[int, typer.Option(help="Number of rows."), COUNT] = 2000,
    p: Width = 50,
    seed: Seed = 0,
    output: OutputOptions,
) -> None:
    """Simulate a treatment confounded by causes of the outcome, for 'contrastkit causal' (Kuang et al. 2017)."""
    from contrastkit.stable import simulate

    trial = simulate.confounded(n, p, rate=rate, seed=seed)
    write_csv(out, trial.columns())
    screen.say(f"{out}: {n:,} rows, {int(trial.T.sum()):,} treated")
    screen.say(f"effect on the treated {trial.att:.4f}, difference in means {trial.difference_in_means:.4f}")
    write_reports(trial.as_json(), output.json)
