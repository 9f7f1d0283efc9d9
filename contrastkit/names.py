"""Names that the command line needs before torch is imported. Tests compare them with the tables they stand for."""

# What can be typed after `contrastkit train` -> the method whose recipes it names (methods.RECIPES: "method/row").
METHODS = {"moco": "moco-v2", "moco-v1": "moco-v1", "moco-v2": "moco-v2"}

SUMMARIES = {
    "moco": "Momentum contrast: the newest form, moco-v2.",
    "moco-v1": "Momentum contrast: a queue of keys and a slow key encoder (He et al. 2019).",
    "moco-v2": "MoCo with an MLP head, stronger views and a cosine schedule (Chen et al. 2020).",
}

VIEW_NAMES = ("moco-v1", "moco-v2", "moco-cifar", "simclr", "simclr-cifar", "byol", "digits")

DEFAULT_DATA = "affdigits"  # what every command works on when --data is not given
