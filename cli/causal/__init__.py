"""``contrastkit causal``: treatment effects under confounding, one file a command."""

import typer

from contrastkit.cli.causal import balance, demo, estimate, graph, match, propensity, refute, weight

causal_app = typer.Typer(no_args_is_help=True, help="Treatment effects under confounding.")
causal_app.command()(demo.demo)
causal_app.command()(graph.graph)
causal_app.command()(estimate.estimate)
causal_app.command()(balance.balance)
causal_app.command()(propensity.propensity)
causal_app.command()(weight.weight)
causal_app.command()(match.match)
causal_app.command()(refute.refute)
