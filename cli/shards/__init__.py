"""``contrastkit shards``: images in tars, one file a command."""

from contrastkit.cli.groups import group

app = group(__name__, "make", "index", "check", help="Sets too large for files: images in WebDataset tars.")
