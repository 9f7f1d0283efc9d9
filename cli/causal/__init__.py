"""``contrastkit causal``: treatment effects under confounding, one file a command."""

from contrastkit.cli.groups import group

app = group(
    __name__,
    "demo", "graph", "estimate", "arms", "dose", "survival", "effects", "balance", "propensity", "weight", "match",
    "refute", "iv", "front-door", "model", "report",
    help="Treatment effects under confounding.",
)  # fmt: skip
