"""``contrastkit stable simulate``: data whose spurious part changes between environments, one file a command."""

from contrastkit.cli.groups import group

app = group(
    __name__, "selection", "collinear", "confounded", "coloured",
    help="Simulate data with spurious correlations that change between environments.",
)  # fmt: skip
