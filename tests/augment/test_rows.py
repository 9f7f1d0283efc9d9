"""The papers' rows of numbers."""

from typing import Any

import pytest

from contrastkit.augment import VIEWS, View
from contrastkit.errors import UserError
from contrastkit.names import VIEW_NAMES


def test_names_are_the_table():
    assert tuple(VIEWS) == VIEW_NAMES


# The numbers of the papers and their code.
ROWS = {
    # row: crop_min, flip, jitter_p, (brightness, contrast, saturation, hue), gray, blur of each view, solarize of each
    "moco-v1": (0.2, 0.5, 1.0, (0.4, 0.4, 0.4, 0.4), 0.2, (0, 0), (0, 0)),  # main_moco.py, without --aug-plus
    "moco-v2": (0.2, 0.5, 0.8, (0.4, 0.4, 0.4, 0.1), 0.2, (0.5, 0.5), (0, 0)),  # main_moco.py, --aug-plus
    "moco-cifar": (0.08, 0.5, 0.8, (0.4, 0.4, 0.4, 0.1), 0.2, (0, 0), (0, 0)),  # moco's CIFAR-10 notebook
    "simclr": (0.08, 0.5, 0.8, (0.8, 0.8, 0.8, 0.2), 0.2, (0.5, 0.5), (0, 0)),  # App. A
    "simclr-cifar": (0.08, 0.5, 0.8, (0.4, 0.4, 0.4, 0.1), 0.2, (0, 0), (0, 0)),  # App. B.9
    "byol": (0.08, 0.5, 0.8, (0.4, 0.4, 0.2, 0.1), 0.2, (1.0, 0.1), (0, 0.2)),  # App. B, Table 6
}


@pytest.mark.parametrize("name", ROWS)
def test_rows_have_the_papers_numbers(name):
    crop_min, flip, jitter, strengths, gray, blur, solarize = ROWS[name]
    for k, view in enumerate(VIEWS[name]):
        assert (view.crop_min, view.crop_max, view.flip_p, view.jitter_p) == (crop_min, 1, flip, jitter)
        assert (view.brightness, view.contrast, view.saturation, view.hue) == strengths
        assert (view.gray_p, view.blur_p, view.solarize_p) == (gray, blur[k], solarize[k])
        assert (view.sigma_min, view.sigma_max, view.gray_first) == (0.1, 2.0, name == "moco-v1")
        assert view.size == (32 if name.endswith("cifar") else 224)


# What the official code calls: TensorFlow's functions (tf2/data_util.py of SimCLR, utils/ of BYOL), or torchvision's on
# images of PIL (main_moco.py, multicropdataset.py, main_dino.py).
TENSORFLOW = ("bicubic", False, "channels", "hsv", "zero")
PIL = ("bilinear", True, "luma", "rgb", "repeated")
OPERATIONS = {
    "simclr": ("factor", *TENSORFLOW),
    "simclr-distill": ("factor", *TENSORFLOW),
    "byol": ("addend", *TENSORFLOW),
    "moco-v2": ("factor", *PIL),
    "moco-v3": ("factor", *PIL),
    "moco-v3-vit": ("factor", *PIL),
    "swav": ("factor", *PIL),
    "swav-small": ("factor", *PIL),
    "dino": ("factor", "bicubic", *PIL[1:]),
    "dino-r50": ("factor", "bicubic", *PIL[1:]),
    "mae": ("factor", "bicubic", *PIL[1:4], "mirrored"),
    "mae-32": ("factor", "bicubic", *PIL[1:4], "mirrored"),
    "clip": ("factor", "bicubic", *PIL[1:4], "mirrored"),
    "clip-32": ("factor", "bicubic", *PIL[1:4], "mirrored"),
}


@pytest.mark.parametrize("name", VIEWS)
def test_rows_have_the_operations_of_the_official_code(name):
    """All others, and all but MAE's of 32 pixels: torchvision's on tensors, as before there was a choice."""
    for view in VIEWS[name]:
        resized = (view.interpolation, view.antialias)
        operations = (view.brightness_by, *resized, view.contrast_about, view.saturation_in, view.blur_border)
        assert operations == OPERATIONS.get(name, ("factor", "bilinear", True, "luma", "rgb", "mirrored"))


@pytest.mark.parametrize("field", ["interpolation", "brightness_by", "contrast_about", "saturation_in", "blur_border"])
def test_a_choice_that_there_is_not_is_refused(field):
    wrong: dict[str, Any] = {field: "x"}
    with pytest.raises(UserError, match=f"^--{field.replace('_', '-')} must be one of .*, not 'x'$"):
        View(**wrong)


def test_digits_row_turns_no_digit_into_another():
    for view in VIEWS["digits"]:
        assert (view.flip_p, view.jitter_p, view.gray_p, view.solarize_p) == (0, 0, 0, 0)
        assert view.affine
