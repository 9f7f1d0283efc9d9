"""The papers' rows of numbers."""

import pytest

from contrastkit.augment import VIEWS
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


def test_digits_row_turns_no_digit_into_another():
    for view in VIEWS["digits"]:
        assert (view.flip_p, view.jitter_p, view.gray_p, view.solarize_p) == (0, 0, 0, 0)
        assert view.affine
