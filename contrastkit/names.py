"""Names that the command line needs before torch is imported. Tests compare them with the tables they stand for."""

# What can be typed after `contrastkit train` -> the method whose recipes it names (methods.RECIPES: "method/row").
METHODS = {
    "instdisc": "instdisc",
    "invaspread": "invaspread",
    "cpc-v1": "cpc-v1",
    "cpc": "cpc-v2",
    "cpc-v2": "cpc-v2",
    "cmc": "cmc",
    "moco-v1": "moco-v1",
    "simclr": "simclr-v1",
    "simclr-v1": "simclr-v1",
    "moco": "moco-v2",
    "moco-v2": "moco-v2",
    "simclr-v2": "simclr-v2",
    "swav": "swav",
    "byol": "byol",
    "simsiam": "simsiam",
    "moco-v3": "moco-v3",
    "dino": "dino",
}

SUMMARIES = {
    "instdisc": "Instance discrimination: a memory bank of all images, NCE or softmax (Wu et al. 2018).",
    "invaspread": "Invariant and spreading features: the batch as the dictionary (Ye et al. 2019).",
    "cpc-v1": "Contrastive predictive coding: predict the patches below from those above (van den Oord et al. 2018).",
    "cpc": "Contrastive predictive coding: its newest form, cpc-v2.",
    "cpc-v2": "CPC from four sides, with layer norm and patch-wise augmentation (Henaff et al. 2019).",
    "cmc": "Contrastive multiview coding: brightness against colour, an encoder each (Tian et al. 2019).",
    "moco-v1": "Momentum contrast: a queue of keys and a slow key encoder (He et al. 2019).",
    "simclr": "A simple framework for contrastive learning: its first form, simclr-v1.",
    "simclr-v1": "SimCLR: each view finds the other in a large batch, through a projector (Chen et al. 2020).",
    "moco": "Momentum contrast: the newest form, moco-v2.",
    "moco-v2": "MoCo with an MLP head, stronger views and a cosine schedule (Chen et al. 2020).",
    "simclr-v2": "SimCLR with a deeper projector, whose first layer is kept (Chen et al. 2020).",
    "swav": "Swapped assignments between views: predict another crop's cluster, multi-crop (Caron et al. 2020).",
    "byol": "Bootstrap your own latent: predict a slow average of oneself, no negatives (Grill et al. 2020).",
    "simsiam": "Simple Siamese: predict the other view, stop-gradient, no negatives (Chen & He 2020).",
    "moco-v3": "MoCo within the batch, with a predictor, for vision transformers too (Chen et al. 2021).",
    "dino": "Self-distillation with no labels: match a slow, sharpened teacher's outputs (Caron et al. 2021).",
}

VIEW_NAMES = ("instdisc", "instdisc-cifar", "cpc-v1", "cpc-v1-patches", "cpc-v2", "cpc-v2-patches", "cpc-cifar", "cpc-cifar-patches", "cmc", "cmc-32", "moco-v1", "moco-v2", "moco-cifar", "simclr", "simclr-cifar", "byol", "byol-cifar", "swav", "swav-small", "swav-cifar", "moco-v3", "moco-v3-vit", "dino", "dino-r50", "dino-32", "digits")

DEFAULT_DATA = "affdigits"  # what every command works on when --data is not given
