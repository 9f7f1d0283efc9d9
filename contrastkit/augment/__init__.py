"""Augmentation: the views of an image or a sound that a network is trained on.

    params = draw(view, sizes, channels=3, seed=0, time=0, index=index, v=0)      everything random
    augment(images, params)                                                       [m, C, size, size], nothing random

A view is a row of numbers (:mod:`contrastkit.augment.rows`). To add a modality, write a class for its views, a function
that draws them and one for evaluation, and add a line to :data:`HANDLING`.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from contrastkit.augment.apply import augment, random_views
from contrastkit.augment.draw import Params, draw, sizes_of
from contrastkit.augment.plain import plain_view
from contrastkit.augment.rows import VIEWS, View, named_views
from contrastkit.augment.sound import Window, middle, windows
from contrastkit.types import Images, Modality

__all__ = [
    "HANDLING",
    "VIEWS",
    "Handling",
    "Params",
    "View",
    "Window",
    "augment",
    "draw",
    "middle",
    "named_views",
    "plain_view",
    "random_views",
    "sizes_of",
    "windows",
]


class Handling(NamedTuple):
    """The functions that make views of a modality from the items of its source."""

    random: Callable[..., Tensor]  # (images, view, *, seed, time, index, v) -> [V * n, ...], for training
    plain: Callable[[Images, int, int], Tensor]  # (images, size, channels) -> [n, ...], for evaluation


HANDLING = {
    Modality.IMAGE: Handling(random_views, plain_view),
    Modality.ALIGNED: Handling(random_views, plain_view),
    Modality.SOUND: Handling(windows, lambda clips, size, channels: middle(clips, size)),
}
