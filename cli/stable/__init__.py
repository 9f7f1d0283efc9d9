"""``contrastkit stable``: predictors whose errors stay the same across environments, one file a command."""

import typer

from contrastkit.cli.stable import evaluate, fit, reweight
from contrastkit.cli.stable.simulate import simulate_app

stable_app = typer.Typer(no_args_is_help=True, help="Predictors that are stable across environments.")
stable_app.add_typer(simulate_app, name="simulate")
stable_app.command()(reweight.reweight)
stable_app.command()(fit.fit)
stable_app.command()(evaluate.evaluate)
