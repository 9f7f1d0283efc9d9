"""Fine-tuning protocols: their numbers (:class:`FinetuneProtocol`), and the rows of the papers (:data:`PROTOCOLS`).

This module imports no torch, for the help of ``contrastkit finetune``.
"""

import math
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from contrastkit.bounds import (
    BATCH,
    BELOW_1,
    COUNT_OR_0,
    EPOCHS,
    NOT_NEGATIVE,
    PERIOD,
    SHARE,
    Interval,
    check_choices,
    check_fields,
)
from contrastkit.errors import UserError


@dataclass(frozen=True, kw_only=True)
class FinetuneProtocol:
    """The numbers of a fine-tuning. Each field is an option of ``contrastkit finetune``; its note is the help, its
    interval (:mod:`contrastkit.bounds`) is checked."""

    layers: Annotated[
        int | None, "train the last K stages (ResNets) or blocks (ViTs); 0: the classifier alone; none: all", COUNT_OR_0
    ] = None
    head_layers: Annotated[
        int, "hidden layers of the method's projection head to keep below the classifier (SimCLR v2, Sec. 2)",
        COUNT_OR_0,
    ] = 0  # fmt: skip
    head_std: Annotated[float, "the classifier starts at N(0, this), biases at 0; 0: at zero", NOT_NEGATIVE] = 0.0
    batch_norm: Annotated[
        Literal["train", "eval"], "statistics of batch norm: train: of the batch, and updated; eval: as pretrained"
    ] = "train"
    epochs: Annotated[int, "passes over the labelled training images", EPOCHS]
    train_batch: Annotated[int, "largest number of images per step; an epoch is cut into equal batches", BATCH]
    optimizer: Annotated[Literal["sgd", "lars", "adamw"], "optimizer"] = "sgd"
    lr: Annotated[
        tuple[float, ...],
        "learning rate of the classifier; of several, one is chosen on held-out training images",
        NOT_NEGATIVE,
    ]
    encoder_lr: Annotated[float, "factor on the learning rate of the encoder", NOT_NEGATIVE] = 1.0
    layer_decay: Annotated[
        float, "factor on the learning rate from each layer to the one before (BEiT, MAE)", Interval(0, 1, above=True)
    ] = 1.0
    momentum: Annotated[float, "momentum of SGD and LARS", BELOW_1] = 0.9
    nesterov: Annotated[bool, "SGD: Nesterov's momentum"] = False
    weight_decay: Annotated[float, "weight decay, except of biases, norms, positions and class tokens", NOT_NEGATIVE]
    schedule: Annotated[Literal["cosine", "step", "constant"], "schedule of the learning rate"] = "cosine"
    milestones: Annotated[tuple[float, ...], "step schedule: fractions of training at which the rate drops", SHARE] = (
        0.6,
        0.8,
    )
    gamma: Annotated[float, "step schedule: factor applied at each milestone", NOT_NEGATIVE] = 0.1
    warmup_epochs: Annotated[float, "epochs of linear warm-up from 0", PERIOD] = 0.0
    crop_min: Annotated[float, "smallest random crop, as a share of the image's area", SHARE] = 0.08
    flip_p: Annotated[
        float | None, "probability of a horizontal flip; none: 0.5, or 0 where orientation carries the class", SHARE
    ] = None
    interpolation: Annotated[Literal["bilinear", "bicubic"], "how crops are resized"] = "bilinear"
    mixup: Annotated[
        float, "alpha of mixup's Beta(alpha, alpha) (Zhang et al. 2017, Sec. 2); 0 disables it", NOT_NEGATIVE
    ] = 0.0
    smoothing: Annotated[
        float, "label smoothing: share of the target that all classes have in common (Szegedy et al. 2015, Sec. 7)",
        BELOW_1,
    ] = 0.0  # fmt: skip
    drop_path: Annotated[float, "fraction of residual branches dropped, in timm's models", BELOW_1] = 0.0

    def __post_init__(self) -> None:
        check_choices(self)
        check_fields(self)
        if not self.lr:
            raise UserError("--lr needs at least one learning rate")
        if not self.crop_min:
            raise UserError("--crop-min must be above 0")
        if self.nesterov and (self.optimizer != "sgd" or not self.momentum):
            raise UserError("--nesterov applies to --optimizer sgd with momentum only")


# SimCLR v2: the official README's command for 1 % of the labels: LARS at 0.005 sqrt(1024), a classifier at zero, no
# weight decay, no warm-up, cosine, statistics of the global batch (global_bn), crop and flip (data_util.py), bicubic;
# 30 epochs with 10 % (arXiv:2006.10029, Sec. 3). It keeps the first layer of the head, which a run of simclr-v2 keeps
# with its encoder: head_layers is 0. We depart in the antialias of shrunk pixels, which TensorFlow lacks.
SIMCLR_1 = FinetuneProtocol(
    epochs=60,
    train_batch=1024,
    optimizer="lars",
    lr=(0.005 * math.sqrt(1024),),
    weight_decay=0.0,
    interpolation="bicubic",
)
# SwAV: eval_semisup.py, whose defaults are those for 10 %, and the official README's command for 1 %: trunk and
# classifier at 0.01 and 0.2, or 0.02 and 5, times 0.2 after 12 and 16 of 20 epochs; statistics of the batch. The
# classifier is torch's there, uniform within 1 / sqrt(2048); it is normal of the same deviation here.
SWAV = FinetuneProtocol(
    epochs=20, train_batch=256, lr=(0.2,), encoder_lr=0.01 / 0.2, weight_decay=0.0, schedule="step",
    milestones=(0.6, 0.8), gamma=0.2, head_std=1 / math.sqrt(3 * 2048),
)  # fmt: skip
# MAE, ViT-B: FINETUNE.md (blr 5e-4, batch 1024: 2e-3) and main_finetune.py. We depart: no RandAugment, cutmix nor
# random erasing, the features are those that the encoder returns (the class token's), not the mean of the patches, and
# the cosine ends at 0, not 1e-6.
MAE_B = FinetuneProtocol(
    epochs=100, train_batch=1024, optimizer="adamw", lr=(5e-4 * 1024 / 256,), layer_decay=0.65, weight_decay=0.05,
    warmup_epochs=5.0, interpolation="bicubic", mixup=0.8, smoothing=0.1, drop_path=0.1, head_std=2e-5,
)  # fmt: skip
# For a CPU, hundreds of labels and any encoder: no paper's.
TINY = FinetuneProtocol(
    epochs=60,
    train_batch=64,
    lr=(0.003, 0.01, 0.03, 0.1),
    nesterov=True,
    weight_decay=1e-4,
    crop_min=0.3,
    head_std=0.01,
)

PROTOCOLS: dict[str, FinetuneProtocol] = {
    "tiny": TINY,
    "simclr-1%": SIMCLR_1,
    "simclr-10%": replace(SIMCLR_1, epochs=30),
    "swav-1%": replace(SWAV, lr=(5.0,), encoder_lr=0.02 / 5),
    "swav-10%": SWAV,
    "mae-b": MAE_B,
}
