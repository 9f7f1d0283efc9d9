"""Operators: a schema and a reference in plain torch each; kernels take over where they were built.

The reference serves every device. Once the extension `contrastkit._C` is loaded, torch's dispatcher prefers its kernels
(`contrastkit.kernels.info()` tells which); nothing above this package knows the difference.
"""

from contrastkit import kernels
from contrastkit.ops.ema import ema_
from contrastkit.ops.infonce import infonce
from contrastkit.ops.queue import queue_push_

kernels.load()

__all__ = ["ema_", "infonce", "queue_push_"]
