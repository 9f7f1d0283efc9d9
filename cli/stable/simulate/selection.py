"""``contrastkit stable simulate selection``: regression under selection bias."""

from typing import Annotated

import typer

from contrastkit.cli.options import Debug, Seed
from contrastkit.cli.stable.options import OutCsv, Rows, Width, numbers
from contrastkit.cli.stable.simulate.environments import write
from contrastkit.stable.names import Mode


def selection(
    out: OutCsv,
    r: Annotated[
        str, typer.Option(help="Bias rate of each environment, separated by commas; 'test' for the paper's ten.")
    ] = "2.5",
    mode: Annotated[
        Mode, typer.Option(help="How the spurious features V depend on the stable features S.")
    ] = "independent",
    n: Rows = 2000,
    p: Width = 10,
    seed: Seed = 0,
    debug: Debug = False,
) -> None:
    """Simulate selection that correlates the outcome with features that have no effect on it (Kuang et al. 2020).

    Environments have independent random streams, also independent of a single environment with the same seed.
    """
    from contrastkit.stable.environments import selection_environments
    from contrastkit.stable.simulate import ENVIRONMENTS

    rates = ENVIRONMENTS if r == "test" else numbers("--r", r)
    write(out, selection_environments(rates, n, p, mode=mode, seed=seed))
