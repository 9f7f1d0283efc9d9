"""``contrastkit causal``: treatment effects under confounding, one file a command."""

from contrastkit.cli.groups import group

app = group(
    __name__, "demo", "graph", "estimate", "balance", "propensity", "weight", "match", "refute", "arms", "dose",
    help="Treatment effects under confounding.",
)  # fmt: skip
