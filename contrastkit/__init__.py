"""contrastkit: contrastive learning of visual representations.

import contrastkit

contrastkit.train("moco-v2", "my/photos", out="runs/photos", epochs=100)
encoder = contrastkit.load("runs/photos")    # features = encoder(images in [0, 1])
subject = contrastkit.evaluate.EvaluationSubject.open("runs/photos")
contrastkit.evaluate.knn(subject, k=20)
contrastkit.ops.infonce(...)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from contrastkit.version import __version__ as __version__

if TYPE_CHECKING:
    from contrastkit import evaluate as evaluate
    from contrastkit import ops as ops
    from contrastkit.evaluate.classifier import load_classifier as load_classifier
    from contrastkit.loading import load as load
    from contrastkit.training.api import train as train

_FUNCTIONS = {
    "load": "contrastkit.loading",
    "load_classifier": "contrastkit.evaluate.classifier",
    "train": "contrastkit.training.api",
}
_PACKAGES = ("evaluate", "ops")


def __getattr__(name: str) -> Any:
    """The names above import torch, so they wait until they are asked for."""
    if name in _FUNCTIONS:
        return getattr(import_module(_FUNCTIONS[name]), name)
    if name in _PACKAGES:
        return import_module(f"contrastkit.{name}")
    raise AttributeError(f"module 'contrastkit' has no attribute '{name}'")
