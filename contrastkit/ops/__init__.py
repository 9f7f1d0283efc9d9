"""Operators, each with a schema and a reference in plain torch; compiled kernels take over where they were built.

References run on every device. Once the extension `contrastkit._C` is loaded, torch's dispatcher prefers its kernels
(listed by `contrastkit.ops.extension.info()`); nothing above this package depends on which of the two runs. Each
refuses what does not fit with a ValueError; "floating" means float16, bfloat16, float32 or float64.
"""

from contrastkit.ops import extension
from contrastkit.ops.augment import augment
from contrastkit.ops.bank import bank_loss, bank_update_
from contrastkit.ops.clip import clip_loss
from contrastkit.ops.ema import ema_
from contrastkit.ops.infonce import infonce
from contrastkit.ops.ntxent import ntxent
from contrastkit.ops.queue import queue_push_
from contrastkit.ops.siglip import siglip_loss
from contrastkit.ops.sinkhorn import sinkhorn

extension.load()

__all__ = [
    "augment",
    "bank_loss",
    "bank_update_",
    "clip_loss",
    "ema_",
    "infonce",
    "ntxent",
    "queue_push_",
    "siglip_loss",
    "sinkhorn",
]
