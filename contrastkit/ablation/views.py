"""Changes of a recipe's augmentation: pairs of transformations, and more crops."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from contrastkit.augment import View
from contrastkit.methods import Recipe

# SimCLR's transformations (App. A) of those that a view has; colours of strength s = 0.5, as for small images (App.
# B.9). "Crop" includes the flip and "colour" the conversion to gray, as in Sec. 3. A rotation is by any angle, not by
# a multiple of 90 degrees.
TRANSFORMATIONS: dict[str, dict[str, Any]] = {
    "crop": {"crop_min": 0.08, "ratio": 4 / 3, "flip_p": 0.5},
    "colour": {
        "jitter_p": 0.8, "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "gray_p": 0.2,
    },
    "blur": {"blur_p": 0.5, "blur_span": 0.1},
    "rotation": {"degrees": 180.0},
}  # fmt: skip


class Transformed:
    """The views of a recipe with these transformations in the first one, and none in the second: SimCLR's study of
    compositions transforms one branch, and leaves the other the identity (Sec. 3.1)."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def __call__(self, recipe: Recipe) -> tuple[View, View]:
        identity = View(size=recipe.views[0].size, crop_min=1.0, ratio=1.0, flip_p=0.0, jitter_p=0.0, gray_p=0.0)
        numbers: dict[str, Any] = {}
        for name in self.names:
            numbers |= TRANSFORMATIONS[name]
        return replace(identity, **numbers), identity


def two_crops(recipe: Recipe) -> Sequence[Any]:
    """The two full-size views of a recipe."""
    return recipe.views[:2]


def multi_crop(recipe: Recipe) -> Sequence[Any]:
    """The small crops of the recipe if it has them; else two, as in SwAV's ``tiny``: of two thirds of the side, and
    between half and one and a half times the smallest area of the full-size ones."""
    if len(recipe.views) > 2:
        return recipe.views
    full: Any = recipe.views[0]
    least = full.crop_min
    small = replace(full, size=round(full.size * 2 / 3), crop_min=least / 2, crop_max=min(1.0, least * 1.5))
    return (*recipe.views, small, small)
