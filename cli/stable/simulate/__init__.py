"""``contrastkit stable simulate``: data whose spurious part changes between environments, one file a command."""

import typer

from contrastkit.cli.stable.simulate import collinear, coloured, confounded, selection

simulate_app = typer.Typer(
    no_args_is_help=True, help="Simulate data with spurious correlations that change between environments."
)
simulate_app.command()(selection.selection)
simulate_app.command()(collinear.collinear)
simulate_app.command()(confounded.confounded)
simulate_app.command()(coloured.coloured)
