"""``contrastkit stable``: predictors whose errors stay the same across environments, one file a command."""

from contrastkit.cli.groups import group

app = group(__name__, "simulate", "reweight", "fit", "evaluate", help="Predictors that are stable across environments.")
