"""``contrastkit stable simulate collinear``: regression on collinear causes."""

from typing import Annotated

import typer

from contrastkit.cli.options import Debug, Seed
from contrastkit.cli.stable.options import OutCsv, Rows, Width, numbers
from contrastkit.cli.stable.simulate.environments import write


def collinear(
    out: OutCsv,
    rho: Annotated[
        str, typer.Option(help="Correlation within pairs of features in each environment, separated by commas.")
    ] = "0.8",
    n: Rows = 2000,
    p: Width = 10,
    seed: Seed = 0,
    debug: Debug = False,
) -> None:
    """Simulate pairs of correlated causes and a product term that a linear model misses (Shen et al. 2020).

    Environments have independent random streams, also independent of a single environment with the same seed.
    """
    from contrastkit.stable.environments import collinear_environments

    write(out, collinear_environments(numbers("--rho", rho), n, p, seed=seed))
