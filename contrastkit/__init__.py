"""contrastkit: contrastive learning of visual representations.

import contrastkit
encoder = contrastkit.load("runs/demo")    # features = encoder(images in [0, 1])
contrastkit.ops.infonce(...)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contrastkit import ops as ops
    from contrastkit.run import load as load

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """``load`` and ``ops`` import torch, so they wait until they are asked for."""
    if name == "load":
        from contrastkit.run import load

        return load
    if name == "ops":
        import importlib

        return importlib.import_module("contrastkit.ops")
    raise AttributeError(f"module 'contrastkit' has no attribute '{name}'")
