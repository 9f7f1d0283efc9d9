"""``contrastkit stable simulate selection``: regression under selection bias."""

from typing import Annotated

import typer

from contrastkit.cli.options import OutputOptions, takes_options
from contrastkit.cli.results import write_reports
from contrastkit.cli.stable.options import EnvironmentOptions
from contrastkit.cli.tables import numbers
from contrastkit.stable.names import Mode


@takes_options
def selection(
    *,
    r: Annotated[
        str, typer.Option(help="Bias rate of each environment; test for the paper's ten.", metavar="NUMBER,...|test")
    ] = "2.5",
    mode: Annotated[
        Mode, typer.Option(help="How the spurious features V depend on the stable features S.")
    ] = "independent",
    simulated: EnvironmentOptions,
    output: OutputOptions,
) -> None:
    """Simulate selection that correlates the outcome with features that have no effect on it (Kuang et al. 2020).

    Environments have independent random streams, also independent of a single environment with the same seed.
    """
    from contrastkit.stable.environments import selection_environments
    from contrastkit.stable.simulate import ENVIRONMENTS

    rates = ENVIRONMENTS if r == "test" else numbers("--r", r)
    environments = selection_environments(rates, simulated.n, simulated.p, mode=mode, seed=simulated.seed)
    simulated.write(environments)
    write_reports(environments.as_json(), output.json)
