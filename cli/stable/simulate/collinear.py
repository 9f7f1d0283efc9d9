"""``contrastkit stable simulate collinear``: regression on collinear causes."""

from typing import Annotated

import typer

from contrastkit.cli.options import OutputOptions, takes_options
from contrastkit.cli.results import write_reports
from contrastkit.cli.stable.options import EnvironmentOptions
from contrastkit.cli.tables import numbers


@takes_options
def collinear(
    *,
    rho: Annotated[
        str, typer.Option(help="Correlation within pairs of features, in each environment.", metavar="NUMBER,...")
    ] = "0.8",
    simulated: EnvironmentOptions,
    output: OutputOptions,
) -> None:
    """Simulate pairs of correlated causes and a product term that a linear model misses (Shen et al. 2020).

    Environments have independent random streams, also independent of a single environment with the same seed.
    """
    from contrastkit.stable.environments import collinear_environments

    environments = collinear_environments(numbers("--rho", rho), simulated.n, simulated.p, seed=simulated.seed)
    simulated.write(environments)
    write_reports(environments.as_json(), output.json)
