"""``contrastkit transfer``: what the features are worth at each place of an image, one file a command."""

from contrastkit.cli.groups import group

app = group(__name__, "segment", "detect", help="Segmentation and detection with a trained encoder.")
