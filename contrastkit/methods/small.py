"""The recipe ``small`` of the methods for images: photos on a CPU or a small GPU."""

from dataclasses import replace
from typing import Any, TypeVar

from contrastkit.methods.base import Recipe

R = TypeVar("R", bound=Recipe)

ENLARGED = 4  # times the views of ``tiny``: 96 pixels, and 64 for parts


def small(tiny: R, **numbers: Any) -> R:
    """A row between ``tiny`` and ``imagenet``, derived from a method's ``tiny`` by one rule.

    Nobody's numbers. ``tiny`` is meant for such a budget: its augmentations, temperatures, momenta and widths of the
    head stay. ResNet-18 sees views of four times the side (a twelfth of the arithmetic of ResNet-50 at 224), in batches
    that make 25 steps an epoch of 1,600 photos; the learning rate follows the batch (Goyal et al. 2017, Sec. 2.1).

    Args:
        numbers: what the rule does not suit.
    """
    batch = 64
    views = tuple(replace(view, size=ENLARGED * view.size) for view in tiny.views)
    derived: dict[str, Any] = {
        "encoder": "resnet18", "epochs": 10, "batch": batch, "lr": tiny.lr * batch / tiny.batch, "views": views,
    }  # fmt: skip
    return replace(tiny, **derived | numbers)
