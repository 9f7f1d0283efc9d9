"""Colour spaces, against the standards' formulas as loops in float64 and against colours that are known."""

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from contrastkit.colour import COLOURS, rgb_to_lab, rgb_to_ycbcr

GRID = torch.tensor(list(itertools.product([0.0, 0.03, 0.2, 0.5, 0.8, 1.0], repeat=3)), dtype=torch.float64)


def images(colours: Tensor) -> Tensor:
    """Colours [n, 3] as n images of one pixel."""
    return colours.float()[:, :, None, None]


def lab(r: float, g: float, b: float) -> list[float]:
    """IEC 61966-2-1 to linear light and XYZ, CIE 15 to L*a*b*. White (D65) is what R = G = B = 1 gives."""
    light = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (r, g, b)]
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    white = [sum(row) for row in to_xyz]
    f = []
    for row, w in zip(to_xyz, white, strict=True):
        t = sum(a * c for a, c in zip(row, light, strict=True)) / w
        f.append(t ** (1 / 3) if t > (6 / 29) ** 3 else t / (3 * (6 / 29) ** 2) + 4 / 29)
    return [116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])]


def ycbcr(r: float, g: float, b: float) -> list[float]:
    """ITU-R BT.601: luma by its weights, differences to it scaled to 224 steps, 16 to 235 for black to white."""
    y = 0.299 * r + 0.587 * g + 0.114 * b
    return [16 + 219 * y, 128 + 224 * (b - y) / (2 * (1 - 0.114)), 128 + 224 * (r - y) / (2 * (1 - 0.299))]


@pytest.mark.parametrize(("convert", "formula"), [(rgb_to_lab, lab), (rgb_to_ycbcr, ycbcr)])
def test_conversion_is_the_standards(convert: Callable[[Tensor], Tensor], formula: Callable[..., list[float]]) -> None:
    actual = convert(images(GRID))[:, :, 0, 0]
    assert actual.dtype == torch.float32
    expected = torch.tensor([formula(*colour) for colour in GRID.tolist()], dtype=torch.float64)
    torch.testing.assert_close(actual.double(), expected, atol=0.05, rtol=0)  # the standards' matrices have four digits


@pytest.mark.parametrize(
    ("rgb", "expected"),
    [
        ((0, 0, 0), (0, 0, 0)),
        ((1, 1, 1), (100, 0, 0)),
        ((0.5, 0.5, 0.5), (53.39, 0, 0)),
        ((1, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 1, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 1), (32.30, 79.19, -107.86)),
        ((1, 0, 1), (60.32, 98.23, -60.83)),
        ((1, 1, 0), (97.14, -21.55, 94.48)),
    ],
)
def test_lab_of_known_colours(rgb: tuple[float, ...], expected: tuple[float, ...]) -> None:
    actual = rgb_to_lab(images(torch.tensor([rgb])))[0, :, 0, 0]
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float32), atol=0.02, rtol=0)


def test_ycbcr_of_known_colours() -> None:
    actual = rgb_to_ycbcr(images(torch.tensor([[0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 0, 1]])))[:, :, 0, 0]
    expected = torch.tensor([[16, 128, 128], [235, 128, 128], [81.481, 90.203, 240], [40.966, 240, 109.786]])
    torch.testing.assert_close(actual, expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize("name", COLOURS)
def test_channels_are_mapped_to_about_one(name: str) -> None:
    space = COLOURS[name]
    assert sum(space.groups) == len(space.mean) == len(space.std) == 3
    x = space.convert(images(GRID))[:, :, 0, 0]
    x = (x - torch.tensor(space.mean)) / torch.tensor(space.std)
    assert (x.amax(0) > 0.9).all() and (x.amin(0) < -0.9).all() and x.abs().max() < 1.1
    if name.startswith("lab"):  # their extremes are those of the RGB cube
        torch.testing.assert_close(x.amax(0), torch.ones(3), atol=1e-3, rtol=0)
        torch.testing.assert_close(x.amin(0), -torch.ones(3), atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", COLOURS)
def test_autocast_has_no_say_and_images_stay(name: str) -> None:
    x = torch.rand(2, 3, 5, 4)
    before, plain = x.clone(), COLOURS[name].convert(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(COLOURS[name].convert(x), plain)
    assert torch.equal(x, before)
    assert plain.shape == x.shape
    for i, j in itertools.product(range(5), range(4)):  # pixel by pixel
        s = (..., slice(i, i + 1), slice(j, j + 1))
        torch.testing.assert_close(COLOURS[name].convert(x[s]), plain[s], atol=1e-3, rtol=0)
